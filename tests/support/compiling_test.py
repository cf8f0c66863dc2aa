import math
import pathlib

import jax
import pytest

from initjax.support import compiling
from initjax.support.compiling import compile_program, forget_programs

pytestmark = pytest.mark.slow


class Lowered:
    """A program of a jaxlib that knows two options."""

    def __init__(self):
        self.tried = []

    def compile(self, compiler_options):
        self.tried.append(sorted(compiler_options))
        for name, value in compiler_options.items():
            if name not in ("known", "typed"):
                raise jax.errors.JaxRuntimeError(
                    f"INVALID_ARGUMENT: No such compile option: '{name}'"
                )
            if (name, value) == ("typed", "new"):
                raise jax.errors.JaxRuntimeError(
                    "INVALID_ARGUMENT: While setting option typed, 'new' is not a valid enum value."
                )
        return compiler_options


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(compiling, "_refused", set())


def test_unknown_options_are_left_out_and_not_tried_again():
    lowered = Lowered()
    options = {"newer": 1, "known": 2, "typed": "new", "newest": True}
    assert compile_program(lowered, options) == {"known": 2}
    assert len(lowered.tried) == 4
    assert compile_program(lowered, options) == {"known": 2}
    assert lowered.tried[4:] == [["known"]]


def test_this_jaxlib_refuses_as_expected():
    lowered = jax.jit(lambda x: x + 1).lower(1.0)
    options = {"no_such_option": 1, "xla_cpu_experimental_ynn_fusion_type": "NO_SUCH_TYPE"}
    assert compile_program(lowered, options)(1.0) == 2.0
    assert compiling._refused == set(options)


def test_xla_flags_have_the_last_word(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--known_too=1 --known=7")
    assert compile_program(Lowered(), {"known": 2, "typed": "old"}) == {"typed": "old"}


def test_programs_that_call_onednn_are_not_kept():
    name, seen = "jax_persistent_cache_min_compile_time_secs", []

    class Compiles:
        def compile(self, compiler_options):
            seen.append(jax.config.values[name])

    before = jax.config.values[name]
    for option in ("xla_cpu_use_onednn", "xla_cpu_experimental_onednn_custom_call"):
        compile_program(Compiles(), {option: True})
    assert seen == [before, math.inf] and jax.config.values[name] == before


def test_errors_of_compiling_are_raised():
    class Fails:
        def compile(self, compiler_options):
            raise jax.errors.JaxRuntimeError("INTERNAL: out of memory")

    with pytest.raises(jax.errors.JaxRuntimeError, match="out of memory"):
        compile_program(Fails(), {"known": 1})


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    """As without JAX_COMPILATION_CACHE_DIR, which the tests set."""
    monkeypatch.setenv("INITJAX_CACHE", str(tmp_path / "cache"))
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path / "cache" / "compiled"
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_are_kept_in_the_cache_folder(no_cache):
    compiling.remember_programs()
    assert jax.config.jax_compilation_cache_dir == str(no_cache) and no_cache.is_dir()


def test_the_environment_says_where_and_whether_programs_are_kept(no_cache):
    jax.config.update("jax_compilation_cache_dir", "/elsewhere")
    compiling.remember_programs()
    assert jax.config.jax_compilation_cache_dir == "/elsewhere"
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        compiling.remember_programs()
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert jax.config.jax_compilation_cache_dir is None and not no_cache.exists()


def test_a_cache_folder_that_cannot_be_made_is_done_without(no_cache):
    no_cache.parent.write_text("a file")
    compiling.remember_programs()
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.skipif(not pathlib.Path("/proc/self/maps").exists(), reason="Linux tells its maps")
def test_programs_are_forgotten_where_there_are_many():
    program = jax.jit(lambda x: x + 2)
    program(1.0)
    forget_programs(many=10**9)
    assert program._cache_size() == 1
    forget_programs(many=10)
    assert program._cache_size() == 0
    assert program(1.0) == 3.0
