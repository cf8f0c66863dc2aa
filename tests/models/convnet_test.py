import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from initjax.models import create_model
from initjax.models.convnet import max_pool_2x2
from initjax.support.errors import UserError


@pytest.mark.slow
@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
def test_pooling_is_flax_max_pool(size):
    x = jax.random.normal(jax.random.key(0), (3, *size, 2))

    def flax_pool(x):
        return nn.max_pool(x, (2, 2), strides=(2, 2))

    np.testing.assert_array_equal(max_pool_2x2(x), flax_pool(x))
    gradients = [jax.grad(lambda x, f=f: (f(x) ** 2).sum())(x) for f in (max_pool_2x2, flax_pool)]
    np.testing.assert_allclose(*gradients, rtol=1e-6)


def test_depth_and_batch_normalization():
    x = jnp.zeros((2, 16, 16, 3))
    shapes = jax.eval_shape(
        create_model("convnet(depth=6, use_batch_norm=True)").init, jax.random.key(0), x
    )
    params = shapes["params"]
    assert [params[f"Conv_{i}"]["kernel"].shape[-1] for i in range(6)] == [32, 32, 32, 32, 64, 64]
    assert set(params["Conv_0"]) == {"kernel"} and len(shapes["batch_stats"]) == 6
    with pytest.raises(UserError, match="depth=4 must be a multiple of 3"):
        create_model("convnet(depth=4)").init(jax.random.key(0), x)
