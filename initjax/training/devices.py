"""Devices, and what their programs are made of."""

import os
import threading

import jax


def use_cpu_cores(batch_size: int) -> None:
    """Makes XLA see up to 8 CPU devices, a power of two that divides the batch, one a core.

    Two devices on two cores train a ResNet-32 up to 1.4 times faster than one, because many of
    XLA's CPU operations use one core only. Has no effect on GPUs and TPUs, nor where the
    environment already sets the number. Call it before anything else uses JAX.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "device_count" in flags or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    number = max(n for n in (1, 2, 4, 8) if n <= max(cores, 1) and batch_size % n == 0)
    jax.config.update("jax_num_cpu_devices", number)


def compile_interruptibly(lowered):
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
