"""Reads the tensors of checkpoints, one at a time, and never runs what a file holds."""

from initjax.weights.sources import read as read
from initjax.weights.tensors import Checkpoint as Checkpoint, Tensor as Tensor
