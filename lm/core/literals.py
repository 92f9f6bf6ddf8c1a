"""Values of annotated types, read from text as literals and never as code."""

import ast
import collections.abc
import math
import types
from typing import Any, Literal, Union, get_args, get_origin

from lm.core.errors import ConfigError

SHOWN = 60  # characters of a value that a message tells


def convert(value: Any, kind: Any, name: str) -> Any:
    """`value` as the annotated type `kind`; text is parsed as a literal where `kind` is not text.

    Raises:
      ConfigError: the value is of another type, or a float that is not finite.
    """
    if isinstance(value, str):
        for candidate in _readings(value):
            if fits(candidate, kind):
                return coerce(candidate, kind)
    elif fits(value, kind):
        return coerce(value, kind)
    raise mistyped(value, kind, name)


def mistyped(value: Any, kind: Any, name: str) -> ConfigError:
    meant = [(one,) for one in _readings(value)] if isinstance(value, str) else []
    hint = next((f"; write it as {one!r}" for one in meant if fits(one, kind)), "")
    return ConfigError(f"{name}: expected {_describe(kind)}, got {shown(value)}{hint}")


def shown(value: Any) -> str:
    """A value as a message has it: a file of no config may be one line of a megabyte."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _readings(text: str) -> list[Any]:
    """What a text may mean, the literal first: `3e-4` a float, `'a'` and `a` a string."""
    spelled = {"true": True, "false": False, "none": None}
    if text.lower() in spelled:
        return [spelled[text.lower()], text]
    try:
        return [ast.literal_eval(text), text]
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return [text, *_listed(text)]


def _listed(text: str) -> list[tuple[str, ...]]:
    """The words between commas, around which a pair of brackets may stand, as the one reading of a
    tuple; none where a comma may be within quotes or brackets."""
    inside = text[1:-1] if text[:1] + text[-1:] in ("()", "[]") else text
    if set(inside) & set("()[]{}'\""):
        return [] if "," in text else [(text,)]
    words = [word.strip() for word in inside.split(",")]
    return [tuple(words if words[-1] else words[:-1])]  # nothing is no word


def fits(value: Any, kind: Any) -> bool:
    origin = get_origin(kind)
    if kind is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, option) for option in get_args(kind))
    if origin is Literal:
        return value in get_args(kind) and type(value) in {type(a) for a in get_args(kind)}
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return False
        items = get_args(kind)
        if len(items) == 2 and items[1] is Ellipsis:
            return all(fits(item, items[0]) for item in value)
        return len(items) == len(value) and all(map(fits, value, items))
    if origin in (dict, collections.abc.Mapping):
        key, item = get_args(kind)
        return isinstance(value, dict) and all(
            fits(k, key) and fits(v, item) for k, v in value.items()
        )
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and _finite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind if isinstance(kind, type) else type(None))


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that no float can hold
        return False


def coerce(value: Any, kind: Any) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return coerce(value, next(option for option in get_args(kind) if fits(value, option)))
    if origin is tuple:
        items = get_args(kind)
        kinds = items[:1] * len(value) if items[-1] is Ellipsis else items
        return tuple(map(coerce, value, kinds))
    return float(value) if kind is float else value


def _describe(kind: Any) -> str:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(option) for option in get_args(kind))
    if origin is Literal:
        return "one of " + ", ".join(repr(option) for option in get_args(kind))
    if kind is float:
        return "a finite float"
    return {types.NoneType: "None", int: "an int", str: "a string", bool: "True or False"}.get(
        kind, getattr(kind, "__name__", str(kind)) if origin is None else str(kind)
    )
