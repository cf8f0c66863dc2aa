"""What is too large is refused while it is traced, with the figure."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from initjax.models import create_model, sizes
from initjax.support.errors import UserError


def trace(model, shape=(1, 32, 32, 3)):
    with sizes.bounded("it", copies=3):
        return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mlp(depth=1000000000)", "1,000,000,000 layers or more, .* 9.2e.04 hours"),
        ("resnet32(depth=600000002)", "600,000,002 layers or more"),
        ("mlp(width=1000000000)", r"3.072e\+12 parameters, 3 times, would take 3.433e\+04 GiB"),
        ("alexnet_cifar(width_multiplier=1e300)", "parameters, 3 times, would take"),
        ("mlp(width=100000,depth=2000)", "parameters, 3 times, would take"),
    ],
)
def test_refused(name, message):
    with pytest.raises(UserError, match=message) as error:
        trace(create_model(name, kernel_init="zeros"))
    assert len(str(error.value).splitlines()) == 2


def test_layers_of_a_loop_are_counted(monkeypatch):
    class Endless(nn.Module):
        @nn.compact
        def __call__(self, x):
            while True:
                x = nn.Dense(1)(x)

    monkeypatch.setattr(sizes, "_MOST_LAYERS", 20)
    with pytest.raises(UserError, match="it has 21 layers or more"):
        trace(Endless(), (1, 1))
    trace(create_model("mlp(depth=19)", kernel_init="zeros"))  # and one to the classes


def test_what_is_counted_is_what_there_is(monkeypatch):
    """Kernels of dense layers and convolutions, in groups too; each trace from the beginning."""

    class Groups(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(8, (3, 5), feature_group_count=2, use_bias=False)(x)
            return nn.Dense(7, use_bias=False)(x)

    counted = []
    monkeypatch.setattr(sizes, "check_fits", lambda what, needed, cure: counted.append(needed))
    with sizes.bounded("it"):
        for _ in range(2):
            shapes = jax.eval_shape(Groups().init, jax.random.key(0), jnp.zeros((1, 8, 8, 4)))
    made = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert counted == [4 * (made - 56), 4 * made] * 2
