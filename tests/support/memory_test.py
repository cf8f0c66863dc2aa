"""What programs take, and what is refused."""

import jax
import jax.numpy as jnp
import pytest

from initjax.support.errors import UserError
from initjax.support.memory import check_fits, program_memory


@pytest.mark.slow
def test_a_program_takes_its_arguments_its_results_and_what_lies_between():
    """Of which donated arguments count once; between lies x @ w, 1024 x 4096 numbers."""
    x, w = jnp.ones((1024, 256)), jnp.ones((256, 4096))

    def between(x, w):
        return jnp.sort(jnp.tanh(x @ w)).sum()

    def bytes_of(function, *args, **settings):
        return program_memory(jax.jit(function, **settings).lower(*args).compile())

    arrays = 4 * (1024 * 256 + 256 * 4096)
    assert arrays + 4 * 1024 * 4096 < bytes_of(between, x, w) < arrays + 5 * 4 * 1024 * 4096
    assert bytes_of(lambda x: x + 1, x) == 2 * bytes_of(lambda x: x + 1, x, donate_argnums=0)

    class Silent:
        def memory_analysis(self):
            return None

    assert program_memory(Silent()) == 0


def test_what_does_not_fit_is_told_with_both_figures():
    check_fits("This", 2**30, "Take less.", 2**30)
    with pytest.raises(UserError, match=r"^This would take 3 GiB of memory.* are 2\.\nTake less.$"):
        check_fits("This", 3 * 2**30, "Take less.", 2**31)
