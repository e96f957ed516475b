"""Start a program: make the run that its flags describe, and turn errors into exit codes."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from absl.logging import converter

from experiments.run import command_line, errors, work_directory

FLAGS = flags.FLAGS


def main(program: Callable[[], None]) -> None:
    """Run a program under absl; its errors end it with one sentence and an exit code."""

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1:
            errors.leave(
                f"unknown argument {argv[1]!r}; every option is a --flag=value.", errors.USAGE
            )
        logging.set_verbosity(logging.WARNING)  # jax logs every backend that is missing
        logging.get_absl_handler().addFilter(_not_told_twice)
        try:
            program()
        except errors.CannotWriteError as error:
            errors.leave_at_once(str(error), errors.USAGE)
        except errors.UsageError as error:
            errors.leave(str(error), errors.USAGE)
        except OSError as error:
            if error.errno not in errors.NO_ROOM:
                raise
            errors.leave_at_once(
                str(errors.CannotWriteError(FLAGS.workdir, str(error.strerror))), errors.USAGE
            )
        except errors.StoppedError as error:
            errors.leave(str(error), errors.STOPPED)
        except FloatingPointError as error:
            errors.leave(str(error), errors.DIVERGED)
        except errors.FalseClaimError as error:
            errors.leave(str(error), errors.FALSE_CLAIM)
        except Exception as error:
            _leave_the_others(error)
            raise

    if not FLAGS.is_parsed():
        command_line.parse("__main__")
    app.run(guarded, flags_parser=lambda argv: command_line.remaining)


def _not_told_twice(record: Any) -> bool:
    """Return whether to log a message: orbax also logs the errors that it raises."""
    return "orbax" not in record.pathname or record.levelno < converter.STANDARD_ERROR


def _leave_the_others(error: Exception) -> None:
    """End at once after an error in one of several processes, which would wait for one another."""
    devices = sys.modules.get("experiments.run.devices")  # where nothing has joined, not imported
    if devices is not None and devices.several():
        devices.leave_if_alone(error)
        traceback.print_exception(error)
        sys.stderr.flush()
        os._exit(errors.USAGE)


def start(settings: Mapping[str, Any] | None = None) -> work_directory.Run:
    """Return the run that the flags describe; a program's ``main`` calls it before any work.

    ``settings``: flag values chosen by the program, by name; flags.txt records them.
    """
    if not FLAGS.workdir:
        raise errors.UsageError("--workdir is not set: name a folder for the files of the run.")
    from experiments.run import devices  # imports JAX, which can wait until the flags are read

    if FLAGS.coordinator:
        devices.join(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
    elif FLAGS.num_processes > 1:
        raise errors.UsageError(
            f"--num_processes={FLAGS.num_processes} needs --coordinator=HOST:PORT."
        )
    mesh = devices.make_mesh(FLAGS.mesh)
    with devices.refused_together():
        run = work_directory.Run(
            Path(FLAGS.workdir),
            command_line.as_text(settings),
            mesh,
            first=devices.is_first(),
            several=devices.several(),
        )
    for which in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(which, run.stop)
    return run
