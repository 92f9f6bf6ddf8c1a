"""Python of the user's own, found by its name."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from lm.core.errors import ConfigError


def users_module(name: str, said: str) -> ModuleType:
    """The module `some.module` or `path/to/file.py`.

    Args:
      said: the flag or binding that names it, as an error tells it.

    Raises:
      ConfigError: there is none, or it raises something; --traceback shows where.
    """
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        if not Path(name).is_file():
            raise ImportError("no such file")
        # no module of a library has this name; dataclasses look theirs up by it
        spec = importlib.util.spec_from_file_location(f"users_{Path(name).stem}", name)
        assert spec is not None and spec.loader is not None
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:  # it is the user's: it may raise anything
        why = " ".join(str(error).split())
        raise ConfigError(f"{said} cannot be imported: {type(error).__name__}: {why}") from error
