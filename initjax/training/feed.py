"""Which images a step sees."""

EVAL_BATCH = 512
