"""Runs every feature of the core where nothing but JAX, NumPy and SciPy is: python core.py FIT.JSON

`.ci/run` does so with the wheel, in a fresh environment; `pytest` does not collect this file.
"""

import importlib.util
import os
import pathlib
import pickle
import subprocess
import sys

# Every name is compiled, which takes most of the time; see conftest.py.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import jax.numpy as jnp
import numpy as np

import initjax

EXTRAS = ("flax", "optax", "orbax", "matplotlib", "tensorflow_datasets", "tqdm", "absl", "PIL")


def main(fit: str) -> None:
    """Raises where a feature needs more, or gives what it should not."""
    there = [name for name in EXTRAS if importlib.util.find_spec(name)]
    assert not there, f"not the core alone: {there}"
    assert pathlib.Path("initjax").resolve() not in pathlib.Path(initjax.__file__).parents
    key = jax.random.key(0)

    for name in initjax.names():
        try:
            init = initjax.get(name)
        except initjax.UserError as error:  # it needs an argument, and says so
            assert name in str(error)
            continue
        assert pickle.loads(pickle.dumps(init)) == init and initjax.get(repr(init)) == init
        for shape in ((64, 32), (3, 3, 16, 16)):
            try:
                w = jax.jit(init, static_argnums=1)(key, shape)
            except initjax.UserError:  # of other shapes
                continue
            assert w.shape == shape and np.isfinite(np.asarray(w)).all(), name
    w = np.asarray(initjax.nspl()(key, (512, 512)), np.float64)
    # Var of the mean square of n values is (kurtosis - 1) / n, in units of the variance squared.
    kurtosis = initjax.nspl().distribution.kurtosis
    assert abs(w.var() * 512 / 2 - 1) < 5 * ((kurtosis - 1) / w.size) ** 0.5

    params = {"Dense_0": {"kernel": jnp.ones((8, 8)), "bias": jnp.ones(8)}}
    drawn = initjax.reinitialize(params, [("kernel", "he_normal"), ("bias", "zeros")], key)
    assert not np.asarray(drawn["Dense_0"]["bias"]).any()
    assert abs(initjax.gain("tanh") - 1.5925374197228312) < 1e-12
    assert initjax.edge_of_chaos("tanh").weight_variance > 1
    assert initjax.distributions.Laplace().kurtosis == 6
    assert initjax.from_fit(fit, "kernel")(key, (64, 64)).std() > 0
    assert initjax.from_checkpoint

    for wing, package in (("training", "flax"), ("models", "flax"), ("refine", "optax")):
        try:
            getattr(initjax, wing)
        except ImportError as error:
            assert package in str(error) and "pip install 'initjax[train]'" in str(error)
        else:
            raise AssertionError(f"initjax.{wing} says nothing of {package}")

    command = pathlib.Path(sys.executable).with_name("initjax")
    for arguments, status, text in (
        ([], 0, "initjax train"),
        (["--version"], 0, initjax.__version__),
        (["names"], 0, "he_normal, kaiming_normal"),
        (["train", "--help"], 0, "initjax train --init=nspl"),
        (["fit", "--help"], 0, "usage: initjax fit"),
        (["train"], 1, "pip install 'initjax[train]'"),
        (["fit", fit], 1, "pip install 'initjax[fit]'"),
    ):
        done = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=240)
        out = done.stdout + done.stderr
        assert done.returncode == status and text in out and "Traceback" not in out, (
            arguments,
            done,
        )
    print(f"core: {len(initjax.names())} names, JAX {jax.__version__}, Python {sys.version[:6]}")


if __name__ == "__main__":
    main(sys.argv[1])
