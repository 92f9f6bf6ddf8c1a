"""The log of a run: what the command says, and could do without.

It often lies on the disk that the checkpoints are on, or goes into a pipe. Where that disk is full,
or nobody reads the pipe any more, the run goes on without those lines.
"""

import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast


class Log(io.FileIO):
    """A stream in which what cannot be written is left out, which is told once."""

    left_out = False

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if not self.left_out:
                self.left_out = True
                line = f"warning: the log: {error.strerror or error}; the run goes on without it\n"
                with suppress(OSError):
                    os.write(2, line.encode())
            return len(memoryview(data).cast("B"))


def forgiving(stream: TextIO) -> TextIO:
    """The same stream, whose writes never raise an OSError."""
    with suppress(OSError):
        stream.flush()
    old = cast(io.TextIOWrapper, stream)
    raw = Log(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=old.encoding, errors=old.errors,
        line_buffering=old.line_buffering or old.write_through,
    )  # fmt: skip


def forgive() -> None:
    """Has what this process says from now on be left out where it cannot be written."""
    sys.stdout, sys.stderr = forgiving(sys.stdout), forgiving(sys.stderr)
