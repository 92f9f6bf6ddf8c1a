"""What every command shares: its flags are checked before anything heavy is imported, and an error
of the user's is one line and an exit code."""

import errno
import os
import re
import select
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from absl import flags

from lm.core.errors import UserError

flags.DEFINE_bool("traceback", False, "Show the traceback of an error.")

DATA, INTERNAL, INTERRUPTED, UNREAD = 2, 70, 130, 141

OF_PATHS = {  # what is wrong with a path wherever that shows: the exit code, and the way out
    errno.ENAMETOOLONG: (1, "name another path"),
    errno.ELOOP: (1, "name another path"),
    errno.ENOSPC: (DATA, "free some space, and run the command again"),
    errno.EDQUOT: (DATA, "free some space, and run the command again"),
    errno.EROFS: (DATA, "name another path"),
    errno.EACCES: (DATA, "have it given to this user, or name another path"),
    errno.EIO: (INTERNAL, "the disk does not answer; run the command again, or name another path"),
    errno.ESTALE: (INTERNAL, "the disk does not answer; run the command again"),
}


def run(main: Callable[[], int | None], argv: Sequence[str] | None = None) -> None:
    """Parses the flags, runs `main`, exits with its code (0 where it returns None).

    Exit codes: 1 flags or configuration, 2 data, a checkpoint or a full disk, 3 stopped by a guard,
    70 an error of ours, of a disk or store that does not answer now, or of a reward function that
    had worked, 75 saved and to be run again, 130 interrupted, 134 another process was lost, 141
    nobody reads any more what is printed.
    """
    argv = list(sys.argv if argv is None else argv)
    try:
        if any(word in ("--help", "-help", "-h", "--h", "-?") for word in argv[1:]):
            print(help_text())
            leave(0)
        parse(argv)
        code = main()
    except UserError as error:
        if flags.FLAGS.traceback:
            traceback.print_exc()
        fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
    except Exception as error:  # the last resort: the caller must learn that it is not his
        if isinstance(error, BrokenPipeError) and unread():
            leave(UNREAD)
        said, code = of_a_path(error)
        if flags.FLAGS.traceback or not said:
            traceback.print_exc()
        if said:
            fail(said, code)
        leave(INTERNAL)
    leave(code or 0)


def of_a_path(error: Exception) -> tuple[str, int]:
    """What is wrong with a path, or with its disk, and the exit code; "" of other errors."""
    if isinstance(error, OSError) and error.errno in OF_PATHS:
        code, way_out = OF_PATHS[error.errno]
        path = f"{str(error.filename)[:100]}: " if error.filename else ""
        return f"{path}{os.strerror(error.errno)}; {way_out}", code
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # of pathlib
        return f"{error}; name another path", 1
    return "", INTERNAL


def parse(argv: Sequence[str]) -> None:
    """Gives the flags their values, or ends the process with what is wrong with them."""
    try:
        rest = flags.FLAGS(argv)[1:]
    except flags.Error as error:
        fail(str(error).replace("\n", " "), 1)
    except UnicodeDecodeError as error:  # absl reads it as text
        fail(f"--flagfile cannot be read: {error}; name a file of flags, one a line", 1)
    if rest:
        name = rest[0].lstrip("-").partition("=")[0]
        hint = (
            f"did you mean --{rest[0]}?"
            if name in flags.FLAGS
            else "every argument is --name=value"
        )
        fail(f"unexpected argument {rest[0]!r}; {hint}", 1)
    warn_repeated(argv[1:])


@contextmanager
def told_by_flags(names: Mapping[str, str]) -> Iterator[None]:
    """Has an error name a command's own flags where it names bindings, which only a run has.

    Args:
      names: what stands for a binding here, as {"tokenizer.vocab": "--vocab"}.
    """
    try:
        yield
    except UserError as error:
        some = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
        text = re.sub(
            rf"(--set )?(?<![\w/.])({some})(?!\w)", lambda found: names[found[2]], str(error)
        )
        raise type(error)(text) from error


def fail(message: str, code: int) -> None:
    with suppress(BrokenPipeError):
        print(f"error: {message}", file=sys.stderr)
    leave(code)


def leave(code: int) -> None:
    """Ends the process; with an error at once, so that no library's last words bury the line."""
    try:
        sys.stderr.flush()
        sys.stdout.flush()
    except BrokenPipeError:
        unread()
        code = code or UNREAD
    if "jax" in sys.modules:
        part()
    if code and "jax" in sys.modules:
        os._exit(code)
    sys.exit(code)


def unread() -> bool:
    """Whether nobody reads any more what is printed, as after `| head`; the rest of it then goes
    nowhere, and no library stumbles over it."""
    closed = []
    for stream in (sys.stdout, sys.stderr):
        poll = select.poll()
        poll.register(stream.fileno(), 0)  # a pipe without a reader is told unasked
        if poll.poll(0):
            closed.append(stream)
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return bool(closed)


def part(seconds: float = 10.0) -> None:
    """Tells the run's other processes, if there are any, that this one ends: none of them then
    takes it for lost. One that does not answer is not waited for."""
    import jax

    if jax.distributed.is_initialized():
        farewell = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        farewell.start()
        farewell.join(seconds)


def warn_repeated(words: Sequence[str]) -> None:
    """A flag given twice with two values: the last one wins, and the user is told."""
    seen: dict[str, str] = {}
    for word, following in zip(words, [*words[1:], ""], strict=False):
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or name not in flags.FLAGS:
            continue
        if isinstance(flags.FLAGS[name], flags.MultiFlag):
            continue
        if not equals:
            if flags.FLAGS[name].boolean:
                continue
            value = following
        if seen.get(name, value) != value:
            print(f"warning: --{name} is given as {seen[name]!r} and {value!r}; using {value!r}",
                  file=sys.stderr)  # fmt: skip
        seen[name] = value


def help_text() -> str:
    """The command's own docstring, then its flags."""
    command = sys.modules["__main__"]
    shared = [name for name in sys.modules if name.startswith("launch")]
    described = [flags.FLAGS.module_help(name) for name in [sys.argv[0], *shared]]  # its own first
    return "\n".join(part for part in [(command.__doc__ or "").strip(), "", *described] if part)
