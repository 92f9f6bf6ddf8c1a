"""Where a run lives: a folder of this machine, or one of an object store (`gs://bucket/run`).

A store's path is `etils.epath`'s, which has the methods of pathlib's that are used on a run. It
has no append, no exclusive creation and no free space: who needs one asks `is_remote`.
"""

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from lm.core.errors import ConfigError

# What etils reaches a store with, and the extra that installs it.
CLIENTS = {"gs": ("gcsfs", "pip install 'lm[gcs]'"), "s3": ("s3fs", "pip install s3fs")}


def run_path(name: str | Path) -> Path:
    """The path of a run directory by its name; a path is given back as it is.

    A shell leaves the `~` of `--workdir=~/run` as it is: here it is the user's home.

    Raises:
      ConfigError: an object store of which nothing here knows how to reach it.
    """
    if isinstance(name, str) and "://" in name:
        scheme = name.partition(":")[0]
        if scheme not in CLIENTS:
            raise ConfigError(f"{name}: no such store; a folder, or one of {', '.join(CLIENTS)}://")
        client, way_out = CLIENTS[scheme]
        if importlib.util.find_spec(client) is None:
            raise ConfigError(f"{name}: {client} is not installed; {way_out}")
        from etils import epath

        return cast(Path, epath.Path(name))
    return at_home(name) if isinstance(name, str) else name


def local_path(name: str | Path) -> Path:
    """`run_path` of a folder that is of this machine, as who reads its files needs it.

    Raises:
      ConfigError: it is in an object store.
    """
    if "://" in str(name):
        raise ConfigError(f"{name}: only a folder of this machine can be used here: copy it")
    return run_path(name)


def at_home(name: str) -> Path:
    """A path in which `~` is the user's home; that of a user who is not here stays as it is."""
    return Path(os.path.expanduser(name))


def write_whole(path: Path, text: str, *, lasting: bool = True) -> None:
    """Writes a file that others read: it is whole at any moment, the old one or the new.

    Args:
      lasting: also where the host has lost its power since, if the name was there before. That
        waits for the disk.

    Raises:
      OSError: it cannot be written; it names the file, which the system does only as it is opened.
    """
    fresh = path.with_name(path.name + ".part")
    try:
        with fresh.open("w") as file:
            file.write(text)
            if lasting and not is_remote(path):
                file.flush()
                os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def read_summary(path: Path) -> dict[str, Any] | None:
    """What a run says that has ended; None: it has not, or the file is empty or damaged, and the
    run writes it anew where it is run again.

    Raises:
      OSError: the disk does not answer.
    """
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around what writes a path.

    Raises:
      ConfigError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None


def is_remote(path: Path) -> bool:
    """Whether the path is in an object store."""
    return not isinstance(path, Path)


def remove_tree(path: Path) -> None:
    """Removes a folder with all that is in it, as far as it is there and can be."""
    if not is_remote(path):
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists():
        path.rmtree()  # type: ignore[attr-defined]  # etils' own
