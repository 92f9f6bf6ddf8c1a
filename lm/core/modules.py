"""Python of the user's own, found by its name."""

import importlib
import importlib.util
import os
import sys
import traceback
from types import ModuleType

from lm.core.errors import ConfigError
from lm.core.paths import at_home


def users_module(name: str, said: str) -> ModuleType:
    """The module `some.module` or `path/to/file.py`.

    Args:
      said: the flag or binding that names it, as an error tells it.

    Raises:
      ConfigError: there is none, or it raises something; --traceback shows where.
    """
    path = at_home(name)
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        if not path.is_file():
            raise ImportError("no such file")
        # no module of a library has this name; dataclasses look theirs up by it
        spec = importlib.util.spec_from_file_location(f"users_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:  # it is the user's: it may raise anything
        raise ConfigError(f"{said} cannot be imported: {reason(error, str(path))}") from error


def reason(error: BaseException, file: str) -> str:
    """Of an error of the user's code: its type and message, and the last line of `file` in it."""
    file = os.path.abspath(file)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    where = f" ({file}:{lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"
