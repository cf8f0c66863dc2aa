"""The devices that programs are mapped over: the only file that calls `jax.pmap`.

It alone knows, too, how a CPU becomes several devices and how to compile without losing Ctrl-C.
"""

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax

from initjax.support.errors import UserError
from initjax.training.step import AXIS


def use_cpu_cores(batch_size: int = 0) -> None:
    """Makes XLA see up to 8 CPU devices, a power of two that divides the batch, one a core.

    For replicas, which share no batch (0), it is one a core, however many these are.

    Two devices on two cores train a ResNet-32 up to 1.4 times faster than one, because many of
    XLA's CPU operations use one core only. Has no effect on GPUs and TPUs, nor where the
    environment already sets the number, or JAX is in use: call it before anything else uses it.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "device_count" in flags or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    number = max(n for n in (1, 2, 4, 8) if n <= max(cores, 1) and batch_size % n == 0)
    number = number if batch_size else cores
    with contextlib.suppress(RuntimeError):  # JAX is in use, as by a module of the user's own
        jax.config.update("jax_num_cpu_devices", number)


class Devices:
    """Devices of this process, on which a program computes the same, each from its share of data.

    Args:
      devices: all of one kind; None takes those of this process.
    """

    axis: str | None = AXIS  # over which programs reduce

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        self._devices = list(devices or jax.local_devices())
        self._indices = np.arange(len(self._devices))
        self._copy = self._map(lambda _, tree: tree)
        self.compile_seconds = 0.0  # by all programs so far

    @property
    def number(self) -> int:
        """How many devices share a batch."""
        return len(self._devices)

    def __str__(self) -> str:
        return f"{len(self._devices)} x {self._devices[0].device_kind}"

    @property
    def loop_in_programs(self) -> bool:
        """Whether several steps should be one `lax.scan`.

        Not on CPUs, where XLA runs convolutions inside a loop 25 times slower.
        """
        return self._devices[0].platform != "cpu"

    def place(self, tree) -> Any:
        """A tree of host arrays on every device."""
        return self._copy(self._indices, (), tree)

    def place_own(self, tree) -> Any:
        """`tree` as what each run has of its own: here there is one run."""
        return self.place(tree)

    def program(self, function: Callable) -> Callable:
        """`function(donated, kept)` on every device; compiled at the first call, for its shapes.

        Arguments and results are the same on all devices. Inside, `lax.axis_index(AXIS)` and
        `share` tell them apart. `kept` is a pair: what each run has of its own, such as its seed
        or the order of its images, and what all runs that share a program share.
        """
        compiled = None

        def call(donated, kept):
            nonlocal compiled
            args = (self._indices, donated, kept)
            if compiled is None:
                start = time.perf_counter()
                compiled = _compile_interruptibly(self._map(function).lower(*args))
                self.compile_seconds += time.perf_counter() - start
            return compiled(*args)

        return call

    def share(self, batch_size: int) -> tuple[jax.Array, int]:
        """Inside a program: (start, size) of this device's part of a batch."""
        size = batch_size // self.number
        return lax.axis_index(AXIS) * size, size

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
      devices: as of `Devices`; of more than `replicas`, the first are taken.
    """

    axis = None

    def __init__(
        self, replicas: int, vectorized: bool, devices: Sequence[jax.Device] | None = None
    ):
        devices = list(devices or jax.local_devices())[:replicas]
        each = -(-replicas // len(devices))
        if each > 1 and not vectorized:
            raise UserError(f"{replicas} replicas do not fit on {len(devices)} devices, one each.")
        self.shape = (len(devices), each) if vectorized else (len(devices),)
        super().__init__(devices)
        self._copy = super()._map(lambda _, tree: tree)
        self._spread = jax.pmap(lambda tree: tree, devices=devices)

    @property
    def number(self) -> int:
        """One device sees a whole batch."""
        return 1

    def share(self, batch_size: int) -> tuple[int, int]:
        """The whole batch."""
        return 0, batch_size

    def place_own(self, tree) -> Any:
        """The same tree for every replica."""
        return self.stack([tree])

    def stack(self, trees: Sequence[Any]) -> Any:
        """Trees of host arrays, one a replica, on their devices; the last fills what is free."""
        trees = [*trees, *[trees[-1]] * (math.prod(self.shape) - len(trees))]
        return self._spread(
            jax.tree.map(lambda *x: np.stack(x).reshape(self.shape + np.shape(x[0])), *trees)
        )

    def unstack(self, tree) -> Any:
        """`stack` undone, on the host: leaves [R, ...]."""
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


def _compile_interruptibly(lowered):
    """`lowered.compile()`, in another thread, because in its own Python would see no Ctrl-C."""
    outcome = {}

    def target():
        try:
            outcome["compiled"] = lowered.compile()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["compiled"]
