"""The study with a programmed labeler: its rule, its second scorer, its command."""

import json

import pytest

from experiments import sweeps
from lm.core.config import bind
from lm.core.errors import ConfigError
from lm.report.record import Record
from lm.rlhf.gold import descriptive, plain, tidy
from lm.studies import alignment_report, conversation_report
from lm.studies.alignment_report import told
from lm.studies.gold_report import accuracies, gain, shown, taxes, verdict
from tests.studies.demonstrated import bindings

pytestmark = pytest.mark.usefixtures("one_device")


def seeds(*tables):
    """Measures, from (prompted, sft, ppo) of each seed; both scorers agree."""
    return [
        {name: {"gold": score, "second": score} for name, score in
         zip(("prompted", "sft", "ppo"), table, strict=True)}
        for table in tables
    ]  # fmt: skip


def test_shown_is_every_step_above_twice_its_spread_by_both_scorers():
    clear = seeds((0.1, 0.5, 0.9), (0.12, 0.5, 0.92), (0.1, 0.52, 0.9))
    assert shown(clear) and verdict(clear).startswith("shown")
    noisy = seeds((0.1, 0.5, 0.9), (0.4, 0.5, 0.6), (0.1, 0.2, 0.9))
    assert gain(noisy, "gold", "prompted", "sft")[0] > 0
    assert not shown(noisy) and verdict(noisy).startswith("not shown")
    assert not shown(clear[:1])  # one seed has no spread
    clear[0]["ppo"]["second"] = 0.0  # one scorer alone is not enough
    assert not shown(clear)


def test_the_tax_is_repaired_where_half_of_it_is_gone():
    assert "does not repair" in taxes({"PPO": [0.2, 0.2], "PPO-ptx": [0.15, 0.15]})[-1]
    assert "repairs" in taxes({"PPO": [0.2, 0.2], "PPO-ptx": [0.05, 0.05]})[-1]
    assert "unknown" in taxes({})[-1]


@pytest.mark.parametrize("mixed", [[0.3, -0.2, 0.1], [-0.1, 0.4, 0.1]])
def test_whether_half_of_the_tax_is_gone_is_open_where_the_seeds_disagree(mixed):
    assert "is not shown" in taxes({"PPO": [0.2, 0.21, 0.19], "PPO-ptx": mixed})[-1]


@pytest.mark.parametrize(
    ("plain", "mixed"),
    [([-0.1, -0.12], [-0.2, -0.2]), ([0.5, -0.45], [0.01, 0.01]), ([0.2], [0.05])],
)
def test_of_a_tax_that_is_not_there_nothing_is_repaired(plain, mixed):
    assert taxes({"PPO": plain, "PPO-ptx": mixed})[-1].startswith("No tax is shown")


def test_of_labelers_held_out_the_reports_say_how_they_were_met_or_that_there_are_none():
    none = {"reward model: valid_accuracy": 0.7}
    some = none | {"reward model: labelers_accuracy": 0.65}
    for tell in (lambda one: accuracies([one]), lambda one: map(str, told(one))):
        without, with_some = (" ".join(tell(one)) for one in (none, some))
        assert "none" in without and "labelers held out" in without
        assert "none" not in with_some and "0.65" in with_some


def test_the_second_scorer_counts_four_signs():
    good, shout = "It is a red house.", "is is a red! house"
    assert tidy(["", ""], [good, shout]) == [1.0, 0.0]
    assert tidy([""], [""]) == [0.0]


def test_a_plain_word_counts_once_however_often_it_comes():
    assert plain(["", ""], ["You go with the cat to a tree.", "tree cat"]) == [7.5, 0.0]
    assert plain([""], ["the the the the the the the the"]) == [1.25]
    assert plain([""], ["the of and to a in is it"])[0] > 5  # the control: other words
    assert plain([""], [""]) == descriptive([""], [""]) == [0.0]


def test_a_study_without_scorers_is_refused():
    with pytest.raises(ConfigError, match="scorers"):
        bind(sweeps.gold(), {"second.function": "None"})


@pytest.mark.parametrize("made", [sweeps.gold, sweeps.overoptimization])
def test_what_would_stop_a_step_of_the_pipeline_is_told_before_the_base_is_trained(made, tmp_path):
    for changes, said in (
        ({"pipeline.ppo.prompt_length": "150"}, r"answer_length \d+ is more than .* 160: set one"),
        ({"pipeline.sft.length": "161"}, "^pipeline.sft.length 161 is more than base.model.length"),
        ({"pipeline.reward.length": "161"}, "^pipeline.reward.length 161 is more than"),
        ({"pipeline.ppo.data.train": "mine"}, "would do nothing"),
        ({"pipeline.judge.function": "lm.rlhf.gold:no"}, "lm.rlhf.gold"),
    ):
        with pytest.raises(ConfigError, match=said) as error:
            bind(made(), changes).run(tmp_path / "run")
        assert "\n" not in str(error.value) and not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="^pipeline.ppo_ptx.prompt_length"):
        bind(sweeps.gold(), {"pipeline.ppo_ptx.prompt_length": "150"}).run(tmp_path / "run")


class Stop(Exception):
    pass


@pytest.mark.parametrize("module", [alignment_report, conversation_report])
def test_a_pipeline_is_not_done_before_its_page_is_there(module, tmp_path, monkeypatch):
    def write(page, *_):
        assert page == tmp_path / "report.html" and not (tmp_path / "summary.json").exists()
        raise Stop

    row = {"step": 0, "valid_reward": 0.0, "valid_kl": 0.0}
    record = Record("", [row], {}, [], samples={0: ""}, summary={"best_of_n": [], "rows": 1})
    monkeypatch.setattr(module, "read_run", lambda _: record)
    monkeypatch.setattr(module, "write_page", write)
    tell = {
        alignment_report: lambda: alignment_report.write_alignment(tmp_path),
        conversation_report: lambda: conversation_report.write_conversing(tmp_path, 1),
    }[module]
    with pytest.raises(Stop):
        tell()
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(module, "write_page", lambda page, *_: page)
    assert tell() == tmp_path / "report.html"
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.slow
def test_one_command_trains_every_policy_and_tells_what_they_are_worth(tmp_path):
    short = {f"pipeline.{name}.{field}": value for name in ("ppo", "ppo_ptx") for field, value in
             (("steps", "2"), ("best_of", "2"), ("evaluate_prompts", "8"), ("batch", "32"),
              ("prompt_length", "16"), ("answer_length", "16"))}  # fmt: skip
    study = bind(sweeps.gold(), bindings(tmp_path) | short | {"prompts": "8", "draws": "2"})
    study.run(tmp_path / "study")
    report = (tmp_path / "study" / "report.md").read_text()
    assert report.startswith("not shown")  # one seed shows nothing
    measured = json.loads((tmp_path / "study" / "0" / "measured.json").read_text())
    assert set(measured) == {"prompted", "sft", "ppo", "ppo_ptx"}
    assert measured["sft"]["items"] == 16
    before = (tmp_path / "study" / "0" / "base" / "metrics.jsonl").stat().st_mtime
    study.run(tmp_path / "study")  # all is there: it tells again
    assert (tmp_path / "study" / "0" / "base" / "metrics.jsonl").stat().st_mtime == before
