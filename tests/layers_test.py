"""Imports go down, or stay in their own folder. The floors are those of the README's house."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]

FLOORS = (
    {"lm.core"},
    {"lm.nn", "lm.losses", "lm.metrics", "lm.text"},
    {"lm.models", "lm.data"},
    {"lm.decode", "lm.report"},
    {"lm.evals"},
    {"lm.train", "lm.serve"},
    {"lm.rlhf"},
    {"lm.studies", "lm.plan"},
    {"lm"},  # `lm/__init__.py` itself: what a notebook gets from `import lm`
    {"experiments"},
    {"launch", "lm.evals.harness"},  # commands; the second is where users of lm-eval look
)
FLOOR = {folder: number for number, floor in enumerate(FLOORS) for folder in floor}


def folder_of(module: str) -> str | None:
    """The folder a module belongs to: `lm.nn.norms` is of `lm.nn`; none of ours is None. A module
    that has a floor of its own is a folder by itself."""
    if module in FLOOR:
        return module
    top, *rest = module.split(".")
    if top not in ("lm", "experiments", "launch"):
        return None
    return f"lm.{rest[0]}" if top == "lm" and rest else top


def module_of(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, source: str) -> list[str]:
    """Every module that a file imports, in a function or under a condition as well."""
    package = module_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            name = ".".join(base + ([node.module] if node.module else []))
            # `from lm import train` names a folder only in its last part.
            found += [f"{name}.{alias.name}" for alias in node.names] if name == "lm" else [name]
    return found


def wrong_imports(path: Path, source: str) -> list[str]:
    """One line for each import that goes up, or across to another folder of the same floor."""
    home = folder_of(module_of(path))
    if home not in FLOOR:
        return [f"{path}: {home} has no floor; give it one in {Path(__file__).name}"]
    wrong = []
    for module in imported(path, source):
        folder = folder_of(module)
        if folder is None or folder == home:
            continue
        if folder not in FLOOR:  # `from lm import load`: a name of `lm/__init__.py`
            folder = "lm"
        if folder != home and FLOOR[folder] >= FLOOR[home]:
            way = "up" if FLOOR[folder] > FLOOR[home] else "across"
            wrong.append(f"{path}: imports {module}, which is {way} from {home}")
    return wrong


def test_imports_go_down_or_stay_in_their_folder():
    files = [p for top in ("lm", "experiments", "launch") for p in (ROOT / top).rglob("*.py")]
    assert len(files) > 10
    wrong = [w for p in files for w in wrong_imports(p.relative_to(ROOT), p.read_text("utf-8"))]
    assert not wrong, "\n".join(sorted(wrong))


def test_a_planted_upward_import_is_caught():
    norms = Path("lm/nn/norms.py")
    for line in (
        "import lm.models.gpt",
        "from lm.models.gpt import Gpt",
        "from lm.models import gpt",
        "from lm import models",
        "from ..models import gpt",
        "from .. import models",
        "def later():\n    from lm.train.step import train_step",
        "import lm",
        "import experiments.gpt2",
        "from launch import command",
    ):
        (found,) = wrong_imports(norms, line)
        assert found.startswith("lm/nn/norms.py: imports ") and " up from lm.nn" in found


def test_an_import_across_a_floor_is_caught():
    (found,) = wrong_imports(Path("lm/losses/ppo.py"), "from lm.nn import norms")
    assert found.endswith("across from lm.losses")
    (found,) = wrong_imports(Path("lm/serve/api.py"), "from lm.train.state import TrainState")
    assert found.endswith("across from lm.serve")


def test_lm_may_not_import_experiments_or_launch():
    for line in ("import experiments.gpt2", "from launch.command import run"):
        assert wrong_imports(Path("lm/studies/sweep.py"), line)
        assert wrong_imports(Path("lm/__init__.py"), line)


def test_imports_down_and_at_home_are_allowed():
    source = "import jax\nfrom lm.core.axes import B\nfrom .norms import LayerNorm\nimport os.path"
    assert wrong_imports(Path("lm/nn/blocks.py"), source) == []
    assert wrong_imports(Path("launch/train.py"), "import experiments\nfrom lm import load") == []
    assert wrong_imports(Path("lm/__init__.py"), "from lm.train.pretrain import Pretrain") == []


def test_a_command_in_a_folder_stands_on_its_own_floor():
    harness = Path("lm/evals/harness.py")
    assert wrong_imports(harness, "from lm import load\nimport lm.evals.scorer") == []
    assert wrong_imports(Path("lm/evals/scorer.py"), "from lm.evals.harness import register")
    assert wrong_imports(Path("lm/evals/scorer.py"), "from lm import load")
    assert wrong_imports(harness, "from launch import command")


def test_a_folder_without_a_floor_is_named():
    (found,) = wrong_imports(Path("lm/attic/old.py"), "")
    assert "lm.attic has no floor" in found
