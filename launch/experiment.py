"""Experiments by name, and the flags with which commands choose and bind one."""

import ast
import difflib
import importlib
import inspect
import reprlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

from absl import flags

from lm.core.config import assignment, bind, is_config, read, typed
from lm.core.errors import ConfigError
from lm.core.literals import coerce, fits, mistyped
from lm.core.modules import reason, users_module
from lm.core.paths import run_path

EXPERIMENT = flags.DEFINE_string(
    "experiment",
    None,
    "What to run: gpt2:small, 'gpt3:train(size=\"175b\")', path/to/mine.py:name.",
)
GIN_FILE = flags.DEFINE_string("gin_file", None, "A saved config.gin to run again, instead.")
SET = flags.DEFINE_multi_string("set", [], "A binding, name=value; may be given many times.")

FOLDER = Path(__file__).parents[1] / "experiments"


def configured() -> Any:
    """The experiment that the flags name, with their bindings.

    Raises:
      ConfigError: no or two experiments named, an unknown one, a binding that cannot be made.
    """
    if (EXPERIMENT.value is None) == (GIN_FILE.value is None):
        raise ConfigError(
            "name one of --experiment=GENERATION:NAME and --gin_file=config.gin; see --list"
        )
    values: dict[str, str] = {}
    for text in SET.value:
        name, value = assignment(text)
        if values.get(name, value) != value:
            print(
                f"warning: {name} is set to {values[name]!r} and {value!r}; using {value!r}",
                file=sys.stderr,
            )
        values[name] = value
    if GIN_FILE.value is not None:
        path = run_path(GIN_FILE.value)
        if not path.is_file():
            raise ConfigError(f"--gin_file={path}: no such file")
        return bind(read(path), values)
    return bind(resolve(str(EXPERIMENT.value)), values)


def resolve(spec: str) -> Any:
    """The config of `module:name` or `module:name(argument=literal, ...)`.

    `gpt2:small` is function `small` of experiments/gpt2.py; where there is none it is the `size` of
    its `train`. Arguments are literals and are never evaluated as code; one that is an experiment
    itself is given by its name.

    Raises:
      ConfigError: there is none, an argument or a field of its config is of another type than it
        is annotated with, or a function of the user's own raises something or returns no
        experiment.
    """
    path, parenthesis, arguments_text = spec.partition("(")  # an argument may hold a colon
    module_name, _, name = path.rpartition(":")
    call = name + parenthesis + arguments_text
    if not module_name or not call:
        raise ConfigError(
            f"--experiment={spec}: write GENERATION:NAME, such as gpt2:tiny; see --list"
        )
    name, arguments = parsed(call, spec)
    module = module_of(module_name)
    users = module_name.endswith(".py")
    known = own(module) if users else functions(module)

    def unknown(why: str = "") -> ConfigError:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {module_name}:{near[0]}? " if near and near[0] != name else ""
        has = ", ".join(known) or "no function"
        return ConfigError(f"unknown experiment {spec}{why}; {hint}{module_name} has: {has}")

    if name in known:
        function = known[name]
    elif (
        not arguments
        and "train" in known
        and "size" in inspect.signature(known["train"]).parameters
    ):
        function, arguments = known["train"], {"size": name}
    else:
        raise unknown()
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise unknown(f": {error}") from None
    if users:
        return typed(returned(function, arguments, spec))
    takes = get_type_hints(function)
    for key, value in arguments.items():
        kind = takes[key]
        found = resolve(value) if isinstance(value, str) and hasattr(kind, "run") else value
        if not fits(found, kind):
            raise mistyped(found, kind, f"{module_name}:{name}: {key}")
        arguments[key] = coerce(found, kind)
    try:
        return typed(function(**arguments))
    except KeyError as error:  # a size or a task that is not in its table: the summary lists sizes
        why = f": {error} is not of {module_name}:{function.__name__}, {summary(function)!r}"
        raise unknown(why) from None
    except TypeError as error:
        raise unknown(f": {error}") from None


def returned(function: Callable[..., Any], arguments: dict[str, Any], spec: str) -> Any:
    """What a function of the user's own returns. Raises ConfigError where that is no experiment."""
    try:
        config = function(**arguments)
    except (Exception, SystemExit) as error:  # it is the user's: it may raise anything
        why = reason(error, inspect.getfile(function))
        raise ConfigError(f"--experiment={spec} raised {why}") from error
    if not is_config(config) or not hasattr(config, "run"):
        raise ConfigError(
            f"--experiment={spec} returned {reprlib.repr(config)}, which is no experiment: return "
            "one, such as replace(gpt2.tiny(), steps=9)"
        )
    return config


def parsed(call: str, spec: str) -> tuple[str, dict[str, Any]]:
    if "(" not in call:
        return call, {}
    try:
        tree = ast.parse(call, mode="eval").body
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or tree.args:
            raise ValueError
        return tree.func.id, {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise ConfigError(
            f"cannot read {spec!r}: write NAME(argument=literal, ...), in quotes for the shell"
        ) from None


def module_of(name: str) -> Any:
    if name.endswith(".py"):
        return users_module(name, f"--experiment={name}")
    known = generations()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"unknown generation {name!r}; {hint}known: {', '.join(known)}")
    return importlib.import_module(f"experiments.{name}")


def generations() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


def own(module: Any) -> dict[str, Callable[..., Any]]:
    """The functions that a module defines itself."""
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    }


def functions(module: Any) -> dict[str, Callable[..., Any]]:
    """The experiments of one of our modules: its functions that say they return a config."""
    return {
        name: value
        for name, value in own(module).items()
        if hasattr(get_type_hints(value).get("return"), "run")
        and all(p.default is not p.empty for p in inspect.signature(value).parameters.values())
    }


def summary(function: Callable[..., Any]) -> str:
    """The first line of a function's docstring."""
    return (inspect.getdoc(function) or "").partition("\n")[0]


def listing() -> str:
    """Every experiment: its name, parameter count (a dash where one makes no sense), first line."""
    rows = []
    for generation in generations():
        module = importlib.import_module(f"experiments.{generation}")
        for name, function in functions(module).items():
            count = parameters(function())
            shown = f"{count:,}" if count else "-"
            rows.append((f"{generation}:{name}", shown, summary(function)))
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return "\n".join(f"{name:<{widths[0]}}  {n:>{widths[1]}}  {doc}" for name, n, doc in rows)


def parameters(config: Any) -> int | None:
    """The parameter count of an experiment that trains one model."""
    model = getattr(config, "model", None)  # pipelines and sweeps have none
    return model.parameters() if model is not None else None
