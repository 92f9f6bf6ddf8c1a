"""What a grid of runs makes of its values, which it picks, and what it refuses before it begins."""

import json
import math
from dataclasses import replace

import jax
import pytest

from experiments import gpt2, instructgpt, sweeps
from launch.experiment import resolve
from lm.core.config import bind, dump, load
from lm.core.errors import ConfigError, DataError, GuardStop
from lm.data.tasks import TaskConfig
from lm.data.tokens import TextConfig
from lm.studies.grid import Grid
from lm.text.tokenizer import TokenizerConfig
from lm.train.finetune import Finetune
from lm.train.pretrain import Pretrain
from tests.launched import write_text
from tests.train.finetune_test import MODELS, OPTIM, classified, pretrained

RATES, BATCHES = ("optim.peak_lr", (1e-3, 3e-3, 1e-2)), ("batch", (16, 32))
GRID = Grid(base=gpt2.tiny(), over=(BATCHES, RATES), seeds=(0, 1))


def toy(run):
    """Best at a rate of 3e-3 and a batch of 32; seed 1 is a hundredth better."""
    return abs(math.log(run.optim.peak_lr / 3e-3)) + 16 / run.batch - 0.01 * run.seed


@pytest.fixture
def ran(monkeypatch):
    """The members that were run, each with a summary as of a run."""
    done = []

    def run(config, workdir, process=None):
        done.append(config)
        if config.optim.peak_lr > 1:
            raise GuardStop("loss nan at step 7")
        workdir.mkdir(parents=True, exist_ok=True)
        told = {"valid_loss": toy(config), "steps": config.steps}
        if isinstance(config, Finetune):
            told = {"metric": "accuracy", "accuracy": 1 - 1e4 * abs(config.optim.peak_lr - 4e-5)}
        (workdir / "summary.json").write_text(json.dumps(told))

    monkeypatch.setattr(Pretrain, "run", run)
    monkeypatch.setattr(Finetune, "run", run)
    return done


def told(workdir):
    return json.loads((workdir / "summary.json").read_text())


def rows(workdir):
    """The lines of the table below its header, as cells."""
    lines = (workdir / "table.md").read_text().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_combination_is_a_run_under_every_seed_and_the_table_has_the_best_first(
    ran, tmp_path, capsys
):
    GRID.run(tmp_path)
    made = [(one.batch, one.optim.peak_lr, one.seed) for one in ran]
    assert made == [(b, rate, s) for b in (16, 32) for rate in RATES[1] for s in (0, 1)]
    for one in ran:  # and nothing else of the experiment is changed
        assert bind(one, {"batch": 16, "optim.peak_lr": 1e-3, "seed": 0}) == bind(
            gpt2.tiny(), {"batch": 16, "optim.peak_lr": 1e-3}
        )
    best = "batch=32-optim.peak_lr=0.003"
    assert told(tmp_path)["best"] == best and (tmp_path / best / "1" / "summary.json").exists()
    assert f"the best is {tmp_path / best}" in capsys.readouterr().out
    table = rows(tmp_path)
    assert table[0] == ["32", "0.003", "0.4950 ± 0.0071", "0.5000 0.4900", "best"]
    means = [float(row[2].split()[0]) for row in table]
    assert len(means) == 6 and means == sorted(means)
    figure = (tmp_path / "figure.svg").read_text()
    assert "batch=16" in figure and "valid_loss over optim.peak_lr" in figure


def test_the_same_command_goes_on_with_what_is_not_done_and_values_may_be_added(ran, tmp_path):
    GRID.run(tmp_path)
    GRID.run(tmp_path)
    assert len(ran) == 12
    replace(GRID, over=(BATCHES, ("optim.peak_lr", (1e-3, 2e-3))), seeds=(0, 1, 2)).run(tmp_path)
    assert [(one.optim.peak_lr, one.seed) for one in ran[12:15]] == [
        (1e-3, 2), (2e-3, 0), (2e-3, 1),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="has results of other settings: base.steps was"):
        replace(GRID, base=replace(GRID.base, steps=9)).run(tmp_path)


@pytest.mark.parametrize("damaged", ["", "{", "\x00" * 64, "[1]"], ids=range(4))
def test_a_member_whose_summary_is_damaged_is_run_again(ran, tmp_path, damaged):
    GRID.run(tmp_path)
    best = told(tmp_path)["best"]
    (tmp_path / best / "1" / "summary.json").write_text(damaged)
    GRID.run(tmp_path)
    assert len(ran) == 13 and ran[12] == ran[[*GRID.members()].index(f"{best}/1")]
    assert told(tmp_path)["best"] == best


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ((("optim.peek_lr", (1e-3,)),), "peek_lr=0.001/0: unknown binding optim.peek_lr; did you "),
        ((BATCHES, ("steps", (9, "many"))), "steps=many/0: steps: expected an int, got 'many'"),
        ((("batch", (16, -1)),), "batch=-1/0: batch must be positive, got -1"),
        ((), "over is empty"),
        ((("batch", ()),), "over batch is empty"),
        ((("batch", (16, 16)),), r"over batch has \[16\] twice"),
        ((BATCHES, BATCHES), r"over has \['batch'\] twice"),
        ((("seed", (0, 1)),), "over has seed: give seeds"),
    ],
)
def test_a_name_or_a_value_that_cannot_be_is_told_before_anything_is_trained(ran, over, said):
    with pytest.raises(ConfigError, match=said):
        Grid(base=gpt2.tiny(), over=over)
    assert not ran


def test_another_figure_picks_the_best_without_running_anything_again(ran, tmp_path):
    study = replace(GRID, over=(("steps", (5, 7)),))
    study.run(tmp_path)
    replace(study, metric="steps", best="highest").run(tmp_path)
    assert told(tmp_path)["best"] == "steps=7" and told(tmp_path)["metric"] == "steps"
    replace(study, metric="steps", best="lowest").run(tmp_path)
    assert told(tmp_path)["best"] == "steps=5" and len(ran) == 4
    with pytest.raises(DataError, match="has no figure loss; set metric and best, of valid_loss, "):
        replace(study, metric="loss", best="lowest").run(tmp_path)
    with pytest.raises(ConfigError, match="metric=loss and best=None: set both"):
        replace(study, metric="loss")


def test_a_member_that_its_guard_stops_is_told_and_the_others_go_on(ran, tmp_path):
    study = replace(GRID, over=(("optim.peak_lr", (9.0, 1e-3, 3e-3)),))
    study.run(tmp_path)
    assert len(ran) == 6
    last = rows(tmp_path)[-1]
    assert last[:2] == ["9.0", "-"] and last[-1] == "stopped under 2 of the seeds"
    assert told(tmp_path)["members"]["optim.peak_lr=9.0"]["stopped"] == 2 * ["loss nan at step 7"]
    assert told(tmp_path)["best"] == "optim.peak_lr=0.003"
    with pytest.raises(GuardStop, match="every member was stopped, the last by: loss nan at"):
        replace(study, over=(("optim.peak_lr", (9.0,)),)).run(tmp_path / "far")


@pytest.mark.filterwarnings("error")  # nor is any said of a figure without lines
@pytest.mark.parametrize("value", [None, math.nan], ids=["stopped", "not_a_number"])
def test_none_is_the_best_where_no_combination_has_a_finite_figure_under_every_seed(
    monkeypatch, tmp_path, capsys, value
):
    def run(config, workdir, process=None):
        if value is None and config.seed:
            raise GuardStop("loss nan at step 7")
        workdir.mkdir(parents=True)
        told = {"valid_loss": value if config.seed else toy(config)}
        (workdir / "summary.json").write_text(json.dumps(told))

    monkeypatch.setattr(Pretrain, "run", run)
    replace(GRID, over=(RATES,)).run(tmp_path)
    assert "none is the best: no combination has a finite valid_loss" in capsys.readouterr().out
    assert all(row[1] == "-" and row[-1] != "best" for row in rows(tmp_path))
    assert told(tmp_path)["best"] is None
    values = told(tmp_path)["members"]["optim.peak_lr=0.003"]["values"]
    assert values == ([1.0] if value is None else [1.0, None])


def test_values_that_are_no_numbers_are_bars_and_have_a_folder_each(ran, tmp_path):
    patterns = (("dense",), ("dense", "banded"))
    replace(GRID, over=(("model.pattern", patterns), BATCHES)[::-1], seeds=(0,)).run(tmp_path)
    assert len(list(tmp_path.glob("batch=*-model.pattern=*/0/summary.json"))) == 4
    assert "valid_loss over model.pattern" in (tmp_path / "figure.svg").read_text()


def test_the_command_names_the_experiment_and_the_values():
    study = resolve(
        'sweeps:grid(experiment="gpt2:shakespeare_char_cpu", over=(("batch", [4, 8]),))'
    )
    assert study.base == gpt2.shakespeare_char_cpu() and study.over == (("batch", (4, 8)),)
    assert load(dump(study), "config.gin") == study
    with pytest.raises(ConfigError, match="unknown generation 'gpt22'; did you mean gpt2"):
        resolve('sweeps:grid(experiment="gpt22:tiny")')
    with pytest.raises(ConfigError, match=r"unknown binding bach; did you mean batch"):
        resolve('sweeps:grid(over=(("bach", (4, 8)),))')


@pytest.mark.parametrize(
    "said",
    ['over=(("batch", (8,)))', 'over=(("batch", 8),)', "seeds=1", "experiment=5"],
)
def test_an_argument_of_another_type_such_as_without_its_comma_is_told_by_its_name(said):
    name = said.partition("=")[0]
    with pytest.raises(ConfigError, match=f"sweeps:grid: {name}: expected .*, got "):
        resolve(f"sweeps:grid({said})")


@pytest.mark.usefixtures("one_device")
def test_members_are_ordinary_runs_of_the_experiment(tmp_path):
    tiny = gpt2.tiny()
    base = replace(
        tiny, model=replace(tiny.model, layers=1, width=16, heads=2, length=16), steps=2, batch=2,
        optim=replace(tiny.optim, warmup_tokens=0), trigram=False, evaluate_batches=1,
        loop=replace(tiny.loop, sample_tokens=0), tokenizer=TokenizerConfig(kind="bytes"),
        data=TextConfig(train=str(write_text(tmp_path / "a")), cache=str(tmp_path / "cache")),
    )  # fmt: skip
    study = Grid(base=base, over=(("optim.peak_lr", (1e-7, 3e-2)),))
    study.run(tmp_path / "study")
    best = told(tmp_path / "study")["best"]
    assert best == "optim.peak_lr=0.03"  # two steps learn something, at the other rate nothing
    for place, member in study.members().items():
        assert load((tmp_path / "study" / place / "config.gin").read_text(), place) == member
        assert (tmp_path / "study" / place / "report.html").exists()


def test_each_of_berts_rates_is_a_run_and_the_best_on_dev_is_picked(ran, tmp_path):
    study = sweeps.bert_rates("squad2")
    study.run(tmp_path)
    assert [one.optim.peak_lr for one in ran] == [5e-5, 4e-5, 3e-5, 2e-5]
    assert {one.epochs for one in ran} == {2.0}  # the task's own
    assert told(tmp_path)["metric"] == "accuracy"  # more of it is better
    assert told(tmp_path)["best"] == "optim.peak_lr=4e-05"


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_a_rate_that_learns_is_picked_before_one_that_does_not(tmp_path):
    some = [classified(number) for number in range(160)]
    for part, chosen in (("train", some[40:]), ("valid", some[:40])):
        lines = "".join(json.dumps(row) + "\n" for row in chosen)
        (tmp_path / f"{part}.jsonl").write_text(lines)
    data = TaskConfig(name="classification", root=str(tmp_path))
    init = str(pretrained(tmp_path / "bert", MODELS["bert"]))
    tuning = Finetune(
        data=data, init=init, optim=OPTIM, batch=16, length=40, head_dropout=0.0, epochs=12.0
    )
    Grid(base=tuning, over=(("optim.peak_lr", (1e-7, 5e-3)),)).run(tmp_path / "study")
    assert told(tmp_path / "study")["best"] == "optim.peak_lr=0.005"


def test_a_member_that_cannot_be_run_ends_no_other_and_is_told_behind_the_table(
    ran, tmp_path, monkeypatch
):
    run = Pretrain.run
    bad: dict[int, Exception] = {16: DataError("no text in none\nat all")}

    def failing(config, workdir, process=None):
        if config.batch in bad:
            raise bad[config.batch]
        run(config, workdir, process)

    monkeypatch.setattr(Pretrain, "run", failing)
    grid = replace(GRID, over=(("batch", (16, 32, 64)),), seeds=(0,))
    with pytest.raises(
        ConfigError, match=r"^1 of 3 members .*, first batch=16/0: no text in none$"
    ):
        grid.run(tmp_path)
    assert len(ran) == 2 and told(tmp_path)["best"] == "batch=64"
    assert [row[0] for row in rows(tmp_path)] == ["64", "32", "16"]
    bad |= {32: jax.errors.JaxRuntimeError("out of memory"), 64: GuardStop("loss nan")}
    with pytest.raises(ConfigError, match=r"^2 of 3 members"):
        replace(grid, seeds=(1,)).run(tmp_path / "other")
    del bad[16]
    bad[32] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        grid.run(tmp_path / "third")


def test_members_of_another_tokenizer_are_compared_by_the_byte(ran, tmp_path, monkeypatch):
    def run(config, workdir, process=None):
        workdir.mkdir(parents=True)
        size = config.tokenizer.vocab
        told = {"valid_loss": size / 100, "valid_bits_per_byte": 1e3 / size}
        (workdir / "summary.json").write_text(json.dumps(told))

    monkeypatch.setattr(Pretrain, "run", run)
    grid = Grid(base=gpt2.tiny(), over=(("tokenizer.vocab", (300, 512)),))
    grid.run(tmp_path)
    assert told(tmp_path)["metric"] == "valid_bits_per_byte"
    assert told(tmp_path)["best"] == "tokenizer.vocab=512"
    replace(grid, metric="valid_loss", best="lowest").run(tmp_path)
    assert told(tmp_path)["best"] == "tokenizer.vocab=300"

    def masked(config, workdir, process=None):  # a loss a word, and none a byte
        workdir.mkdir(parents=True)
        (workdir / "summary.json").write_text(json.dumps({"valid_loss": 1.0}))

    monkeypatch.setattr(Pretrain, "run", masked)
    grid.run(tmp_path / "masked")
    assert told(tmp_path / "masked")["metric"] == "valid_loss"
    assert told(tmp_path / "masked")["best"] is None


def test_members_that_are_measured_on_other_text_have_no_best_among_them(ran, tmp_path, capsys):
    axis = ("data.valid_fraction", (0.1, 0.2))
    grid = Grid(base=gpt2.tiny(), over=(axis, ("batch", (16, 32))))
    grid.run(tmp_path / "a")
    assert told(tmp_path / "a")["best"] is None and len(rows(tmp_path / "a")) == 4
    assert "under another data.valid_fraction other text may be" in capsys.readouterr().out
    replace(grid, metric="valid_loss", best="lowest").run(tmp_path / "b")
    assert told(tmp_path / "b")["best"].endswith("batch=32")
    texts = Grid(base=gpt2.tiny(), over=(("data.train", ("a", "b")),))
    texts.run(tmp_path / "c")
    assert told(tmp_path / "c")["best"] is None
    same = bind(gpt2.tiny(), {"data.valid": "held_out"})
    replace(texts, base=same).run(tmp_path / "d")
    assert told(tmp_path / "d")["best"] is not None


def test_where_an_experiment_has_no_seed_of_its_own_its_steps_have_the_members():
    base = instructgpt.pipeline()
    members = Grid(base=base, over=(("ppo.kl.beta", (0.1, 0.2)),), seeds=(0, 7)).members()
    assert len(members) == 4
    for place, member in members.items():
        steps = (member.sft, member.reward, member.ppo, member.ppo_ptx)
        assert {step.seed for step in steps} == {int(place[-1])}
    assert members["ppo.kl.beta=0.2/0"].ppo.kl.beta == 0.2
    study = Grid(base=sweeps.capacity(), over=(("base.optim.b2", (0.95, 0.99)),), seeds=(3,))
    assert {one.seeds for one in study.members().values()} == {(3,)}


def test_of_several_processes_none_goes_on_past_a_member_in_which_others_may_wait(
    tmp_path, monkeypatch
):
    def failing(config, workdir, process=None):
        raise DataError("no text in none")

    monkeypatch.setattr(Pretrain, "run", failing)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(DataError, match="no text in none"):
        replace(GRID, seeds=(0,)).run(tmp_path)
