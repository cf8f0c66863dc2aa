"""Eight virtual CPU devices, said before JAX is imported, and a signals that are not ignored."""

import atexit
import importlib.metadata
import os
import pathlib
import shutil
import signal
import sys
import tempfile

import pytest

if "device_count" not in os.environ.get("XLA_FLAGS", ""):
    # Most of the suite's time is compilation. Level 0 halves it, and so does doing without the
    # fusion emitters, where XLA still has other code (of flags that it does not know it dies). To
    # test what users run, set XLA_FLAGS=--xla_force_host_platform_device_count=8. The launcher's
    # tests always do.
    fast = (
        "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
        " --xla_cpu_parallel_codegen_split_count=1"
    )
    if importlib.metadata.version("jaxlib").startswith("0.10."):
        fast += " --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {fast}"

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # Workers and the programs that tests start share what one of them has compiled.
    folder = tempfile.mkdtemp(prefix="initjax-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # for launch.py

# A shell's background jobs begin with Ctrl-C ignored, and nohup's with SIGHUP, which the tests of
# stopping would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Forgets what was compiled, after a file that left much."""
    yield
    if "jax" in sys.modules:
        from initjax.support.compiling import forget_programs

        forget_programs()


@pytest.fixture(scope="module")
def launcher_flags():
    """The launcher's flags are absl's while a file needs them, and gone afterwards."""
    from absl import flags

    from initjax.comparison import launcher

    before = set(flags.FLAGS)
    try:
        launcher.define_flags()
        yield
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """own_module(name, text) writes a module that can be imported, and is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(name, text):
        assert name not in before
        (tmp_path / f"{name}.py").write_text(text)

    yield write
    for name in set(sys.modules) - before:
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]


@pytest.fixture(scope="module")
def insects_dir(tmp_path_factory):
    """A folder of tensorflow-datasets with one small set, tiny_insects."""
    from prepared import write_insects

    data_dir = tmp_path_factory.mktemp("tfds")
    write_insects(data_dir)
    return data_dir


@pytest.fixture
def streamed_here(tmp_path, monkeypatch):
    """Streams are read in this process, without workers, and nothing is cached for other tests."""
    from initjax.data import stream

    monkeypatch.setenv("INITJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stream, "count_workers", lambda: 0)
