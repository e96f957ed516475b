"""What every program does around its mathematics: flags, exit codes, workdir, metrics, progress.

A program ends with code 0; 1 after bad usage, 2 when training diverged or learnt nothing, 3 when
it finished and something it claims is false, 75 when a signal (Ctrl-C, SIGTERM, SIGUSR2) stopped it
and the same command goes on from there. Each but 0 comes with a sentence.
"""

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
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import filelock
from absl import app, flags, logging
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


def home_path(path: str | Path) -> Path:
    """Return a path with a leading ``~`` replaced by the home folder, as a shell does."""
    return Path(os.path.expanduser(path))


class _PathParser(flags.ArgumentParser):
    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)  # a shell leaves the one in --flag=~/folder


class _PathsParser(flags.ListParser):
    def parse(self, argument: str | list[str]) -> list[str]:
        return [os.path.expanduser(path) for path in super().parse(argument)]


def define_path(name: str, default: str | None, meaning: str) -> flags.FlagHolder:
    """Define a flag of one file or folder, whose ``~`` is the home folder."""
    serializer = flags.ArgumentSerializer()
    return flags.DEFINE(_PathParser(), name, default, meaning, serializer=serializer)


def define_paths(name: str, default: list[str], meaning: str) -> None:
    """Define a flag of several files or folders, separated by commas."""
    flags.DEFINE(_PathsParser(), name, default, meaning, serializer=flags.CsvListSerializer(","))


define_path("workdir", None, "Folder for everything the run writes; made if missing.")
flags.DEFINE_integer("seed", 0, "Seed of all randomness.", lower_bound=0, upper_bound=2**32 - 1)
flags.DEFINE_integer(
    "mesh", 1, "Devices, of all processes together, that share data and chains.", lower_bound=1
)
flags.DEFINE_string("coordinator", None, "host:port of the first of several processes; or auto.")
flags.DEFINE_integer("num_processes", 1, "How many processes, with host:port.", lower_bound=1)
flags.DEFINE_integer("process_id", 0, "Which of them this one is.", lower_bound=0)
flags.disclaim_key_flags()  # those defined below belong to the program that asks for them
FLAGS = flags.FLAGS
COMMON = ("workdir", "seed", "mesh", "coordinator", "num_processes", "process_id")
WHERE = tuple(name for name in COMMON if name != "seed")  # the run is the same wherever it runs

USAGE, DIVERGED, FALSE_CLAIM, STOPPED = 1, 2, 3, 75
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UsageError(ValueError):
    """Something the user can put right; shown as one sentence, without a traceback."""


class CannotWriteError(UsageError):
    """The workdir has no room; what was saved there before is whole."""

    def __init__(self, where: Path | str, reason: str) -> None:
        """Say where, why, and how to go on."""
        super().__init__(
            f"{where} cannot be written ({reason}): make room or choose another --workdir; what is "
            "saved there is whole, and the same command goes on from it."
        )


class StoppedError(Exception):
    """A signal ended the run; the same command goes on from what is saved."""


class FalseClaimError(Exception):
    """The run finished, and something the program claims did not come out."""


def define_float(
    name: str, default: float | None, meaning: str, low: float, high: float = sys.float_info.max
) -> None:
    """Define a flag of a number in [low, high]: finite unless ``high`` is infinite, never NaN.

    None stands for a number that is decided elsewhere.
    """
    flags.DEFINE_float(name, default, meaning)
    within = f"from {low:g} to {high:g}" if high < sys.float_info.max else f">= {low:g}"
    kind = "a number" if high > sys.float_info.max else "a finite number"
    flags.register_validator(
        name, lambda v: v is None or low <= v <= high, f"must be {kind} {within}."
    )


def parse(name: str, help_text: Callable[[], str] | None = None) -> None:
    """Read the command line, where ``name`` says that the module is the program that is run.

    A program calls this below its flags and above the imports that take seconds, those of JAX:

        runs.parse(__name__)

    Args:
        name: the module's ``__name__``.
        help_text: what --help prints below the module's docstring, instead of its flags in the
            order of the alphabet.
    """
    if name != "__main__":
        return
    for common in COMMON:
        FLAGS.register_key_flag_for_module(sys.argv[0], FLAGS[common])  # --help shows them too
    app.define_help_flags()
    if help_text and {"--help", "-help", "-h", "-?", "--helpshort"} & set(sys.argv[1:]):
        print(f"{(sys.modules[name].__doc__ or '').strip()}\n\n{help_text()}")
        sys.exit(0)
    try:
        _remaining[:] = FLAGS(sys.argv)
    except flags.Error as error:
        _leave(f"{str(error).rstrip('.')}; --help lists the flags.", USAGE)
    except SystemExit:  # absl leaves with 1 after its help
        sys.exit(0)


_remaining: list[str] = []  # of the command line, once its flags are read


def main(program: Callable[[], None]) -> None:
    """Run a program under absl; what the user must know ends it with a sentence and its code."""

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1:
            _leave(f"unknown argument {argv[1]!r}; every option is a --flag=value.", USAGE)
        logging.set_verbosity(logging.WARNING)  # jax tells of every backend it does not find
        logging.get_absl_handler().addFilter(_not_told_twice)
        try:
            program()
        except CannotWriteError as error:
            leave_at_once(str(error), USAGE)
        except UsageError as error:
            _leave(str(error), USAGE)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            leave_at_once(str(CannotWriteError(FLAGS.workdir, str(error.strerror))), USAGE)
        except StoppedError as error:
            _leave(str(error), STOPPED)
        except FloatingPointError as error:
            _leave(str(error), DIVERGED)
        except FalseClaimError as error:
            _leave(str(error), FALSE_CLAIM)
        except Exception as error:
            _leave_the_others(error)
            raise

    if not FLAGS.is_parsed():
        parse("__main__")
    app.run(guarded, flags_parser=lambda argv: _remaining)


def _not_told_twice(record: Any) -> bool:
    """Return whether to log a message: orbax logs several tracebacks of what it raises."""
    return "orbax" not in record.pathname or record.levelno < logging.converter.STANDARD_ERROR


def _leave(sentence: str, code: int) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(code)


def leave_at_once(sentence: str, code: int) -> NoReturn:
    """Print a sentence and end, without closing files or waiting for other processes."""
    # Files are not closed: what they hold back has no room, and each would say so.
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    os._exit(code)


def _one_of_several() -> bool:
    devices = sys.modules.get("experiments.devices")  # where nothing has joined, not imported
    return devices is not None and devices.several()


def _leave_the_others(error: Exception) -> None:
    """End at once after an error in one of several processes, which would wait for one another."""
    if _one_of_several():
        sys.modules["experiments.devices"].leave_if_alone(error)
        traceback.print_exception(error)
        sys.stderr.flush()
        os._exit(USAGE)


def make_folder(folder: Path) -> None:
    """Make the folder of --workdir unless it is there; refuse what cannot be one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(p for p in (folder, *folder.parents) if os.path.lexists(p))
        raise UsageError(
            f"--workdir={folder} cannot be a folder: {file} is a file. Choose another folder, or "
            "remove that file."
        ) from None
    except OSError as error:
        raise _not_writable(folder, error) from error


def _not_writable(folder: Path, error: OSError) -> UsageError:
    where = f": {error.filename}" if error.filename else ""
    return UsageError(f"--workdir={folder} cannot be written ({error.strerror}{where}).")


def _flag_text() -> str:
    """Return the flags of the program and this package as a flagfile, without where it is run."""
    modules = FLAGS.flags_by_module_dict()
    ours = {m for m in modules if m == sys.argv[0] or m.split(".")[0] in ("experiments", "scripts")}
    own = {flag.name: flag for module in ours for flag in modules[module]}
    lines = [own[name].serialize() for name in sorted(own) if name not in WHERE]
    return "".join(f"{line}\n" for line in lines if line)


def start() -> "Run":
    """Return the run that the flags describe; a program's ``main`` calls it before any work."""
    if not FLAGS.workdir:
        raise UsageError("--workdir is not set: name a folder for what the run writes.")
    from experiments import devices  # imports JAX, which can wait until the flags are read

    if FLAGS.coordinator:
        devices.join(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
    elif FLAGS.num_processes > 1:
        raise UsageError(f"--num_processes={FLAGS.num_processes} needs a --coordinator.")
    mesh = devices.make_mesh(FLAGS.mesh)
    with devices.refused_together():
        run = Run(Path(FLAGS.workdir), _flag_text(), mesh, first=devices.is_first())
    for which in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(which, run.stop)
    return run


def _read_flags(workdir: Path) -> str:
    # In the bytes of the command line, which are UTF-8 also where the locale is another.
    return os.fsdecode((workdir / "flags.txt").read_bytes())


def flags_of(workdir: Path) -> dict[str, str]:
    """Return the flags of the run in a folder, by name, as text."""
    try:
        lines = _read_flags(workdir).splitlines()
    except OSError as error:
        raise UsageError(f"{workdir} holds no run ({error.strerror}: flags.txt).") from error
    return dict(line.removeprefix("--").split("=", 1) for line in lines if "=" in line)


def _refuse_other_flags(workdir: Path, theirs: str, ours: str) -> None:
    """Refuse the workdir of a run with other flags, with the differences."""
    there, here = (set(text.splitlines()) for text in (theirs, ours))
    if there != here:
        differences = f"it has {' '.join(sorted(there - here)) or 'no more'}"
        differences += f", this one {' '.join(sorted(here - there)) or 'no more'}"
        longer = f" --init_from={workdir} trains on from its end." if "init_from" in FLAGS else ""
        raise UsageError(
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
    """Return what tells one row from another: the step and which metrics it has."""
    return (row["step"], *sorted(row))


def _locked(workdir: Path) -> filelock.FileLock:
    """Return a lock held on a folder, or refuse the folder that another process writes to.

    The kernel releases it when the process ends, by kill -9 as well.
    """
    # A process may open a run again: it is no other run.
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
        if tasks > 1 and not FLAGS.coordinator:
            hint = (
                f"srun started {tasks} processes of this command; give it --ntasks=1, or let them "
                f"share the work by --coordinator=auto --mesh={tasks}"
            )
        raise UsageError(f"--workdir={workdir} is in use by another process: {hint}.") from None
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            raise _not_writable(workdir, error) from error
        print(
            f"warning: the file system of {workdir} has no locks; start no second run there.",
            file=sys.stderr,
        )
    return lock


def _note_versions(path: Path) -> None:
    """Add the versions that a run goes on with to its file; warn where they are others."""
    import jax  # with its versions, which can wait until the flags are read
    import jaxlib

    import ebm_jax

    now = (
        f"ebm_jax {ebm_jax.__version__}, jax {jax.__version__}, jaxlib {jaxlib.__version__}, "
        f"Python {platform.python_version()}"
    )
    before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if before[-1:] == [now]:
        return
    if before:
        print(
            f"warning: this run was made with {before[-1]}, and goes on with {now}: its result may "
            f"differ from an uninterrupted run. All versions are in {path}.",
            file=sys.stderr,
        )
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{now}\n")


class Run:
    """The workdir of one run: flags.txt, metrics.jsonl, TensorBoard events, summary.json.

    A workdir that holds an unfinished run with the same flags is gone on with. What a row of
    metrics.jsonl says depends on the flags alone, so that a row which is there already is not
    written again by the updates that a stopped run repeats. What is not finite is null there.

    Of several processes only the first writes there; the others write into a ``workdir`` of their
    own that is thrown away, and share the checkpoints. ``folder`` is the one that the user named.
    The first holds a lock there until it ends, however it ends.
    """

    def __init__(
        self, workdir: Path, flag_text: str = "", mesh: Any = None, *, first: bool = True
    ) -> None:
        """Make or take the workdir, or refuse it."""
        self.mesh, self.first, self.checkpoints = mesh, first, workdir / "checkpoints"
        self.folder = workdir
        if first:
            make_folder(workdir)
            self._lock = _locked(workdir)
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
        self._started = time.perf_counter()

    def rows(self, prefix: str, until: int) -> list[dict[str, float]]:
        """Return what was logged under a prefix up to a step, as it was before the prefix.

        What was asked for under a longer prefix before is not this one's.
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
                f"stopped by {self.stopped_by}; run the same command again to go on from what is "
                f"saved in {self.folder}."
            )
            if _one_of_several():  # which would wait for this one while it waits for them
                leave_at_once(sentence, STOPPED)
            raise StoppedError(sentence)

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

    def seconds(self) -> float:
        """Return the wall-clock seconds since the run began."""
        return time.perf_counter() - self._started

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
            raise CannotWriteError(self.workdir, str(error.strerror)) from error
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

    def finish(self, summary: dict[str, Any], claims: dict[str, bool] | None = None) -> None:
        """Write summary.json and print it as the last line.

        Raises FalseClaimError where a claim is false: the program then ends with code 3.
        """
        if claims:
            summary = summary | {"claims": {name: bool(holds) for name, holds in claims.items()}}
        summary = summary | {"seconds": round(self.seconds(), 1)}
        self.write("summary.json", _json(summary, indent=2) + "\n")
        self.close()
        if self.first:
            print(_json(summary), flush=True)
        wrong = false_claims(summary)
        if wrong:
            raise FalseClaimError(f"this does not hold: {'; '.join(wrong)}.")


def false_claims(summary: dict[str, Any]) -> list[str]:
    """Return in words the claims of a summary that are false."""
    claims = summary.get("claims", {})
    return [name.replace("_", " ") for name, holds in claims.items() if not holds]


def progress(
    total: int, describe: str, *, shown: bool = True
) -> tuple[Callable[[int, str], None], Callable[[], None]]:
    """Return (advance, close): a bar with ETA on a terminal, now and then a line elsewhere."""
    if not shown:
        return lambda done, note: None, lambda: None
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn(describe),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        bar = Progress(*columns, console=console)
        task = bar.add_task(describe, total=total, note="")
        bar.start()
        return lambda done, note: bar.update(task, completed=done, note=note), bar.stop
    started = printed = time.perf_counter()

    def advance(done: int, note: str) -> None:
        nonlocal printed
        now = time.perf_counter()
        if now - printed > 5 or done == total:
            printed = now
            left = (now - started) * (total - done) / done
            print(f"{describe} {done}/{total}, {left:.0f} s left, {note}", file=sys.stderr)

    return advance, lambda: None
