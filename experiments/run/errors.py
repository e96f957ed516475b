"""The errors that end a program with one sentence, and the exit codes.

A program ends with code 0; 1 after bad usage, 2 when training diverged or learnt nothing, 3 when
it finished and one of its claims is false, 75 when a signal (Ctrl-C, SIGTERM, SIGUSR2) stopped it
and the same command resumes it. Each code but 0 comes with a sentence.
"""

import errno
import os
import sys
from pathlib import Path
from typing import NoReturn

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


def leave(sentence: str, code: int) -> NoReturn:
    """Print a sentence and end with a code."""
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(code)


def leave_at_once(sentence: str, code: int) -> NoReturn:
    """Print a sentence and end, without closing files or waiting for other processes."""
    # Files are not closed: what they hold back has no room, and each would say so.
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    os._exit(code)
