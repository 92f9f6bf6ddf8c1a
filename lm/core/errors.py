"""The errors a user can cause, each with the exit code it ends the process with.

Whoever raises one writes a single line that names the value and the way out. `launch` prints
that line and exits; a traceback is shown only when it is asked for.
"""


class UserError(Exception):
    """Something the user can put right. Its text is one line."""

    exit_code = 70


class ConfigError(UserError, ValueError):
    """A flag, a binding or a relation between bindings is wrong."""

    exit_code = 1


class DataError(UserError):
    """Text, tokens or a tokenizer cannot be used as they are."""

    exit_code = 2


class AccessError(DataError):
    """A file, disk or store cannot be read or written now, whatever is in it: it may pass."""


class FunctionError(DataError):
    """A function of the user's that had worked fails; run again, it may work."""

    exit_code = 70  # as of StorageError


class TooLong(DataError):
    """A prompt is longer than the context that is to hold it."""


class CheckpointError(UserError):
    """A checkpoint or weight file is missing, damaged or of another run."""

    exit_code = 2


class StorageError(CheckpointError):
    """A disk or store does not answer, and what is there may be whole; run again, it may pass."""

    exit_code = 70  # which launch/again.sh starts again, though not without end


class GuardStop(UserError):
    """The run stopped itself: a loss, gradient or divergence left its bounds."""

    exit_code = 3


class PeerError(UserError):
    """Another process of the run cannot be reached; run again, it may come back."""

    exit_code = 134  # as an abort, which is how jax ends a process whose peer is lost
