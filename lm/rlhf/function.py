"""A reward that is a function of the user's own, found by its name.

One that has worked may ask a judge elsewhere, which does not answer now: it is called again a few
times before that ends the run.
"""

import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lm.core.errors import ConfigError, DataError, FunctionError
from lm.core.modules import users_module
from lm.core.paths import at_home

PAUSES = (1, 5, 25)  # seconds before a function that failed is called again


class Scorer(Protocol):
    """Scores of texts."""

    def __call__(
        self, prompts: Sequence[Any], answers: Sequence[str], ended: Sequence[bool] | None = None
    ) -> np.ndarray:
        """[B] float32. Only who reads tokens asks whether each answer has ended; None: all have."""


def named(name: str) -> Callable[[list[Any], list[str]], Any]:
    """The function `module:name`, or `path/to/file.py:name`.

    Raises:
      ConfigError: there is none.
    """
    module_name, colon, function = name.rpartition(":")
    if not colon or not module_name:
        raise ConfigError(f"reward.function={name}: write module:name, or path/to/file.py:name")
    module = users_module(module_name, f"reward.function={name}")
    found = getattr(module, function, None)
    if found is None:
        raise ConfigError(f"reward.function={name}: {module_name} has no {function}")
    if not callable(found):
        raise ConfigError(f"reward.function={name} is a {type(found).__name__}, not a function")
    return found


def file_digest(name: str) -> str:
    """Of the file that a function which was imported is in; "" where it is in none."""
    module, _, _ = name.rpartition(":")
    found = getattr(sys.modules.get(module), "__file__", None)
    path = at_home(module) if module.endswith(".py") else found
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] if path else ""


def checked(
    name: str, function: Callable[[list[Any], list[str]], Any], worked: bool = False
) -> Scorer:
    """The function, its errors told in one line and its answer as [B] float32.

    Args:
      worked: whether it has before, as in the run that goes on.
    """

    def scores(
        prompts: Sequence[Any], answers: Sequence[str], ended: Sequence[bool] | None = None
    ) -> np.ndarray:
        """Raises DataError where the function fails at once, FunctionError where it had worked."""
        nonlocal worked
        del ended
        for pause in (*PAUSES, None):
            try:
                said = np.asarray(function(list(prompts), list(answers)), np.float32)
                if said.shape == (len(answers),):
                    worked = True
                    return said
                wrong = (
                    f"gave an array of shape {said.shape} for {len(answers)} answers: return one "
                    "number each"
                )
            except (Exception, SystemExit) as error:  # it is the user's: it may raise anything
                wrong = f"raised {type(error).__name__}: {' '.join(str(error).split())}"
            wrong = f"reward.function={name} {wrong}"
            if not worked:
                raise DataError(wrong)
            if pause is not None:
                print(f"warning: {wrong}; called again in {pause} s", file=sys.stderr, flush=True)
                time.sleep(pause)
        raise FunctionError(f"{wrong}; it was called {len(PAUSES) + 1} times")

    return scores


def finite(scores: np.ndarray, whose: str) -> np.ndarray:
    """The scores, to be compared or averaged. Raises DataError where one is not a number."""
    wrong = scores[~np.isfinite(scores)]
    if wrong.size:
        raise DataError(
            f"{whose} gave {wrong[0]} for {wrong.size} of {scores.size} answers: it must give "
            "numbers; correct the reward model or function"
        )
    return scores
