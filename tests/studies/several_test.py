"""Where a study begins: nothing of another run is lost, and what is done keeps its settings."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import chatgpt, gpt2, instructgpt, sweeps
from lm.core.config import bind, dump, load
from lm.core.errors import ConfigError, DataError
from lm.data.prompts import RowsConfig
from lm.rlhf.scores import RewardConfig
from lm.studies import alignment, several
from lm.studies.several import begin, check_begun, check_used, evaluated
from lm.train.lock import locked
from lm.train.process import Process
from lm.train.resume import changed_bindings
from tests.rlhf.runs import write_rows

PLAN = instructgpt.pipeline()
GIVEN = {"init": "base", "judge": RewardConfig(function="lm.data.smalltalk:gold")}
ALIGNMENT = replace(PLAN, **GIVEN)
CONVERSING = replace(chatgpt.pipeline(), **GIVEN)
ANCESTOR = replace(instructgpt.sentiment(), **GIVEN)


def held(workdir):
    return (workdir / "config.gin").read_text()


def test_a_directory_of_another_run_is_left_as_it_is(tmp_path):
    (tmp_path / "config.gin").write_text(dump(gpt2.tiny()))
    with pytest.raises(ConfigError, match=r"holds a .*Pretrain.*, not .*Alignment.*choose another"):
        begin(tmp_path, PLAN)
    assert held(tmp_path) == dump(gpt2.tiny())


def test_what_there_are_results_of_may_not_change(tmp_path):
    begin(tmp_path, PLAN)
    other = replace(PLAN, labeling=replace(PLAN.labeling, noise=3.0))
    with pytest.raises(ConfigError, match=r"labeling.noise was 0.1, now 3.0; choose another"):
        begin(tmp_path, other, ["sft.", "labeling."])
    assert load(held(tmp_path), "a") == PLAN
    begin(tmp_path, other, ["sft."])
    assert load(held(tmp_path), "a") == other


def measured(folder, *files):
    """A study that has left these files, and is not what they hold."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("{}")


STUDIES = [
    (ALIGNMENT, "sft/summary.json", {"init": "other"}, {"comparisons": "people"}),
    (ALIGNMENT, "sft/summary.json", {"demonstrations": "other"}, {"ppo.steps": "9"}),
    (ALIGNMENT, "comparisons.jsonl", {"labeling.noise": "3.0"}, {"ppo.steps": "9"}),
    (ALIGNMENT, "comparisons.jsonl", {"ppo.prompt_length": "9"}, {"ppo_ptx.prompt_length": "9"}),
    (ALIGNMENT, "comparisons.jsonl", {"ppo.answer_length": "9"}, {"ppo.temperature": "0.3"}),
    (ALIGNMENT, "comparisons.jsonl", {"ppo.data.per_user": "3"}, {"ppo.seed": "9"}),
    (ALIGNMENT, "reward/summary.json", {"comparisons": "people"}, {"ppo.steps": "9"}),
    (
        ALIGNMENT,
        "ppo/summary.json",
        {"judge.function": "lm.rlhf.gold:tidy"},
        {"ppo_ptx.steps": "9"},
    ),
    (CONVERSING, "sft/summary.json", {"init": "other"}, {"labeling.noise": "3.0"}),
    (CONVERSING, "1/labels.jsonl", {"labeling.noise": "3.0"}, {"ppo.steps": "9"}),
    (CONVERSING, "1/labels.jsonl", {"labeling.noise": "3.0"}, {"ppo.answer_length": "9"}),
    (CONVERSING, "1/labeling.json", {"ppo.prompt_length": "9"}, {"ppo.steps": "9"}),
    (CONVERSING, "1/labeling.json", {"ppo.data.per_user": "3"}, {"ppo.seed": "9"}),
    (CONVERSING, "2/labeling.json", {"ppo.answer_length": "9"}, {"ppo.steps": "9"}),
    (CONVERSING, "1/ppo/summary.json", {"ppo.steps": "9"}, {"rounds": "3"}),
    (ANCESTOR, "prompts.jsonl", {"init": "other"}, {"labeling.noise": "3.0"}),
    (ANCESTOR, "prompts.jsonl", {"excerpts": "9"}, {"labeling.noise": "3.0"}),
    (ANCESTOR, "comparisons.jsonl", {"labeling.noise": "3.0"}, {"ppo.steps": "9"}),
    (ANCESTOR, "prompts.jsonl", {"ppo.prompt_length": "9"}, {"ppo.temperature": "0.3"}),
    (ANCESTOR, "prompts.jsonl", {"ppo.seed": "9"}, {"ppo.answer_length": "9"}),
    (ANCESTOR, "comparisons.jsonl", {"ppo.answer_length": "9"}, {"ppo.value_optim.b1": "0.5"}),
    (ANCESTOR, "comparisons.jsonl", {"ppo.temperature": "0.3"}, {"ppo.reward.normalise": "9"}),
    (ANCESTOR, "comparisons.jsonl", {"ppo.fixed_length": "False"}, {"reward.epochs": "2.0"}),
    (ANCESTOR, "comparisons.jsonl", {"ppo.reward.truncation.after": "3"}, {"ppo.steps": "9"}),
    (ANCESTOR, "comparisons.jsonl", {"ppo.data.valid_fraction": "0.3"}, {"ppo.steps": "9"}),
    (ANCESTOR, "reward/summary.json", {"init": "other"}, {"ppo.steps": "9"}),
    (sweeps.gold(), "0/measured.json", {"draws": "9"}, {"title": "another"}),
    (sweeps.gold(), "0/pipeline/summary.json", {"pipeline.ppo.steps": "9"}, {"draws": "9"}),
    (sweeps.overoptimization(), "0/proxy/summary.json", {"second.function": "a:b"}, {"title": "b"}),
    (
        sweeps.overoptimization(),
        "0/pipeline/comparisons.jsonl",
        {"pipeline.labeling.answers": "(4, 4)"},
        {"pipeline.ppo.steps": "9"},
    ),
    (
        sweeps.overoptimization(),
        "0/pipeline/comparisons.jsonl",
        {"pipeline.ppo.answer_length": "9"},
        {"pipeline.ppo.kl.beta": "9.0"},
    ),
    (
        sweeps.overoptimization(),
        "0/proxy/metrics.jsonl",
        {"pipeline.ppo.loop.evaluate_every": "20"},
        {"pipeline.ppo.loop.log_every": "9"},
    ),
    (
        sweeps.conversation(),
        "0/chat/1/ppo/metrics.jsonl",
        {"chat.ppo.loop.evaluate_every": "7"},
        {"chat.sft.loop.evaluate_every": "7"},
    ),
    (sweeps.conversation(), "0/data/text.txt", {"talk.wrong": "0.5"}, {"base.steps": "9"}),
    (sweeps.conversation(), "1/chat/summary.json", {"chat.rounds": "3"}, {"seeds": "(0,1,2,3)"}),
    (sweeps.capacity(), "a/0/answers.json", {"items": "9"}, {"base.steps": "9"}),
    (sweeps.forecast(), "a/summary.json", {"base.steps": "9"}, {"samples": "9"}),
    (sweeps.forecast(), "a/config.gin", {"base.seed": "9"}, {"base.steps": "9"}),
    (sweeps.forecast(), "forecast.json", {"confidence": "0.5"}, {"samples": "9"}),
    (sweeps.sparse_critique(), "novels/a/0/summary.json", {"novels.steps": "9"}, {"held_out": "9"}),
    (sweeps.gold(), "0/base/checkpoints/5/x", {"base.steps": "9"}, {"pipeline.ppo.steps": "9"}),
    (
        sweeps.gold(),
        "0/pipeline/sft/checkpoints/5/x",
        {"pipeline.sft.epochs": "9.0"},
        {"pipeline.ppo.kl.beta": "9.0"},
    ),
    (
        sweeps.conversation(),
        "0/chat/1/ppo/checkpoints/5/x",
        {"chat.ppo.kl.beta": "9.0"},
        {"talk.wrong": "0.5"},
    ),
    (
        sweeps.overoptimization(),
        "0/control/checkpoints/5/x",
        {"pipeline.ppo.steps": "9"},
        {"base.steps": "9"},
    ),
    (sweeps.capacity(), "a/0/checkpoints/5/x", {"base.optim.clip": "0.5"}, {"items": "9"}),
    (sweeps.forecast(), "a/checkpoints/5/x", {"base.optim.clip": "0.5"}, {"samples": "9"}),
    (
        sweeps.sparse_critique(),
        "novels/a/0/checkpoints/5/x",
        {"recall.steps": "9"},
        {"held_out": "9"},
    ),
    (
        sweeps.pretraining(),
        "pretrained/bert/checkpoints/5/x",
        {"bert.steps": "9"},
        {"gpt1.steps": "9"},
    ),
    (
        sweeps.pretraining(),
        "cola/bert/0/checkpoints/5/x",
        {"bert_tuning.epochs": "9.0"},
        {"seeds": "(0,)"},
    ),
    (
        sweeps.pretraining(),
        "pretrained/bert/summary.json",
        {"bert.steps": "9"},
        {"gpt1.steps": "9"},
    ),
]


@pytest.mark.parametrize(("study", "file", "refused", "taken"), STUDIES)
def test_a_study_with_results_takes_no_settings_but_of_what_is_left(
    study, file, refused, taken, tmp_path, monkeypatch
):
    class Begun(Exception):
        pass

    def begin(*given):
        several.begin(*given)
        raise Begun

    monkeypatch.setattr(sys.modules[type(study).__module__], "begin", begin)
    with pytest.raises(Begun):
        study.run(tmp_path)
    measured(tmp_path, file)
    with pytest.raises(ConfigError, match=rf"{next(iter(refused))} was .*; choose another"):
        bind(study, refused).run(tmp_path)
    assert load(held(tmp_path), "a") == study
    with pytest.raises(Begun):
        bind(study, taken).run(tmp_path)


KINDS = {type(one): one for one in (ALIGNMENT, CONVERSING, ANCESTOR, *(row[0] for row in STUDIES))}


@pytest.mark.parametrize("study", KINDS.values(), ids=lambda one: type(one).__name__)
def test_a_second_job_changes_nothing_in_the_directory_of_a_study(study, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(
        sys.modules[type(study).__module__], "begin", lambda *_: begun.append(1) or 1 / 0
    )
    with locked(tmp_path, steal=False):
        with pytest.raises(ConfigError, match="is in use by .*--steal_lock") as error:
            study.run(tmp_path)
        assert not begun and "\n" not in str(error.value)
        with pytest.raises(ZeroDivisionError):
            study.run(tmp_path, Process(steal_lock=True))
    with pytest.raises(ZeroDivisionError):
        study.run(tmp_path)
    assert len(begun) == 2 and not list(tmp_path.iterdir())


def test_a_list_of_named_things_may_grow_and_none_of_them_may_change(tmp_path):
    study = sweeps.pretraining()
    begin(tmp_path, study)
    longer = replace(study, tasks=(*study.tasks, ("another", "steps=3")))
    begin(tmp_path, longer, ["tasks"])
    name, _ = study.tasks[0]
    with pytest.raises(ConfigError, match="tasks was"):
        begin(tmp_path, replace(longer, tasks=((name, "steps=3"), *longer.tasks[1:])), ["tasks"])


DOUBLED = {
    "sizes": (sweeps.capacity(), sweeps.forecast()), "patterns": (sweeps.sparse_critique(),),
    "cases": (sweeps.pretraining(),), "tasks": (sweeps.pretraining(),),
    "variants": (sweeps.bert_objectives(),),
}  # fmt: skip


@pytest.mark.parametrize(
    ("study", "name"), [(one, name) for name, some in DOUBLED.items() for one in some]
)
def test_two_runs_of_one_name_are_refused(study, name):
    things = getattr(study, name)
    label, *rest = things[0]
    if name in ("patterns", "cases"):
        label = f" {label.upper()}!"  # of which the folder is the same
    with pytest.raises(ConfigError, match=rf"^{name} has \[.*\] twice among .*$"):
        replace(study, **{name: (*things, (label, *rest))})


SEEDED = [one for one in KINDS.values() if hasattr(one, "seeds")]


@pytest.mark.parametrize("study", SEEDED, ids=lambda one: type(one).__name__)
def test_seeds_are_given_and_each_once(study):
    for seeds, said in (((), "seeds is empty"), ((0, 1, 0), r"seeds has \[0\] twice among .*$")):
        with pytest.raises(ConfigError, match=f"^{said}"):
            replace(study, seeds=seeds)
    assert len(SEEDED) == 6


def test_a_run_to_begin_with_may_be_spelled_otherwise_and_not_be_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun = replace(ALIGNMENT, init="runs/base")
    begin(tmp_path, begun, ["init"])
    begin(tmp_path, replace(begun, init=str(tmp_path / "runs/base")), ["init"])
    with pytest.raises(ConfigError, match="init was .*runs/base', now 'runs/other'"):
        begin(tmp_path, replace(begun, init="runs/other"), ["init"])


def test_a_study_and_its_steps_go_on_where_their_directory_is_spelled_otherwise(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    study, places = sweeps.conversation(), (Path("run"), tmp_path / "run")
    for before, now in (places, places[::-1]):
        for name, member in study.members(before, 0).items():
            again, folder = study.members(now, 0)[name], before / name
            begin(folder, member)
            begin(folder, again, [""])
            (folder / "config.gin").write_text(dump(member))  # as a run of its own
            assert not changed_bindings(folder, [1], again, allow_data=False)
    for rounds in (CONVERSING, ALIGNMENT):
        for name, member in rounds.members(places[0]).items():
            (places[0] / name).mkdir(parents=True, exist_ok=True)
            (places[0] / name / "config.gin").write_text(dump(member))
            again = rounds.members(places[1])[name]
            assert not changed_bindings(places[0] / name, [1], again, allow_data=False)
    other = ALIGNMENT.members(tmp_path / "other")["reward"]
    with pytest.raises(ConfigError, match=r"data.train: checkpoint 'run/comp.* other data or"):
        changed_bindings(places[0] / "reward", [1], other, allow_data=False)


def test_a_step_of_a_pipeline_goes_on_under_other_settings_until_it_has_ended(tmp_path):
    """As any run does, which is what is said where PPO left its reference."""
    begin(tmp_path, ALIGNMENT)
    measured(tmp_path, "ppo/checkpoints/5/x")
    calmer = bind(ALIGNMENT, {"ppo.kl.beta": "9.0"})
    begin(tmp_path, calmer, several.fixed(tmp_path, alignment.MADE_WITH))
    assert load(held(tmp_path), "a") == calmer


def test_how_a_step_is_made_may_always_change(tmp_path):
    begin(tmp_path, PLAN)
    often = replace(PLAN.sft, microbatches=2, loop=replace(PLAN.sft.loop, log_every=7))
    begin(tmp_path, replace(PLAN, sft=often), ["sft."])
    assert load(held(tmp_path), "a").sft == often


def test_a_model_may_be_computed_otherwise_for_another_mesh(tmp_path):
    model = gpt2.tiny().model
    plan = replace(PLAN, sft=replace(PLAN.sft, model=model))
    begin(tmp_path, plan)
    pod = replace(model, stream="length", narrow_products=True, remat="qkv")
    begin(tmp_path, replace(plan, sft=replace(plan.sft, model=pod)), ["sft."])
    assert load(held(tmp_path), "a").sft.model == pod
    with pytest.raises(ConfigError, match=r"sft.model.band was 256, now 8"):  # the control
        begin(tmp_path, bind(plan, {"sft.model.band": "8"}), ["sft."])


def test_runs_that_were_measured_at_other_updates_are_no_curve(tmp_path):
    def run(name, steps):
        (tmp_path / name).mkdir()
        rows = [{"step": step, "valid_gold": step / 2} for step in steps]
        lines = [json.dumps(row) for row in ({"step": 1, "reward": 0.0}, *rows)]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(lines))
        return tmp_path / name

    same = [run("0", (0, 16, 32)), run("1", (0, 16, 32))]
    steps, found = evaluated(same, ["gold"])
    assert steps == [0, 16, 32] and found["gold"].tolist() == [[0, 8, 16]] * 2
    for name, others in (("2", (0, 17, 32)), ("3", (0, 20))):
        with pytest.raises(DataError, match=rf"{name} was measured at .* such as \[16, ") as error:
            evaluated([*same, run(name, others)], ["gold"])
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["file/x", "file"])
def test_a_directory_that_cannot_be_made_is_one_line(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot use --workdir") as error:
        begin(tmp_path / name, PLAN)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("made", [instructgpt.pipeline, chatgpt.pipeline])
def test_the_steps_after_sft_start_from_the_step_that_a_reward_model_chose(made, tmp_path):
    def starts(plan):
        return {name: (Path(one.init or "").name, one.init_step)
                for name, one in plan.members(tmp_path).items() if name != "sft"}  # fmt: skip

    plain = made()
    chosen = replace(plain, sft=replace(plain.sft, reward=RewardConfig(run="liked")))
    assert starts(chosen) == starts(plain)  # SFT has not ended
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "summary.json").write_text('{"selected_step": 7}')
    for init, step in starts(chosen).values():
        assert step == (7 if init == "sft" else None)
    assert {step for _, step in starts(plain).values()} == {None}  # the control: nothing chose


@pytest.mark.parametrize("made", [instructgpt.pipeline, chatgpt.pipeline])
def test_a_reward_model_of_another_size_than_the_policy_begins_with_a_run_of_its_own(
    made, tmp_path
):
    plan = replace(made("1.3b"), init="pretrained")
    with pytest.raises(ConfigError, match=r"6,658,\d+,\d+ parameters .* --set reward.init=RUN"):
        plan.run(tmp_path)
    assert not list(tmp_path.iterdir())  # it is told before anything is trained
    own = replace(plan, reward=replace(plan.reward, init="runs/6b", init_step=7))
    for plan, init, step in ((own, "runs/6b", 7), (made("6b"), str(tmp_path / "sft"), None)):
        check_begun(plan.reward, plan.sft)
        members = plan.members(tmp_path)
        stage = members.get("reward") or members["1/reward"]
        assert (stage.init, stage.init_step) == (init, step)


def test_what_fine_tuning_holds_out_no_later_step_divides_otherwise(tmp_path):
    given = {
        "sft.data.between": "; ",
        "sft.data.valid_fraction": "0.3",
        "sft.data.valid": "v.jsonl",
    }
    made = bind(ALIGNMENT, given).members(tmp_path)
    for name in ("sft", "ppo", "ppo_ptx"):
        assert (made[name].data.between, made[name].data.valid_fraction) == ("; ", 0.3)
        assert made[name].data.valid == "v.jsonl"
    assert (made["reward"].data.between, made["reward"].data.valid_fraction) == ("; ", 0.3)


def test_people_s_rankings_are_no_study_of_a_toy_judge(tmp_path):
    study = bind(sweeps.gold(), {"pipeline.comparisons": "people.jsonl"})
    with pytest.raises(ConfigError, match="people's, .*: set pipeline.judge.function or"):
        study.check(tmp_path)
    bind(study, {"pipeline.judge.function": "lm.rlhf.gold:tidy"}).check(tmp_path)  # the control


IDLE = [
    (ALIGNMENT, "reward.demonstrations", "mine.jsonl", "data/demonstrations.jsonl"),
    (ALIGNMENT, "ppo.data.train", "prompts.jsonl", "data/demonstrations.jsonl"),
    (ALIGNMENT, "ppo_ptx.data.valid", "prompts.jsonl", "None"),
    (ALIGNMENT, "ppo.data.valid_fraction", "0.3", "0.1"),
    (ALIGNMENT, "reward.data.between", "so", ".*"),
    (ALIGNMENT, "ppo_ptx.gold.function", "a:b", "lm.data.smalltalk:gold"),
    (ALIGNMENT, "ppo.init", "other", ".*sft"),
    (ALIGNMENT, "ppo.reward.run", "other", ".*reward"),
    (ALIGNMENT, "ppo_ptx.reward.function", "a:b", "None"),
    (CONVERSING, "ppo.reward.function", "a:b", "None"),
    (CONVERSING, "ppo.data.asked", "last", "random"),
    (CONVERSING, "reward.data.valid_fraction", "0.3", "0.1"),
    (CONVERSING, "reward.demonstrations", "d.jsonl", "data/train.jsonl"),
    (ANCESTOR, "reward.data.train", "mine.jsonl", ".*comparisons.jsonl"),
    (ANCESTOR, "labeling.temperature", "0.3", "0.7"),
    (ANCESTOR, "labeling.truncation.mark", "!", "[.]"),
    (ANCESTOR, "judge.truncation.after", "3", "16"),
    (ALIGNMENT, "judge.truncation.mark", "!", "None"),
    (CONVERSING, "judge.truncation.mark", "!", "None"),
]


@pytest.mark.parametrize(("plan", "name", "value", "made"), IDLE)
def test_a_setting_of_a_step_that_the_pipeline_makes_another_is_refused(
    plan, name, value, made, tmp_path
):
    said = rf"^{name}='?{value}'? would do nothing: the pipeline sets it to '?{made}'?; leave .*$"
    with pytest.raises(ConfigError, match=said):
        bind(plan, {name: value}).run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("plan", "name", "value"),
    [(plan, "judge.normalise", "64") for plan in (ALIGNMENT, CONVERSING, ANCESTOR)]
    + [(ALIGNMENT, f"{name}.normalise", "64") for name in ("ppo.gold", "ppo.second", "sft.reward")]
    + [(CONVERSING, "sft.reward.truncation.after", "3"),
       (sweeps.gold(), "second.normalise", "64")],
)  # fmt: skip
def test_what_is_not_read_of_a_scorer_is_refused_before_anything_is_trained(
    plan, name, value, tmp_path
):
    scorer = re.escape(re.sub(r"[.](normalise|truncation.*)$", "", name))
    with pytest.raises(ConfigError, match=rf"^{scorer}\.\w+=.*{value}.* would do nothing") as told:
        bind(plan, {name: value}).run(tmp_path / "run")
    assert "\n" not in str(told.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("plan", [ALIGNMENT, CONVERSING])
def test_the_gold_score_is_of_as_much_of_an_answer_as_the_judge_was_shown(plan, tmp_path):
    def marks(**given):
        members = bind(plan, {name.replace("_", "."): given[name] for name in given})
        made = members.members(tmp_path)
        return {one.gold.truncation.mark for name, one in made.items() if "ppo" in name}

    assert marks(labeling_truncation_mark="!") == {"!"}
    people = {"comparisons": "people.jsonl"} if plan is ALIGNMENT else {}
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "labels.jsonl").write_text("{}")
    assert marks(judge_truncation_mark="?", **people) == {"?"}  # people were shown all


def test_of_peoples_rankings_the_program_that_a_pipeline_comes_with_is_no_gold_score(tmp_path):
    def gold(plan, folder=tmp_path):
        return {name: one.gold for name, one in plan.members(folder).items() if "ppo" in name}

    plan = instructgpt.pipeline()
    people = replace(plan, comparisons="people.jsonl")
    assert not any(one.given for one in gold(people).values())
    for one in (plan, replace(people, judge=GIVEN["judge"])):  # the controls
        assert set(gold(one).values()) == {one.judge}
    talk = chatgpt.pipeline()
    for number, others in (("1", ()), ("2", ("labeling.json",))):
        (tmp_path / number).mkdir()
        for name in ("labels.jsonl", *others):
            (tmp_path / number / name).write_text("{}")
    assert not any(one.given for one in gold(talk).values())  # both learn from what people ranked
    (tmp_path / "1" / "labeling.json").write_text("{}")
    assert set(gold(talk).values()) == {talk.judge}


@pytest.mark.parametrize("size", ["tiny", "1.3b", "6b", "175b"])
@pytest.mark.parametrize("made", [instructgpt.pipeline, chatgpt.pipeline])
def test_every_setting_of_the_steps_that_the_pipelines_come_with_does_something(
    made, size, tmp_path
):
    plan = replace(made(size), **GIVEN)
    check_used(plan, plan.members(tmp_path))


@pytest.mark.parametrize("plan", [ALIGNMENT, CONVERSING, ANCESTOR])
def test_how_a_pipelines_reward_is_normalised_and_cut_off_is_what_ppo_is_given(plan, tmp_path):
    given = {"ppo.reward.normalise": "64", "ppo.reward.truncation.mark": "!"}
    members = bind(plan, given).members(tmp_path)
    reward = (members.get("ppo") or members["2/ppo"]).reward
    assert (reward.normalise, reward.truncation.mark) == (64, "!") and "reward" in reward.run


@pytest.mark.parametrize(("labelers", "held_out"), [(1, ()), (2, ("judge 1",)), (5, ("judge 4",))])
def test_one_of_several_labelers_is_never_learned_from_and_a_single_one_is(
    tmp_path, labelers, held_out
):
    plan = bind(instructgpt.pipeline(), {"labeling.labelers": labelers})
    data = plan.members(tmp_path)["reward"].data
    assert data.held_out == held_out
    rows = [
        {"prompt": f"{name} {part}", "answers": ["a", "b"], "ranks": [0, 1], "labeler": name,
         "held_out": part == "valid"}
        for name in plan.labeling.names for part in ("train", "valid")
    ]  # fmt: skip
    write_rows(tmp_path / "comparisons.jsonl", rows)
    parts = data.parts()
    learned = {one.labeler for one in parts["train"]}
    assert learned == set(plan.labeling.names) - set(held_out)
    assert ("labelers" in parts) == (labelers > 1)
    few = [row | {"held_out": row["held_out"] and row["labeler"] == "judge 0"} for row in rows]
    write_rows(tmp_path / "comparisons.jsonl", few)
    assert plan.members(tmp_path)["reward"].data.parts()["valid"]  # of nobody else any is held out
    people = replace(plan, comparisons="people.jsonl").members(tmp_path)["reward"].data
    assert people.held_out == ()


@pytest.mark.parametrize("apart", [False, True])
def test_of_what_people_ranked_nothing_is_learned_that_the_other_steps_are_measured_on(
    tmp_path, apart, capsys
):
    shown = [{"prompt": f"ask {n}", "response": "a", "user": f"{n // 2}"} for n in range(100)]
    ranked = [{"prompt": f"ask {n}", "answers": ["a", "b"], "ranks": [0, 1]} for n in range(100)]
    plan = replace(
        instructgpt.pipeline(), comparisons=write_rows(tmp_path / "ranked.jsonl", ranked),
        demonstrations=write_rows(tmp_path / "shown.jsonl", shown[30:] if apart else shown),
    )  # fmt: skip
    if apart:  # in a file of its own
        valid = write_rows(tmp_path / "valid.jsonl", shown[:30])
        plan = replace(plan, sft=replace(plan.sft, data=RowsConfig(valid=valid)))
    members = plan.members(tmp_path)
    held_out = {prompt for name in ("sft", "ppo", "ppo_ptx")
                for prompt in members[name].data.prompts("valid")}  # fmt: skip
    data = members["reward"].data
    capsys.readouterr()
    parts = data.parts()
    learned = {one.prompt for one in parts["train"]}
    assert len(held_out) > 5 and len(learned) > 50 and not learned & held_out
    before = {one.prompt for one in replace(data, beside=None).parts()["train"]}
    assert learned == before - held_out != before  # the control
    count = len(before & held_out)
    assert f"{count} comparisons of prompts held out in" in capsys.readouterr().err
    assert data.fingerprint != replace(data, beside=None).fingerprint


def test_rankings_of_which_nothing_is_left_out_are_those_of_a_run_that_named_no_rows_beside_them(
    tmp_path,
):
    ranked = [{"prompt": f"ask {n}", "answers": ["a", "b"], "ranks": [0, 1]} for n in range(100)]
    shown = [{"prompt": f"other {n}", "response": "a"} for n in range(100)]
    plan = replace(
        instructgpt.pipeline(), comparisons=write_rows(tmp_path / "ranked.jsonl", ranked),
        demonstrations=write_rows(tmp_path / "shown.jsonl", shown),
    )  # fmt: skip
    now = plan.members(tmp_path)["reward"]
    before = replace(now, data=replace(now.data, beside=None))
    assert now.data.beside is not None and now.data.fingerprint == before.data.fingerprint
    (tmp_path / "config.gin").write_text(dump(before))
    changed = changed_bindings(tmp_path, [1], now, allow_data=False)
    assert changed and all(name.startswith("data.beside") for name in changed)
    shown += [{"prompt": f"ask {n}", "response": "a", "user": f"{n // 2}"} for n in range(100)]
    write_rows(tmp_path / "shown.jsonl", shown)
    assert now.data.fingerprint != before.data.fingerprint  # the control: this is refused
