"""The commands of the README, and of pages and docstrings, are of what exists: their modules, their
flags, their experiments with what is bound in them. Those that need little are run as well."""

import dataclasses
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch import experiment
from lm.core.config import assignment, bind
from lm.data.tasks import TaskConfig, read
from lm.data.tasks.forms import COLUMNS
from lm.models.vision import VisionConfig
from lm.train import visual
from tests.launched import TINY, environment, write_text

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^python -m (launch\.\w+) (.*)$", README, re.M)


@pytest.mark.parametrize("module, line", COMMANDS)
def test_a_command_of_the_readme_names_what_exists(module, line):
    source = (ROOT / (module.replace(".", "/") + ".py")).read_text()
    shared = re.findall(r"^from launch import (.+)$", source, re.M)  # whose flags it has too
    for name in ["experiment", *", ".join(shared).split(", ")]:
        if name:
            source += (ROOT / "launch" / f"{name}.py").read_text()
    for word in shlex.split(line):
        flag, _, value = word.removeprefix("--").partition("=")
        if word.startswith("--"):
            assert f'"{flag}"' in source, f"{module} has no --{flag}"
        if flag == "experiment":
            experiment.resolve(value)


def documented():
    """Every command that names an experiment, and where it stands."""
    folders = ("launch/*.py", "experiments/*.py", "lm/**/*.py", "results/*.md")
    for path in (ROOT / "README.md", *(path for each in folders for path in ROOT.glob(each))):
        text = re.sub(r"\\{1,2}\n\s*", " ", path.read_text())
        for line in re.findall(r"python -m (launch\.\w+ [^`\n]*--experiment=[^`\n]*)", text):
            yield path.relative_to(ROOT), line


@pytest.mark.parametrize("where, line", list(documented()))
def test_a_documented_command_binds_what_its_experiment_has(where, line):
    words = shlex.split(re.sub(r"(--(?:set|experiment)) ", r"\1=", line), comments=True)
    values = {flag: [word.removeprefix(flag) for word in words if word.startswith(flag)]
              for flag in ("--experiment=", "--set=")}  # fmt: skip
    for name in values["--experiment="]:
        if ":" in name:  # or it stands for one, as EXPERIMENT does
            bind(experiment.resolve(name), dict(map(assignment, values["--set="])))


@pytest.mark.parametrize("encoder, image", [("CLIP", 336), ("SIGLIP", 378)])
def test_the_readme_s_encoders_leave_128_places_for_text(encoder, image, monkeypatch):
    """CLIP ViT-L/14 and SigLIP So400m/14, by their config.json."""
    (line,) = (line for _, line in COMMANDS if f"encoder={encoder} " in line)
    words = shlex.split(line.replace("--set ", "--set="))
    flags = [word.partition("=")[::2] for word in words]
    (name,) = (value for flag, value in flags if flag == "--experiment")
    sets = dict(assignment(value) for flag, value in flags if flag == "--set")
    config = bind(experiment.resolve(name), sets)
    found = VisionConfig(layers=2, width=64, heads=1, patch=14, image=image)
    monkeypatch.setattr(visual, "read_encoder", lambda folder: (found, {}))
    model = dataclasses.replace(config.model, vision=config.eye())
    assert model.vision.image == image and config.length - model.slots == 128


def test_the_readme_has_commands():
    assert len(COMMANDS) >= 5
    assert len(list(documented())) >= 80


ROWS = re.findall(rf"^({'|'.join(COLUMNS)}) +(\{{.*\}})$", README, re.M)


def test_the_readme_has_a_row_of_every_kind_of_task():
    assert {kind for kind, _ in ROWS} == set(COLUMNS) and len(ROWS) == 6


@pytest.mark.parametrize("kind, line", ROWS)
def test_rows_of_the_readme_are_read_whole_as_their_kind(kind, line, tmp_path):
    for part in ("train", "valid"):
        (tmp_path / f"{part}.jsonl").write_text(line + "\n")
    task = read(TaskConfig(name=kind, root=str(tmp_path)))
    (record,), (right,), row = task.train, task.references("train"), json.loads(line)
    known = {name for names in COLUMNS[kind].values() for name in names}
    assert row.keys() <= known
    told = dataclasses.asdict(record)
    for name in row.keys() & {"text", "pair", "choices", "question", "words"}:
        assert told[name] == (tuple(row[name]) if isinstance(row[name], list) else row[name])
    if kind == "classification":
        assert task.labels[right] == row["label"]
    elif kind == "span":
        assert right == ("cat",) and told["passage"] == row["context"]
    else:
        assert right == (tuple(row["tags"]) if kind == "tagging" else row["label"])


SMALL = TINY | {
    "steps": 2, "model.length": 256, "model.vocab": 269, "tokenizer.kind": "bytes",
    "loop.sample_tokens": 4, "data.cache": "cache",
}  # fmt: skip


def the_one(begin):
    """The words of the command of the README that begins so."""
    found = re.findall(rf"^(?:.*`)?python -m ({re.escape(begin)}[^`\n]*)", README, re.M)
    assert len(found) == 1, f"{len(found)} commands of the README begin with {begin}"
    return shlex.split(found[0], comments=True)


def runs(folder, *words):
    """What a command says in a folder, where it ends well."""
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr}"
    return done.stdout


def test_the_readme_s_experiment_of_ones_own_is_bound_as_it_stands(tmp_path):
    (code,) = (
        block for block in re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
        if "experiments import" in block
    )  # fmt: skip
    (flag,) = re.findall(r"`(--experiment='mine.py:[^`]*)`", README)
    (tmp_path / "mine.py").write_text(code)
    bound = runs(tmp_path, "-m", "launch.train", *shlex.split(flag), "--dry_run")
    assert "model.width = 256\n" in bound and "seed = 0\n" in bound


@pytest.mark.slow
def test_the_readme_s_commands_on_a_text_of_ones_own_run_as_they_stand(tmp_path):
    """From the folder of a user whose text and data are in FOLDER and DATA."""
    (tmp_path / "FOLDER").mkdir()
    write_text(tmp_path / "FOLDER" / "text.txt")
    (tmp_path / "DATA" / "nq_open").mkdir(parents=True)
    rows = [{"question": "who", "answer": ["Al"]}] * 8
    questions = tmp_path / "DATA" / "nq_open" / "NQ-open.dev.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def command(begin, *more):
        return runs(tmp_path, "-m", *the_one(begin), *more)

    sets = [f"--set={name}={value}" for name, value in SMALL.items()]
    command("launch.train --experiment=gpt2:tiny --set data.train=FOLDER", *sets)
    for other in ("runs/demo", "RUN"):
        shutil.copytree(tmp_path / "runs" / "mine", tmp_path / other)
    assert "Once upon" in command("launch.sample --workdir=runs/mine --prompt=", "--max_tokens=2")
    (tmp_path / "asked.jsonl").write_text('{"prompt": "It was"}\n')
    command("launch.sample --workdir=runs/mine --prompts=", "--max_tokens=2")
    assert len((tmp_path / "written.jsonl").read_text().splitlines()) == 4
    command("launch.report --runs=runs/demo,runs/mine")
    assert {"demo", "mine"} <= set(re.findall(r"\w+", (tmp_path / "both.html").read_text()))
    assert "natural_questions" in command("launch.evaluate --workdir=RUN --suite=gpt2", "--limit=2")
