"""What users write; mypy and pyright check it, nothing runs it. See typed_test.py."""

from typing import assert_type

import flax.linen as nn
import jax
import jax.numpy as jnp

import initjax
from initjax import he_normal, nspl
from initjax.distributions import Laplace
from initjax.initializers import Initializer

init = nspl(alpha=1.5, ratio=30)
weights: jax.Array = init(jax.random.key(0), (64, 10), jnp.float32)
layer = nn.Dense(10, kernel_init=nspl(), bias_init=initjax.zeros)
names: list[str] = initjax.names()
point = initjax.edge_of_chaos("tanh", q=0.5)
heavy = initjax.variance_scaling(2.0, "fan_in", Laplace())
drawn = initjax.reinitialize({"a": weights}, [("a", he_normal())], jax.random.key(0))
laws: list[Initializer] = [init, heavy, he_normal()]

assert_type(initjax.gain("tanh"), float)
assert_type(point.weight_variance, float)
assert_type(initjax.__version__, str)

slip = initjax.he_norml  # type: ignore  # a slip is seen: __getattr__ hides from checkers
initjax.he_normal(activatoin="tanh")  # type: ignore  # and of a factory's argument
assert_type(he_normal(activation="tanh")(jax.random.key(0), (3, 3)), jax.Array)
assert_type(initjax.distributions.Laplace().sample(jax.random.key(0), (3,)), jax.Array)
