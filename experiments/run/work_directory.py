"""The work directory of a run: its lock, flags, versions, metrics, summary."""

import contextlib
import errno
import functools
import json
import math
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
from absl import flags

from experiments.run import errors
from experiments.run.claims import told

FLAGS = flags.FLAGS


def make_folder(folder: Path) -> None:
    """Create the folder of --workdir; raise UsageError if that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(p for p in (folder, *folder.parents) if os.path.lexists(p))
        raise errors.UsageError(
            f"--workdir={folder} cannot be a folder: {file} is a file. Choose another folder, or "
            "remove that file."
        ) from None
    except OSError as error:
        raise _not_writable(folder, error) from error


def _not_writable(folder: Path, error: OSError) -> errors.UsageError:
    where = f": {error.filename}" if error.filename else ""
    return errors.UsageError(f"--workdir={folder} cannot be written ({error.strerror}{where}).")


def _read_flags(workdir: Path) -> str:
    # In the bytes of the command line, which are UTF-8 also where the locale is another.
    return os.fsdecode((workdir / "flags.txt").read_bytes())


def flags_of(workdir: Path) -> dict[str, str]:
    """Return the flags of the run in a folder, by name, as text."""
    try:
        lines = _read_flags(workdir).splitlines()
    except OSError as error:
        raise errors.UsageError(f"{workdir} holds no run ({error.strerror}: flags.txt).") from error
    return dict(line.removeprefix("--").split("=", 1) for line in lines if "=" in line)


def _refuse_other_flags(workdir: Path, theirs: str, ours: str) -> None:
    """Reject the workdir of a run with other flags, with the differences."""
    there, here = (set(text.splitlines()) for text in (theirs, ours))
    if there != here:
        differences = f"it has {' '.join(sorted(there - here)) or 'no more'}"
        differences += f", this one {' '.join(sorted(here - there)) or 'no more'}"
        longer = f" --init_from={workdir} trains on from its end." if "init_from" in FLAGS else ""
        raise errors.UsageError(
            f"--workdir={workdir} holds a run with other flags: {differences}. Choose another "
            f"folder, or delete this one.{longer}"
        )


def _whole_rows(path: Path) -> list[dict[str, float]]:
    """Return the rows of a file of JSON lines; a line that a kill cut short is removed."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines = lines[:-1]
        os.truncate(path, sum(map(len, lines)))
    rows = [json.loads(line) for line in lines]
    return [{k: math.nan if v is None else v for k, v in row.items()} for row in rows]


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield where to write a file that replaces the one of this name once it is whole."""
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _json(value: Any, **options: Any) -> str:
    """Return strict JSON: it has no NaN and no infinity, which become null."""

    def strict(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: strict(v) for name, v in value.items()}
        if isinstance(value, list | tuple):
            return [strict(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(strict(value), allow_nan=False, **options)


def _identity(row: dict[str, float]) -> tuple:
    """Return the key of a row: its step and the names of its metrics."""
    return (row["step"], *sorted(row))


def _locked(workdir: Path, several: bool) -> filelock.FileLock:
    """Return a lock held on a folder; raise an error for the folder that another process writes to.

    The kernel releases it when the process ends, by kill -9 as well.
    """
    # A process may open its own run again.
    lock = filelock.FileLock(workdir / ".lock", is_singleton=True, fallback_to_soft=False)
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            # After the failure of a node, a file server keeps its locks for a minute or two.
            if not int(os.environ.get("SLURM_RESTART_COUNT", 0)):
                raise
            print(f"waiting up to 150 s for the lock of {workdir}", file=sys.stderr, flush=True)
            lock.acquire(timeout=150)
    except filelock.Timeout:
        tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
        hint = "wait until it ends, or choose another folder"
        if tasks > 1 and not several:
            hint = (
                f"srun started {tasks} processes of this command; give it --ntasks=1, or let them "
                f"share the work by --coordinator=auto --mesh={tasks}"
            )
        raise errors.UsageError(
            f"--workdir={workdir} is in use by another process: {hint}."
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            raise _not_writable(workdir, error) from error
        print(
            f"warning: the file system of {workdir} has no locks: do not start a second run there.",
            file=sys.stderr,
        )
    return lock


def _note_versions(path: Path) -> None:
    """Append the current versions to the file of versions; warn if they have changed."""
    import jax  # with its versions, which can wait until the flags are read
    from jaxlib.version import __version__ as jaxlib_version

    import ebm_jax

    now = (
        f"ebm_jax {ebm_jax.__version__}, jax {jax.__version__}, jaxlib {jaxlib_version}, "
        f"Python {platform.python_version()}"
    )
    before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if before[-1:] == [now]:
        return
    if before:
        print(
            f"warning: this run was started with {before[-1]} and resumes with {now}: its result "
            f"may differ from an uninterrupted run. All versions are in {path}.",
            file=sys.stderr,
        )
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{now}\n")


class Run:
    """The workdir of one run: flags.txt, metrics.jsonl, TensorBoard events, summary.json.

    A work directory with an unfinished run of the same flags is resumed. The rows of metrics.jsonl
    depend on the flags alone, so the updates that a resumed run repeats do not write their rows
    again. Non-finite values are written as null.

    Of several processes only the first writes there. The others share the checkpoints and write
    everything else into temporary folders. ``folder`` is the work directory that the user named.
    The first process holds a lock on it until the process ends.
    """

    def __init__(
        self,
        workdir: Path,
        flag_text: str = "",
        mesh: Any = None,
        *,
        first: bool = True,
        several: bool = False,
    ) -> None:
        """Create the work directory, or resume the run in it.

        Raises errors.UsageError if another process uses it or its flags differ.
        """
        self._several = several
        self.mesh, self.first, self.checkpoints = mesh, first, workdir / "checkpoints"
        self.folder = workdir
        if first:
            make_folder(workdir)
            self._lock = _locked(workdir, several)
        else:
            self._thrown_away = tempfile.TemporaryDirectory()
            workdir = Path(self._thrown_away.name)
        self.workdir, self.flag_text = workdir, flag_text
        self.stopped_by, self._training = "", False
        metrics = workdir / "metrics.jsonl"
        try:
            if (workdir / "flags.txt").exists():
                _refuse_other_flags(workdir, _read_flags(workdir), flag_text)
            else:
                self.write("flags.txt", flag_text)
            _note_versions(workdir / "versions.txt")
            self._rows = _whole_rows(metrics)
            self._metrics = metrics.open("a", encoding="utf-8")
        except OSError as error:
            raise _not_writable(workdir, error) from error
        self._written = {_identity(row) for row in self._rows}
        self._prefixes: set[str] = set()
        self.seconds_by_phase: dict[str, float] = {}
        self.earlier = 0.0  # seconds of training before the run was resumed
        self._started = time.perf_counter()

    def rows(self, prefix: str, until: int) -> list[dict[str, float]]:
        """Return the rows logged under a prefix up to a step, without the prefix in their names.

        Metrics of a longer prefix that was asked for before are left out.
        """
        self._prefixes.add(prefix)
        others = tuple(p for p in self._prefixes if p != prefix and p.startswith(prefix))
        found = []
        for row in self._rows:
            names = [
                name
                for name in row
                if name != "step" and name.startswith(prefix) and not name.startswith(others)
            ]
            if names and row["step"] <= until:
                found.append(
                    {n.removeprefix(prefix): row[n] for n in names} | {"step": row["step"]}
                )
        return found

    def stop(self, signal_number: int, frame: Any) -> None:
        """Handle a signal: training saves before it ends, anything else ends at once."""
        del frame
        # The others come twice: from SLURM to every process, and from the process that started us.
        again = bool(self.stopped_by) and signal_number == signal.SIGINT
        self.stopped_by = signal.Signals(signal_number).name
        if not self._training or again:
            sentence = (
                f"stopped by {self.stopped_by}; run the same command again to resume from the last "
                f"checkpoint in {self.folder}."
            )
            if self._several:  # which would wait for this one while it waits for them
                errors.leave_at_once(sentence, errors.STOPPED)
            raise errors.StoppedError(sentence)

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """While training, a signal is noted in ``stopped_by``; a second Ctrl-C ends at once."""
        self._training = True
        try:
            yield
        finally:
            self._training = False

    @functools.cached_property
    def _board(self):
        # Made when first written to: one that never was complains at exit, after the real error.
        from tensorboardX import SummaryWriter

        return SummaryWriter(str(self.workdir / "tensorboard"))

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds of a phase to ``seconds_by_phase``, which the summary has."""
        started = self.seconds()
        yield
        taken = self.seconds() - started
        self.seconds_by_phase[name] = round(self.seconds_by_phase.get(name, 0.0) + taken, 1)

    def seconds(self) -> float:
        """Return the wall-clock seconds of the run.

        A resumed run adds those in which the checkpoints that it continues from were trained.
        """
        return self.earlier + time.perf_counter() - self._started

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Write one line of metrics.jsonl, unless it is there, and the same to TensorBoard."""
        row = {"step": step} | metrics
        if _identity(row) in self._written:
            return
        self._written.add(_identity(row))
        try:
            self._metrics.write(_json(row) + "\n")
            self._metrics.flush()
        except OSError as error:
            raise errors.CannotWriteError(self.workdir, str(error.strerror)) from error
        for name, value in metrics.items():
            if math.isfinite(value):  # TensorBoard draws no other, and complains
                self._board.add_scalar(name, value, step)

    def show(self, step: int, images: dict[str, Any], values: dict[str, Any]) -> None:
        """Show images (n, height, width[, 3]) in [0, 1], values as histograms, in TensorBoard."""
        for name, pictures in images.items():
            coloured = pictures if pictures.ndim == 4 else pictures[..., None]
            self._board.add_images(name, coloured, step, dataformats="NHWC")
        for name, numbers in values.items():
            self._board.add_histogram(name, numbers, step)

    def write(self, name: str, text: str) -> None:
        """Write a text file into the workdir."""
        with whole(self.workdir / name) as path:
            # The bytes of a command line that the locale could not decode are written as they are.
            path.write_text(text, encoding="utf-8", errors="surrogateescape")

    def close(self) -> None:
        """Close the files of metrics."""
        self._metrics.close()
        self._board.close()
        if self.first:
            self._lock.release()

    def finish(self, summary: dict[str, Any], claims: dict[str, Any] | None = None) -> None:
        """Write summary.json and print it as the last line.

        A claim is a bool or a ``Claim``. Raises errors.FalseClaimError where one is false: the
        program then ends with code 3.
        """
        if claims:
            summary = summary | told(claims)
        if self.seconds_by_phase:
            summary = summary | {"seconds_by_phase": self.seconds_by_phase}
        summary = summary | {"seconds": round(self.seconds(), 1)}
        self.write("summary.json", _json(summary, indent=2) + "\n")
        self.close()
        if self.first:
            print(_json(summary), flush=True)
        wrong = false_claims(summary)
        if wrong:
            raise errors.FalseClaimError(f"these claims are false: {'; '.join(wrong)}.")


def false_claims(summary: dict[str, Any]) -> list[str]:
    """Return the false claims of a summary, in words."""
    claims = summary.get("claims", {})
    return [name.replace("_", " ") for name, holds in claims.items() if not holds]
