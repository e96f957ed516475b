"""Training over several devices and several processes.

Data and chains are shared out over the devices of a mesh, parameters are on each of them, and XLA
sums the gradients. All processes run the same program; the first alone writes into the workdir.
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ebm_jax.types import PyTree
from experiments.run import errors
from experiments.run.errors import UsageError

AXIS = "devices"
LONGEST = 2000  # bytes of a sentence


def join(coordinator: str, num_processes: int, process_id: int) -> None:
    """Become one of several processes, before JAX computes anything; "auto" asks SLURM who."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        if coordinator == "auto":
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(coordinator, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--coordinator={coordinator} does not answer ({reason}).") from error
    if several():
        libc = ctypes.CDLL(None)
        libc.signal.argtypes = (ctypes.c_int, type(_aborted))
        libc.signal(signal.SIGABRT, _aborted)


def _gone(reason: str) -> str:
    return (
        f"another process ended, or cannot be reached ({reason}); run the same command again to "
        "resume from the newest checkpoint."
    )


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _aborted(number: int) -> None:
    """Say what to do where JAX aborts: it does so, in C++, when the first process is gone."""
    # From a thread of JAX, while Python's own stream may be locked.
    os.write(2, f"error: {_gone('JAX aborted this one')}\n".encode())
    os._exit(errors.STOPPED)


def several() -> bool:
    """Return whether this is one of several processes."""
    return jax.process_count() > 1


def leave_if_alone(error: Exception) -> None:
    """End with a sentence, and the code that requeues, where another process has ended.

    Nothing is closed: that would wait for the other process until its heartbeats are missed.
    """
    if several() and isinstance(error, jax.errors.JaxRuntimeError):
        reason = str(error).splitlines()[0][:200]
        if "RESOURCE_EXHAUSTED" not in reason:  # this device's memory
            errors.leave_at_once(_gone(reason), errors.STOPPED)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Leave at once with a sentence where another process has ended."""
    try:
        yield
    except Exception as error:
        leave_if_alone(error)
        raise


def make_mesh(size: int) -> Mesh | None:
    """Return a mesh with the same number of devices per process; None for a single device."""
    found, processes = jax.devices(), jax.process_count()
    if size == processes == 1:
        return None
    each = size // processes
    chosen = [device for device in found if device.id in _first_of_each(found, each)]
    if not each or size % processes or len(chosen) < size:
        raise UsageError(
            f"--mesh={size} needs {size} devices, the same number in each of {processes} "
            f"processes; there are {len(found)}. To make two devices of a processor, set XLA_FLAGS="
            "--xla_force_host_platform_device_count=2."
        )
    return Mesh(np.array(chosen), (AXIS,), axis_types=(AxisType.Auto,))


def _first_of_each(devices: list, each: int) -> set[int]:
    by_process: dict[int, list[int]] = {}
    for device in devices:
        by_process.setdefault(device.process_index, []).append(device.id)
    return {number for ids in by_process.values() for number in ids[:each]}


def is_first() -> bool:
    """Return whether this process is the one that writes."""
    return jax.process_index() == 0


def any_process(value: bool) -> bool:
    """Return whether the flag is true in any process, so that all of them act alike."""
    if jax.process_count() == 1:
        return value
    return bool(np.any(multihost_utils.process_allgather(np.asarray(value))))


@contextlib.contextmanager
def refused_together() -> Iterator[None]:
    """Let every process leave with the sentence of one that refuses, instead of waiting for it."""
    sentence = ""
    try:
        yield
    except UsageError as error:
        sentence = str(error)
    if jax.process_count() > 1:
        text = np.frombuffer(sentence.encode()[:LONGEST].ljust(LONGEST, b"\0"), np.uint8)
        said = [bytes(row).rstrip(b"\0") for row in multihost_utils.process_allgather(text)]
        sentence = next((line.decode(errors="ignore") for line in said if line), "")
    if sentence:
        raise UsageError(sentence)


def spread(mesh: Mesh | None, chains: PyTree) -> PyTree:
    """Return chains with the first axis of every leaf shared out."""
    if mesh is None:
        return chains
    return _put(chains, NamedSharding(mesh, PartitionSpec(AXIS)))


def _put(tree: PyTree, sharding: NamedSharding) -> PyTree:
    # jax.device_put reaches this process's devices alone.
    return jax.jit(lambda tree: tree, out_shardings=sharding)(tree)


def place(mesh: Mesh | None, state: PyTree) -> PyTree:
    """Return a state whose unsharded arrays are replicated on every device."""
    if mesh is None:
        return state

    def put(leaf):
        there = getattr(leaf, "sharding", None)
        if isinstance(there, NamedSharding) and there.mesh == mesh:
            return leaf
        return _put(leaf, NamedSharding(mesh, PartitionSpec()))

    return jax.tree.map(put, state)


def place_batches(mesh: Mesh | None, batches: PyTree) -> PyTree:
    """Return stacked batches (updates, batch, ...) with the second axis shared out."""
    if mesh is None:
        return batches
    sharding = NamedSharding(mesh, PartitionSpec(None, AXIS))

    def put(leaf: np.ndarray):
        if leaf.ndim < 2 or leaf.shape[1] % mesh.size:
            size = leaf.shape[1] if leaf.ndim > 1 else 1
            raise UsageError(f"--mesh={mesh.size} must divide the {size} examples of a batch.")
        return jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__)

    return jax.tree.map(put, batches)


def own(mesh: Mesh | None, tree: PyTree) -> PyTree:
    """Return replicated arrays as arrays on the first device of this process."""
    if mesh is None:
        return tree
    return jax.tree.map(lambda leaf: jax.numpy.asarray(np.asarray(leaf)), tree)
