"""Experiments as nested frozen dataclasses whose fields are bound by dotted names.

An experiment is a function that returns a config. `bind` replaces fields by name, `dump` writes
every resolved binding as `name = literal`, one a line, and `load` builds the config again from
that text. Values are literals, never code. jax is not imported here.
"""

import ast
import collections.abc
import dataclasses
import difflib
import importlib
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Union, get_args, get_origin

from lm.core.errors import ConfigError

CLASS = "class"  # `model.class = "lm.models.gpt.GptConfig"`: which dataclass stands there


def is_config(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def field_types(cls: type) -> dict[str, Any]:
    """The fields of a config class and their resolved annotations."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def bindings(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every leaf of a config by dotted name, in the order of its fields; classes as `x.class`."""
    flat: dict[str, Any] = {
        prefix + CLASS: f"{type(config).__module__}.{type(config).__qualname__}"
    }
    for name in field_types(type(config)):
        value = getattr(config, name)
        if is_config(value):
            flat |= bindings(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def dump(config: Any) -> str:
    """The resolved bindings as text that `load` reads back.

    Raises:
      ConfigError: a class that `load` would not build, such as a user's own.
    """
    flat = bindings(config)
    for name, value in flat.items():
        if name.rpartition(".")[2] == CLASS and _class_of_lm(value) is None:
            raise ConfigError(
                f"{name}: no run of {value} could be read back, for it is no config class of lm: "
                "take one of lm's own, as replace(gpt2.tiny(), steps=9) does, or add yours to lm"
            )
    return "".join(f"{name} = {value!r}\n" for name, value in flat.items())


def assignment(text: str) -> tuple[str, str]:
    """`"optim.peak_lr=3e-4"` -> `("optim.peak_lr", "3e-4")`. Raises ConfigError without `=`."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"cannot read the binding {text!r}: write name=value")
    return name.strip(), value.strip()


def bind(config: Any, values: Mapping[str, Any]) -> Any:
    """A config with fields replaced by dotted name.

    A string is read as its field's type demands; anything else must already have that type. All
    the fields of one config are replaced at once, so that relations are checked only on the result.

    A field may say under which names of other configs it is looked for: metadata={"also": (...)}.

    Raises:
      ConfigError: an unknown name (with the nearest right one), a wrong type, a broken relation.
    """
    return _bind(config, dict(values), "")


def _bind(config: Any, values: dict[str, Any], prefix: str) -> Any:
    types_of = field_types(type(config))
    inner: dict[str, dict[str, Any]] = {}
    changes: dict[str, Any] = {}
    for name, value in values.items():
        head, _, rest = name.partition(".")
        if head not in types_of or (rest and not is_config(getattr(config, head))):
            meant = (f for f in dataclasses.fields(config) if head in f.metadata.get("also", ()))
            near = [prefix + field.name for field in meant]
            raise unknown_name(prefix + name, [prefix + known for known in bindings(config)], near)
        if rest:
            inner.setdefault(head, {})[rest] = value
        else:
            changes[head] = convert(value, types_of[head], prefix + head)
    for head, below in inner.items():
        if head in changes:
            raise _conflict(prefix + head, f"{prefix}{head}.{next(iter(below))}")
        changes[head] = _bind(getattr(config, head), below, f"{prefix}{head}.")
    with _named(types_of, prefix):
        return dataclasses.replace(config, **changes)


@contextmanager
def _named(fields: Mapping[str, Any], prefix: str) -> Iterator[None]:
    """Has the error of a relation that opens with one of these fields say its dotted name."""
    try:
        yield
    except ConfigError as error:
        first = re.match(r"\w+", str(error))
        if prefix and first and first[0] in fields:
            raise ConfigError(f"{prefix}{error}") from None
        raise


def unknown_name(name: str, known: list[str], near: Sequence[str] = ()) -> ConfigError:
    known = [other for other in known if not other.endswith(CLASS)]
    leaves = [other.rpartition(".")[2] for other in known]
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not near:  # a field's own name without its path: `peak_lr` for `optim.peak_lr`
        near = [known[leaves.index(leaf)] for leaf in difflib.get_close_matches(name, leaves, n=1)]
    hint = f"did you mean {near[0]}? " if near else ""
    return ConfigError(f"unknown binding {name}; {hint}known names: {', '.join(known)}")


def convert(value: Any, kind: Any, name: str) -> Any:
    """`value` as the annotated type `kind`; text is parsed as a literal where `kind` is not text.

    Raises:
      ConfigError: the value is of another type, or a float that is not finite.
    """
    if isinstance(value, str):
        for candidate in _readings(value):
            if _fits(candidate, kind):
                return _coerce(candidate, kind)
    elif _fits(value, kind):
        return _coerce(value, kind)
    raise _mistyped(value, kind, name)


def typed(config: Any, prefix: str = "") -> Any:
    """A config made in Python as `bind` would have it: ints as floats and lists as tuples, where
    its fields are annotated so. Text stays as it is.

    Raises:
      ConfigError: a value of another type than its field's.
    """
    changes = {}
    for name, kind in field_types(type(config)).items():
        value = getattr(config, name)
        if not _fits(value, kind):
            raise _mistyped(value, kind, prefix + name)
        inner = is_config(value)
        changes[name] = typed(value, f"{prefix}{name}.") if inner else _coerce(value, kind)
    return dataclasses.replace(config, **changes)


def _mistyped(value: Any, kind: Any, name: str) -> ConfigError:
    meant = [(one,) for one in _readings(value)] if isinstance(value, str) else []
    hint = next((f"; write it as {one!r}" for one in meant if _fits(one, kind)), "")
    return ConfigError(f"{name}: expected {_describe(kind)}, got {value!r}{hint}")


def _conflict(whole: str, part: str) -> ConfigError:
    return ConfigError(f"conflicting bindings: {whole} and {part}")


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


def _fits(value: Any, kind: Any) -> bool:
    origin = get_origin(kind)
    if kind is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(kind))
    if origin is Literal:
        return value in get_args(kind) and type(value) in {type(a) for a in get_args(kind)}
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return False
        items = get_args(kind)
        if len(items) == 2 and items[1] is Ellipsis:
            return all(_fits(item, items[0]) for item in value)
        return len(items) == len(value) and all(map(_fits, value, items))
    if origin in (dict, collections.abc.Mapping):
        key, item = get_args(kind)
        return isinstance(value, dict) and all(
            _fits(k, key) and _fits(v, item) for k, v in value.items()
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


def _coerce(value: Any, kind: Any) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _coerce(value, next(option for option in get_args(kind) if _fits(value, option)))
    if origin is tuple:
        items = get_args(kind)
        kinds = items[:1] * len(value) if items[-1] is Ellipsis else items
        return tuple(map(_coerce, value, kinds))
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


def parse(text: str, where: str = "config") -> dict[str, Any]:
    """The bindings of a dumped config. Comments start with `#`.

    Raises:
      ConfigError: a line that is no `name = literal`, or two values for one name.
    """
    values: dict[str, Any] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            name, literal = assignment(line)
            value = ast.literal_eval(literal)
        except (ConfigError, ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise ConfigError(f"{where}:{number}: expected name = literal, got {line!r}") from None
        if name in values and values[name] != value:
            raise ConfigError(
                f"{where}:{number}: {name} is bound to {values[name]!r} and {value!r}"
            )
        values[name] = value
    return values


def load(text: str, where: str = "config") -> Any:
    """The config that `dump` wrote. Only config classes of this project are built.

    Raises:
      ConfigError: a malformed line, an unknown class or field, a missing or mistyped value, a
        value of a config beside values of its fields.
    """
    return _build(parse(text, where), "", where)


def _build(values: dict[str, Any], prefix: str, where: str) -> Any:
    if prefix + CLASS not in values:
        raise ConfigError(
            f"{where}: {prefix}{CLASS} is missing; is this a config.gin of this project?"
        )
    cls = _config_class(values[prefix + CLASS], where)
    known = field_types(cls)
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        if not name.startswith(prefix) or name == prefix + CLASS:
            continue
        head, _, rest = name[len(prefix) :].partition(".")
        if head not in known:
            raise unknown_name(name, [prefix + field for field in known])
        if rest and prefix + head in values:
            raise _conflict(prefix + head, name)
        if not rest:  # text that fits as it is was not written to be read again
            kind = known[head]
            fits = _fits(value, kind)
            arguments[head] = _coerce(value, kind) if fits else convert(value, kind, name)
        elif head not in arguments:
            below = _build(values, f"{prefix}{head}.", where)
            arguments[head] = convert(below, known[head], prefix + head)
    try:
        with _named(known, prefix):
            return cls(**arguments)
    except TypeError as error:
        raise ConfigError(f"{where}: {cls.__name__}: {error}") from None


def _config_class(path: str, where: str) -> type:
    found = _class_of_lm(str(path))
    if found is None:
        raise ConfigError(f"{where}: {path!r} is not a config class of lm")
    return found


def _class_of_lm(path: str) -> type | None:
    module, _, name = path.rpartition(".")
    if module.split(".")[0] != "lm":
        return None
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
    return found if isinstance(found, type) and dataclasses.is_dataclass(found) else None


def read(path: Any) -> Any:
    """The config that a file holds. Raises ConfigError where it cannot be read, or holds none."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    return load(text, str(path))


def differences(old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    """The bindings in which two configs differ, as name -> (old, new); absent ones are None."""
    before, after = bindings(old), bindings(new)
    names = list(before) + [name for name in after if name not in before]
    return {
        name: (before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    }


def require(condition: bool, message: str) -> None:
    """Raises ConfigError with `message` unless `condition`: for relations in `__post_init__`."""
    if not condition:
        raise ConfigError(message)


def require_positive(config: Any, *names: str) -> None:
    """Raises ConfigError unless each named field is None or greater than zero."""
    for name in names:
        value = getattr(config, name)
        require(value is None or value > 0, f"{name} must be positive, got {value!r}")


def require_at_least_zero(config: Any, *names: str) -> None:
    """Raises ConfigError unless each named field is None or at least 0."""
    for name in names:
        value = getattr(config, name)
        require(value is None or value >= 0, f"{name} must be >= 0, got {value}")


def require_fraction(config: Any, *names: str) -> None:
    """Raises ConfigError unless each named field is at least 0 and below 1."""
    for name in names:
        value = getattr(config, name)
        require(0 <= value < 1, f"{name} must be at least 0 and below 1, got {value}")
