"""The devices that programs are mapped over: the only file that calls `jax.pmap`.

It alone knows, too, which process of a job this is, and how the processes agree (`cluster` is how
they find each other); and what makes training on CPUs fast: how many devices a CPU becomes, with
which options programs are compiled for it, and how memory is kept.
"""

import collections
import contextlib
import ctypes
import hashlib
import importlib.metadata
import importlib.util
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jaxlib.version
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from initjax.data.dataset import Dataset
from initjax.models.lenet import LeNet
from initjax.models.mlp import MLP
from initjax.support.compiling import compile_program
from initjax.support.errors import UserError
from initjax.support.memory import check_fits, device_memory, machine_memory, program_memory
from initjax.training.step import AXIS

# XLA gives convolutions to YNNPACK, whose weight gradients take 1.6 to 7 times as long as Eigen's;
# only its reductions are worth having. ResNet-32 on one core: 85 images/s in place of 50.
CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}

# oneDNN, which jaxlib has from 0.12 on. A step of LeNet-5, whose convolutions have 1 and 6
# channels, takes 22 ms of CPU time in place of 39; three wider convolutions gain nothing, an MLP
# loses 4 %, and a ResNet more.
_ONEDNN = {"xla_cpu_use_onednn": True, "xla_cpu_experimental_onednn_custom_call": True}

# (parameter, value) of mallopt: no mmap for large blocks, nothing given back at the top of the
# heap, which grows by 64 MiB, and one arena.
_MALLOPT = ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20), (-8, 1))

_BLOCK = 4096  # bytes: texts go between processes in multiples of it, so that few programs do it

_T = TypeVar("_T")


def use_cpu_cores(batch_size: int = 0, model: Any = None) -> None:
    """Makes XLA see up to 8 CPU devices, a power of two that divides the batch, one a core.

    For replicas, which share no batch (0), it is one a core, however many these are.

    Two devices on two cores train a ResNet-32 up to 1.4 times faster than one, because many of
    XLA's CPU operations use one core only. Has no effect on GPUs and TPUs, nor where the
    environment already sets the number, or JAX is in use: call it before anything else uses it.
    Nor in one of several processes: with two devices in each, JAX 0.10.2 can block.

    Args:
      batch_size: of a training step.
      model: that all devices train together; an `MLP` stays on one, because matrix products use
        all cores by themselves, and waiting for each other cost six times that (9,100 images/s
        on one device, 1,470 on two, machine shared).
    """
    if isinstance(model, MLP) or jax.distributed.is_initialized():
        return
    flags = os.environ.get("XLA_FLAGS", "")
    if "device_count" in flags or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    number = max(n for n in (1, 2, 4, 8) if n <= max(cores, 1) and batch_size % n == 0)
    number = number if batch_size else cores
    with contextlib.suppress(RuntimeError):  # JAX is in use, as by a module of the user's own
        jax.config.update("jax_num_cpu_devices", number)


def keep_memory() -> None:
    """Has this process keep the memory that it frees, where JAX has only CPUs, under glibc.

    Otherwise every temporary of every step is given back and comes again page by page, zeroed by
    the kernel: 134,000 faults and .35 s a step of a ResNet-32. It sets all of the process, so it is
    for commands; before anything else uses JAX, whose threads keep the arenas that they begin with.
    Says the environment anything of malloc, that stays.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or not _only_cpus():
        return
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if hasattr(libc, "gnu_get_libc_version"):
        for parameter, value in _MALLOPT:
            libc.mallopt(parameter, value)


def compiler_options(model) -> dict[str, Any]:
    """With which XLA's programs of a model are compiled for CPUs."""
    has_onednn = jaxlib.version.__version_info__ >= (0, 12)
    return CPU_OPTIONS | (_ONEDNN if has_onednn and isinstance(model, LeNet) else {})


def _only_cpus():
    """Whether JAX will find no accelerator, without starting it."""
    if jax.config.jax_platforms:
        return jax.config.jax_platforms == "cpu"
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    return not plugins and importlib.util.find_spec("libtpu") is None


def all_devices() -> list[jax.Device]:
    """The devices of all processes of the job; those of one process stand side by side."""
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


def is_first() -> bool:
    """Whether this process is the one of its job that writes, the first; one alone is."""
    return jax.process_index() == 0


def gather(text: str) -> list[str]:
    """The text of each process, in their order, in all of them."""
    if jax.process_count() == 1:
        return [text]
    data = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(data.size))
    padded = np.zeros(max(-(-sizes.max() // _BLOCK), 1) * _BLOCK, np.uint8)
    padded[: data.size] = data
    rows = multihost_utils.process_allgather(padded)
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def agreed(function: Callable[[], _T]) -> _T:
    """`function()`; where it fails in one process, in all, so that none waits for another.

    Raises:
      UserError: of this process, or of the first that has one.
    """
    if jax.process_count() == 1:
        return function()
    value: Any = None
    error = ""
    try:
        value = function()
    except (UserError, OSError) as found:
        error = str(found)
    errors = gather(error)
    for process, text in enumerate(errors):
        if text:
            raise UserError(error or f"In process {process}: {text}")
    return value


def text_of_first(function: Callable[[], str]) -> str:
    """`function()`, called in the first process alone, in all; see `agreed` for errors."""
    return gather(agreed(lambda: function() if is_first() else ""))[0]


def tree_of_first(tree: Any) -> Any:
    """A tree of host arrays as the first process has it; it has the same shapes in all.

    So that a job needs no folder that all hosts see, and no two hosts that round alike.
    """
    if jax.process_count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, tree))
    # As bytes: JAX adds the zeros of the other processes, and -0. + 0. would be 0.
    data = [np.frombuffer(leaf.tobytes(), np.uint8) for leaf in leaves]
    ends = np.cumsum([part.size for part in data])
    shared = np.asarray(multihost_utils.broadcast_one_to_all(np.concatenate(data)))
    parts = [part.tobytes() for part in np.split(shared, ends[:-1])]
    return structure.unflatten(
        np.frombuffer(part, leaf.dtype).reshape(leaf.shape).copy()
        for part, leaf in zip(parts, leaves, strict=True)
    )


def reason_of_any(reason: signal.Signals | None) -> signal.Signals | None:
    """The signal to stop at now, if any process has one: all of them stop at the same step."""
    if jax.process_count() == 1:
        return reason
    numbers = multihost_utils.process_allgather(np.int32(reason or 0))
    return next((signal.Signals(int(number)) for number in numbers if number), None)


def check_same(name: str, text: str) -> None:
    """Raises a UserError, in all processes, where one has another text than the first."""
    found = gather(hashlib.sha256(text.encode()).hexdigest())
    for process, digest in enumerate(found):
        if digest != found[0]:
            raise UserError(
                f"Process {process} has other {name} than process 0.\n"
                "Start the same command in all of them, on the same data."
            )


def load_in_all(load: Callable[[], Dataset]) -> Dataset:
    """`load()` in every process, in the first before the others, which may find what it prepares.

    Raises:
      UserError: of `load`, in any process; or they do not find the same data.
    """
    if jax.process_count() == 1:
        return load()
    dataset = agreed(lambda: load() if is_first() else None)
    dataset = agreed(lambda: dataset or load())
    splits = (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels)
    digest = hashlib.sha256()
    for x in splits:
        digest.update(f"{x.dtype} {x.shape}".encode())
        if isinstance(x, np.ndarray):  # and not what is read as it is needed
            digest.update(np.ascontiguousarray(x).reshape(-1).view(np.uint8))
    check_same("data", digest.hexdigest())
    return dataset


class Program:
    """A function on devices; it is compiled once, for the shapes that it sees first.

    Args:
      compile_for: (donated, kept) -> what is compiled.
      run: (what is compiled, donated, kept) -> results.
    """

    def __init__(self, compile_for: Callable, run: Callable):
        self._compile_for, self._run, self._compiled = compile_for, run, None

    def compile(self, donated: Any, kept: Any) -> None:
        """Only compiles.

        Raises:
          TooLarge (a UserError): it would take more memory than there is.
        """
        if self._compiled is None:
            self._compiled = self._compile_for(donated, kept)

    def __call__(self, donated: Any, kept: Any) -> Any:
        self.compile(donated, kept)
        return self._run(self._compiled, donated, kept)


class Devices:
    """Devices on which a program computes the same, each from its share of data.

    Where they belong to several processes, each of these calls the same methods in the same order.

    Args:
      devices: all of one kind; None takes all that there are, in all processes of the job.
    """

    axis: str | None = AXIS  # over which programs reduce

    def __init__(self, devices: Sequence[Any] | None = None):
        self._devices = list(devices or all_devices())
        self._processes = len({device.process_index for device in self._devices})
        self._indices = np.arange(len(self._devices))
        if self._processes > 1:
            self._indices = self._put(self._indices, AXIS)
        self._copy = self._map(lambda _, tree: tree)
        self.compile_seconds: float = 0.0  # by all programs so far

    @property
    def number(self) -> int:
        """How many devices share a batch."""
        return len(self._devices)

    def __str__(self) -> str:
        processes = f" in {self._processes} processes" if self._processes > 1 else ""
        return f"{len(self._devices)} x {self._devices[0].device_kind}{processes}"

    @property
    def loop_in_programs(self) -> bool:
        """Whether several steps should be one `lax.scan`.

        Not on CPUs, where XLA runs convolutions inside a loop 25 times slower.
        """
        return self._devices[0].platform != "cpu"

    def place(self, tree: Any) -> Any:
        """A tree of host arrays, the same in all processes, on every device."""
        if self._processes > 1:
            return jax.tree.map(self._put, tree)
        return self._copy(self._indices, (), tree)

    def place_own(self, tree: Any) -> Any:
        """`tree` as what each run has of its own: here there is one run."""
        return self.place(tree)

    def program(
        self, function: Callable[..., Any], model: Any = None, what: str = "A program"
    ) -> Program:
        """`function(donated, kept)` on every device; compiled at the first call, for its shapes.

        `model` is the one that it calls, if it does; `what` it is, for messages.

        Arguments and results are the same on all devices. Inside, `lax.axis_index(AXIS)` and
        `share` tell them apart. `kept` is a pair: what each run has of its own, such as its seed
        or the order of its images, and what all runs that share a program share.
        """
        options = compiler_options(model) if self._devices[0].platform == "cpu" else {}

        def compile_for(*args):
            start = time.perf_counter()
            compiled = compile_program(self._map(function).lower(self._indices, *args), options)
            self.compile_seconds += time.perf_counter() - start
            self._check_program(f"{what} on {self}", compiled)
            return compiled

        def run(compiled, *args):
            result = compiled(self._indices, *args)
            if self._processes > 1 and not self.loop_in_programs:
                jax.block_until_ready(result)  # several in flight can block CPU devices
            return result

        return Program(compile_for, run)

    def _check_program(self, what, compiled):
        """Refuses a program that would take more memory than there is, in all processes or none."""
        device = self._devices[0]
        per_process = collections.Counter(d.process_index for d in self._devices)
        copies = max(per_process.values()) if device.platform == "cpu" else 1
        here = next(d for d in self._devices if d.process_index == jax.process_index())
        memory = min(map(float, gather(str(device_memory(here)))))
        cure = "Take a smaller --batch_size or --image_size, or a smaller network."
        check_fits(what, copies * program_memory(compiled), cure, memory)

    def of_process(self, batch_size: int) -> slice:
        """The part of a batch that the devices of this process share."""
        here = jax.process_index()
        mine = [i for i, device in enumerate(self._devices) if device.process_index == here]
        size = batch_size // len(self._devices)
        return slice(mine[0] * size, (mine[-1] + 1) * size)

    def check_memory(self, name: str, num_bytes: int) -> None:
        """Refuses data of which these devices cannot hold a copy each.

        Raises:
          UserError: with both figures.
        """
        device = next(d for d in self._devices if d.process_index == jax.process_index())
        limit = (device.memory_stats() or {}).get("bytes_limit")
        where = f"a {device.device_kind} has"
        if limit is None:  # devices of a CPU, beside what they are copied from
            copies = 1 + sum(d.process_index == device.process_index for d in self._devices)
            limit, num_bytes = machine_memory(), num_bytes * copies
            where = "this machine has"
        if num_bytes > limit:
            raise UserError(
                f"The images of {name} take {num_bytes / 1e9:,.1f} GB on {self}, but {where}"
                f" {limit / 1e9:,.1f} GB.\nChoose a smaller --image_size, or --stream them."
            )

    def share(self, batch_size: int) -> tuple[jax.Array, int]:
        """Inside a program: (start, size) of this device's part of a batch."""
        size = batch_size // self.number
        return lax.axis_index(AXIS) * size, size

    def _put(self, array, *axes: str) -> jax.Array:
        """A host array on the devices of all processes: whole, or its first axis over them."""
        array = np.array(array)  # its own, because it may be donated
        mesh = Mesh(np.array(self._devices), (AXIS,))
        sharding = NamedSharding(mesh, PartitionSpec(*axes))
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    def _map(self, function):
        """pmap wants one argument that is not the same on all devices: the first, their indices."""
        return jax.pmap(
            lambda _, donated, kept: function(donated, kept),
            axis_name=AXIS,
            in_axes=(0, None, None),
            out_axes=None,
            donate_argnums=1,
            devices=self._devices,
        )


class ReplicaDevices(Devices):
    """Devices of which each trains replicas of its own: nothing goes between them.

    What each replica has of its own has a leading axis: [D, ...] with one replica on each of D
    devices, [D, M, ...] where each device trains M at once, vectorized.

    Args:
      replicas: how many at once.
      vectorized: several a device.
      devices: as of `Devices`; of more than `replicas`, the first are taken, but where they belong
        to several processes: each of these takes part.
    """

    axis = None

    def __init__(self, replicas: int, vectorized: bool, devices: Sequence[Any] | None = None):
        devices = list(devices or all_devices())
        if len({device.process_index for device in devices}) == 1:
            devices = devices[:replicas]
        each = -(-replicas // len(devices))
        if each > 1 and not vectorized:
            raise UserError(f"{replicas} replicas do not fit on {len(devices)} devices, one each.")
        self.shape = (len(devices), each) if vectorized else (len(devices),)
        super().__init__(devices)
        self._copy = super()._map(lambda _, tree: tree)
        self._spread = jax.pmap(lambda tree: tree, devices=devices)
        whole = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec())
        self._gather = jax.jit(lambda tree: tree, out_shardings=whole)

    def __str__(self) -> str:
        runs = math.prod(self.shape)
        return f"{super().__str__()} for {runs} runs at once" if runs > 1 else super().__str__()

    @property
    def number(self) -> int:
        """One device sees a whole batch."""
        return 1

    def share(self, batch_size: int) -> tuple[int, int]:
        """The whole batch."""
        return 0, batch_size

    def of_process(self, batch_size: int) -> slice:
        """The whole batch."""
        return slice(batch_size)

    def place_own(self, tree: Any) -> Any:
        """The same tree for every replica."""
        return self.stack([tree])

    def stack(self, trees: Sequence[Any]) -> Any:
        """Trees of host arrays, one a replica, on their devices; the last fills what is free."""
        trees = [*trees, *[trees[-1]] * (math.prod(self.shape) - len(trees))]
        tree = jax.tree.map(lambda *x: np.stack(x).reshape(self.shape + np.shape(x[0])), *trees)
        if self._processes > 1:
            return jax.tree.map(lambda x: self._put(x, AXIS), tree)
        return self._spread(tree)

    def unstack(self, tree) -> Any:
        """`stack` undone, on the host, of every process: leaves [R, ...]."""
        if self._processes > 1:
            tree = self._gather(tree)
        return jax.tree.map(
            lambda leaf: leaf.reshape(-1, *leaf.shape[len(self.shape) :]), jax.device_get(tree)
        )

    def _map(self, function):
        axes = (0, (0, None))
        if len(self.shape) > 1:
            function = jax.vmap(function, axes)
        return jax.pmap(
            lambda _, donated, kept: function(donated, kept),
            in_axes=(0, *axes),
            donate_argnums=1,
            devices=self._devices,
        )
