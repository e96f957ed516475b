"""Checkpoints of a training: each whole or not there, the newest two kept, read back or refused."""

import errno
import os
import shutil
import sys
import time
import zipfile
import zlib
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from ebm_jax.types import PyTree
from experiments.run import devices
from experiments.run.errors import CannotWriteError, UsageError
from experiments.run.work_directory import whole

KEPT = 2
SECONDS = 10.0  # between two checkpoints, at least
SHARE = 0.03  # of the time that saving may take
WRITING = (OSError, ValueError, RuntimeError)  # what orbax raises where it cannot write


class Checkpoints:
    """A folder of checkpoints, by the number of updates made."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, made if missing."""
        self._folder = folder.absolute()
        try:
            str(self._folder).encode()
        except UnicodeEncodeError as error:  # Orbax would find out after the training
            raise UsageError(
                f"--workdir={os.fsencode(folder)!r} has characters that are not ASCII, which "
                "checkpoints cannot have in the locale of this terminal: set PYTHONUTF8=1, or "
                "LC_ALL=C.UTF-8."
            ) from error
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, cleanup_tmp_directories=True)
        try:
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        except OSError as error:
            raise self._cannot_write(error) from error
        self._last, self._cost = time.perf_counter(), 0.0

    def _cannot_write(self, error: Exception) -> CannotWriteError:
        devices.leave_if_alone(error)  # orbax waits for the other processes too
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        if "RESOURCE_EXHAUSTED" in reason:
            reason = os.strerror(errno.ENOSPC)
        return CannotWriteError(self._folder, reason)

    def restore(self, like: PyTree) -> tuple[PyTree, float]:
        """Return the newest state that can be read, or the given state if there is none.

        The second value is the seconds that were saved with it. What cannot be read is passed over,
        and said; a state of other shapes or types is refused.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._read(step, like)
            except UsageError:
                raise
            except Exception as error:  # a damaged file can raise any error in the reader
                reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
                print(
                    f"checkpoint {self._folder / str(step)} cannot be read ({reason}); "
                    "going back to the one before, or to the start",
                    file=sys.stderr,
                )
                self._manager.delete(step)
        return like, 0.0

    def _read(self, step: int, like: PyTree) -> tuple[PyTree, float]:
        read = self._manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))
        about = read["about"]
        found, wanted = about["leaves"], _described(like)
        if found != wanted:
            differing = [f"{n}: {found.get(n)}" for n in wanted if found.get(n) != wanted[n]]
            raise UsageError(
                f"{self._folder / str(step)} was written by another program: it has "
                f"{'; '.join(differing[:3]) or 'other leaves'}; this program has "
                f"{'; '.join(f'{n}: {wanted[n]}' for n in wanted if found.get(n) != wanted[n])}."
            )
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        state = self._manager.restore(step, args=args)["state"]
        checksums = {about["checksum"], _checksum(state)} - {None}
        if _described(state) != wanted or len(checksums) > 1:
            raise ValueError("what was read is not what was written")
        return state, float(about.get("seconds", 0.0))  # older checkpoints have none

    def due(self) -> bool:
        """Return whether the next one is due; raise the error of the last one, if it failed."""
        if not (devices.several() or self._manager.is_saving_in_progress()):
            self._wait()
        waited = time.perf_counter() - self._last
        return waited >= max(SECONDS, self._cost / SHARE)

    def save(self, step: int, state: PyTree, seconds: float) -> None:
        """Begin to write a state and the seconds it took; training may continue meanwhile."""
        started = time.perf_counter()
        about = {"leaves": _described(state), "checksum": _checksum(state), "seconds": seconds}
        self._wait()
        try:
            if step in self._manager.all_steps():
                return
            # Asked first: what orbax cannot write it tells in several tracebacks.
            free, needed = shutil.disk_usage(self._folder).free, room(state)
            if free < needed:
                sizes = f"a checkpoint takes {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free"
                raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {sizes}")
            args = ocp.args.Composite(
                state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about)
            )
            self._manager.save(step, args=args)
        except WRITING as error:
            raise self._cannot_write(error) from error
        self._last = time.perf_counter()
        self._cost = self._last - started

    def close(self) -> None:
        """Wait until all is written."""
        self._wait()
        try:
            self._manager.close()
        except WRITING as error:
            raise self._cannot_write(error) from error

    def _wait(self) -> None:
        try:
            self._manager.wait_until_finished()
        except WRITING as error:
            raise self._cannot_write(error) from error


def _raw(leaf):
    """Return an array, a key as its words."""
    is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def room(tree: PyTree) -> int:
    """Return how many bytes of a disk the checkpoint of a state needs, or somewhat more.

    Small files take a block each. Their number depends on the timing of threads, the more so the
    more leaves there are: usually twenty to thirty, and more on a busy machine. Every leaf
    is described, in blocks again. The bytes are compressed, which makes random ones less than 1 %
    longer.
    """
    leaves = jax.tree.leaves(tree)
    return (
        5 * 2**15 + 3 * 2**10 * len(leaves) + int(1.01 * sum(_raw(leaf).nbytes for leaf in leaves))
    )


def _described(tree: PyTree) -> dict[str, str]:
    """Return path -> type and shape of every leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }


def _checksum(tree: PyTree) -> int | None:
    """Return a checksum of all bytes; None where other processes hold some of them."""
    leaves = [_raw(leaf) for leaf in jax.tree.leaves(tree)]
    if not all(leaf.is_fully_addressable for leaf in leaves):
        return None
    total = 0
    for leaf in jax.device_get(leaves):
        total = zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).data, total)
    return total


def _names(tree: PyTree) -> list[str]:
    """Return the path of every leaf, by which a file of parameters knows it."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise UsageError(
            f"Two leaves of the parameters have the path {repeated[0]!r}: rename a key with '/'."
        )
    return names


def _stored(leaf) -> np.dtype:
    """Return the type that a leaf has in a file: NumPy's own, float32 for bfloat16 and the like."""
    dtype = np.dtype(leaf.dtype)
    return dtype if dtype.isbuiltin == 1 else np.dtype(np.float32)


def write_parameters(path: Path, params: PyTree) -> None:
    """Write parameters as one .npz file with one array per leaf, named by the leaf's path."""
    leaves = [np.asarray(leaf) for leaf in jax.device_get(jax.tree.leaves(params))]
    # np.savez takes the names as keyword arguments, and has arguments of its own.
    with whole(path) as part, zipfile.ZipFile(part, "w") as archive:
        for name, leaf in zip(_names(params), leaves, strict=True):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, leaf.astype(_stored(leaf)), allow_pickle=False)


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array of a file of ``write_parameters``, by name."""
    try:
        with np.load(path) as file:
            return {name: file[f"{name}.npy"].shape for name in file.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} cannot be read ({error}): is the run finished?") from error


def read_parameters(path: Path, like: PyTree) -> PyTree:
    """Return the parameters of a file in the structure and types of ``like``.

    Refuses other names, shapes or types, as a checkpoint does: no value is ever changed.
    """
    try:
        with np.load(path) as file:
            arrays = {name: file[f"{name}.npy"] for name in file.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} cannot be read ({error}): is the run finished?") from error
    leaves, structure = jax.tree.flatten(like)
    found = {name: f"{array.dtype}{list(array.shape)}" for name, array in arrays.items()}
    wanted = {
        name: f"{_stored(leaf)}{list(leaf.shape)}"
        for name, leaf in zip(_names(like), leaves, strict=True)
    }
    if found != wanted:
        raise UsageError(f"{path} has the arrays {found}, where this program has {wanted}.")
    read = [arrays[name].astype(leaf.dtype) for name, leaf in zip(wanted, leaves, strict=True)]
    for name, array in zip(wanted, read, strict=True):
        if not np.array_equal(array.astype(arrays[name].dtype), arrays[name], equal_nan=True):
            raise UsageError(
                f"{path} has values of {name} that {array.dtype} cannot hold: use the parameters "
                "in the type they were trained in."
            )
    made = [jax.numpy.asarray(array) for array in read]
    for name, array, stored in zip(wanted, made, read, strict=True):
        if array.dtype != stored.dtype:
            raise UsageError(
                f"{path} has {name} in {stored.dtype}, which JAX would read as {array.dtype}: set "
                "JAX_ENABLE_X64=1."
            )
    return structure.unflatten(made)
