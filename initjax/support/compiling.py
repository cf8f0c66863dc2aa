"""Compiling: where Ctrl-C is heard, with options that not every jaxlib knows, and only once; and
forgetting what was compiled, before there is too much of it.
"""

import contextlib
import gc
import math
import os
import pathlib
import re
import threading
from collections.abc import Mapping
from typing import Any

import jax

from initjax.support.fetch import cache_folder

# Samplers are compiled once a leaf, and LLVM's passes over the rounds of their generator take four
# fifths of that: resnet32 from nspl 4.5 s of CPU time in place of 13.8 (0.10.2). The bits are the
# same, as they are not at level 0.
OF_SAMPLERS = {"xla_backend_optimization_level": 1}

_UNKNOWN = re.compile(r"No such compile option: '(\w+)'|While setting option (\w+),")
_refused: set[str] = set()  # by this jaxlib

# Each program of a CPU takes maps of memory, of which Linux gives a process 65,530; XLA dies at the
# last.
MANY_MAPS = 25_000

# With it a program calls oneDNN, and cannot be written down: jaxlib 0.12 runs out of memory.
_NOT_KEPT = "xla_cpu_experimental_onednn_custom_call"


def compile_program(
    lowered: jax.stages.Lowered, options: Mapping[str, Any] | None = None
) -> jax.stages.Compiled:
    """`lowered.compile()`, in another thread, because in its own Python would see no Ctrl-C.

    Args:
      lowered: what `jax.jit(...).lower(...)` returns.
      options: of XLA, by name. Those that XLA_FLAGS names stay as they are there, and those that
        this jaxlib does not know, or not with this value, are left out.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    options = {name: value for name, value in (options or {}).items() if f"--{name}=" not in flags}
    outcome = {}

    def target():
        try:
            outcome["compiled"] = _compile(lowered, options)
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["compiled"]


def _compile(lowered, options):
    while True:
        known = {name: value for name, value in options.items() if name not in _refused}
        try:
            with _nothing_kept() if _NOT_KEPT in known else contextlib.nullcontext():
                return lowered.compile(compiler_options=known)
        except jax.errors.JaxRuntimeError as error:
            refused = _UNKNOWN.search(str(error))
            if not refused or (refused[1] not in known and refused[2] not in known):
                raise
            _refused.add(refused[1] or refused[2])


@contextlib.contextmanager
def _nothing_kept():
    """Inside, no compiled program is kept for the next run of a command."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = jax.config.values[name]
    jax.config.update(name, math.inf)
    try:
        yield
    finally:
        jax.config.update(name, before)


def remember_programs() -> None:
    """Has JAX keep what it compiles under the cache folder, for the next run of a command.

    The environment decides: JAX_COMPILATION_CACHE_DIR says where else, and
    JAX_ENABLE_COMPILATION_CACHE=false that nothing is kept.
    """
    values = jax.config.values
    if values["jax_compilation_cache_dir"] or not values["jax_enable_compilation_cache"]:
        return
    folder = cache_folder() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # such as a home that cannot be written
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # JAX keeps what takes a second; half of a command's compiling is in smaller programs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def forget_programs(many: int = MANY_MAPS) -> None:
    """Frees what JAX keeps of compiled programs, where this process has many maps of memory.

    Programs that somebody holds stay.
    """
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > many:
        jax.clear_caches()
        gc.collect()
