"""Reads the tensors of checkpoints, one at a time, and never runs what a file holds."""

# Messages name the formats in this order.
# isort: off
from initjax.weights import safetensors_files as safetensors_files
from initjax.weights import numpy_files as numpy_files
from initjax.weights import msgpack_files as msgpack_files
from initjax.weights import orbax_files as orbax_files
from initjax.weights import torch_files as torch_files

# isort: on
from initjax.weights.layouts import as_kernel as as_kernel, find_axes as find_axes
from initjax.weights.quantized import dequantize as dequantize
from initjax.weights.sources import read as read
from initjax.weights.tensors import Checkpoint as Checkpoint, Tensor as Tensor
