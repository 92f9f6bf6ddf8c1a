"""Experiments as nested frozen dataclasses whose fields are bound by dotted names.

An experiment is a function that returns a config. `bind` replaces fields by name, `dump` writes
every resolved binding as `name = literal`, one a line, and `load` builds the config again from
that text. Values are literals, never code. jax is not imported here.
"""

import ast
import dataclasses
import difflib
import importlib
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lm.core.errors import ConfigError
from lm.core.literals import coerce, convert, fits, mistyped, shown

MANY = 100  # names that are told of a config in which one is not found; of more, those like it

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
        raise ConfigError(f"cannot read the binding {shown(text)}: write name=value")
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
    if len(known) > MANY:
        like = difflib.get_close_matches(name, known, n=9, cutoff=0.5)
        told = ", ".join([f"{len(known)} in all", *dict.fromkeys([*near[:1], *like])])
        return ConfigError(f"unknown binding {name}; {hint}known names: {told}")
    return ConfigError(f"unknown binding {name}; {hint}known names: {', '.join(known)}")


def typed(config: Any, prefix: str = "") -> Any:
    """A config made in Python as `bind` would have it: ints as floats and lists as tuples, where
    its fields are annotated so. Text stays as it is.

    Raises:
      ConfigError: a value of another type than its field's.
    """
    changes = {}
    for name, kind in field_types(type(config)).items():
        value = getattr(config, name)
        if not fits(value, kind):
            raise mistyped(value, kind, prefix + name)
        inner = is_config(value)
        changes[name] = typed(value, f"{prefix}{name}.") if inner else coerce(value, kind)
    return dataclasses.replace(config, **changes)


def _conflict(whole: str, part: str) -> ConfigError:
    return ConfigError(f"conflicting bindings: {whole} and {part}")


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
            raise ConfigError(
                f"{where}:{number}: expected name = literal, got {shown(line)}"
            ) from None
        if name in values and values[name] != value:
            raise ConfigError(
                f"{where}:{number}: {name} is bound to {shown(values[name])} and {shown(value)}"
            )
        values[name] = value
    return values


def load(text: str, where: str = "config") -> Any:
    """The config that `dump` wrote. Only config classes of this project are built.

    A value may say under which names it was written before: metadata={"was": (...)}.

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
    former = {old: f.name for f in dataclasses.fields(cls) for old in f.metadata.get("was", ())}
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        if not name.startswith(prefix) or name == prefix + CLASS:
            continue
        head, _, rest = name[len(prefix) :].partition(".")
        head = former.get(head, head)
        if head not in known:
            raise unknown_name(name, [prefix + field for field in known])
        if rest and prefix + head in values:
            raise _conflict(prefix + head, name)
        if not rest:  # text that fits as it is was not written to be read again
            kind, fit = known[head], fits(value, known[head])
            arguments[head] = coerce(value, kind) if fit else convert(value, kind, name)
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
        raise ConfigError(f"{where}: {shown(path)} is not a config class of lm")
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
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
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
