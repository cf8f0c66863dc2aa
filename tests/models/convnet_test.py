import jax
import jax.numpy as jnp
import pytest

from initjax.models import create_model
from initjax.support.errors import UserError


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
