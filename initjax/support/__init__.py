"""What the commands and the library stand on and what knows nothing of weights."""
