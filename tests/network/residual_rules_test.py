"""Rules that find the branches of a residual network."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import initjax
from initjax import fixup_rules, reinitialize, zero_gamma
from initjax.support.errors import UserError

KEY = jax.random.key(0)


class Block(nn.Module):
    cut: bool = False

    @nn.compact
    def __call__(self, x):
        shortcut = nn.Conv(8, (1, 1), name="projection")(x)
        for i in range(2):
            x = nn.BatchNorm(use_running_average=False)(nn.Conv(8, (3, 3), use_bias=False)(x))
            x = nn.relu(x) if i == 0 else x
        return nn.relu(shortcut if self.cut else shortcut + x)


class Net(nn.Module):
    depth: int = 3
    cut: bool = False

    @nn.compact
    def __call__(self, x):
        for i in range(self.depth):
            x = Block(self.cut, name=f"Block_{i}")(x)
        return nn.Dense(3, name="head")(x.mean((1, 2)))


def params_of(depth):
    return jax.eval_shape(Net(depth).init, KEY, jnp.ones((1, 6, 6, 3)))["params"]


@pytest.mark.slow
def test_zero_gamma_leaves_the_shortcuts():
    params = params_of(3)
    rules = [*zero_gamma(params), ("scale", "ones"), ("kernel", "he_normal"), ("bias", "zeros")]
    params = reinitialize(params, rules, KEY)
    for block in ("Block_0", "Block_2"):
        assert params[block]["BatchNorm_0"]["scale"].all()
        assert not params[block]["BatchNorm_1"]["scale"].any()
    x = jax.random.normal(KEY, (4, 6, 6, 3))
    whole, _ = Net().apply({"params": params}, x, mutable=["batch_stats"])
    cut, _ = Net(cut=True).apply({"params": params}, x, mutable=["batch_stats"])
    np.testing.assert_array_equal(whole, cut)


def test_numbers_are_in_order():
    """BatchNorm_10 comes behind BatchNorm_9."""
    norms = {f"BatchNorm_{i}": {"scale": jnp.ones(2)} for i in range(11)}
    params = reinitialize({"Block_0": norms}, zero_gamma({"Block_0": norms}), KEY)["Block_0"]
    assert [n for n, norm in params.items() if not norm["scale"].any()] == ["BatchNorm_10"]


@pytest.mark.slow
def test_fixup_counts_the_branches():
    params = params_of(12)
    kernel = r"Conv_\d+/kernel"
    new = reinitialize(params, [*fixup_rules(params, kernel=kernel, head="head")], KEY)
    rules = {rule.pattern: rule.init for rule in fixup_rules(params, kernel=kernel)}
    assert rules[r"^Block_3/Conv_0/kernel$"] == initjax.fixup(12, 2)
    assert not new["Block_11"]["Conv_1"]["kernel"].any() and not new["head"]["kernel"].any()
    w = np.asarray(new["Block_11"]["Conv_0"]["kernel"], np.float64)
    assert w.std() == pytest.approx(0.288675 * (2 / 72) ** 0.5, rel=0.15)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda p: zero_gamma(p, block="Cell"), "No leaf is .* in a block 'Cell'"),
        (lambda p: zero_gamma(p, scale="gamma"), "No leaf is 'gamma'"),
        (lambda p: fixup_rules(p, kernel="Conv_1/kernel"), "layers_per_branch=1"),
        (lambda p: zero_gamma(p, block="("), "not a regular expression"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(UserError, match=message):
        call(params_of(2))
