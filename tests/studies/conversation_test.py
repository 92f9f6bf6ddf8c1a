"""Rounds of labels, reward model and policy: what they leave, and that they go on."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import jax
import pytest

from experiments import chatgpt, sweeps
from lm.core.errors import ConfigError, DataError
from lm.data.dialogues import DialoguesConfig
from lm.data.labels import conversation_rows
from lm.data.smalltalk import Smalltalk, expected
from lm.report.record import Record
from lm.rlhf.scores import RewardConfig
from lm.rlhf.update import UpdateConfig
from lm.studies import conversation, conversation_report, smalltalk
from lm.studies.several import evaluated
from lm.studies.smalltalk_report import claims, verdict
from lm.text.byte import ByteTokenizer
from lm.text.dialogue import conversation as turns_of
from tests.rlhf.runs import MODEL, OPTIM, pretrained

pytestmark = pytest.mark.usefixtures("one_device")

GOLD = RewardConfig(function="lm.data.smalltalk:gold")


def small():
    """The tiny pipeline at the size of a test."""
    plan = chatgpt.pipeline()
    loop = replace(plan.sft.loop, evaluate_every=100, save_every=100, sample_tokens=8)
    return replace(
        plan, judge=GOLD, labeling=replace(plan.labeling, prompts=48, batch=16),
        sft=replace(plan.sft, optim=OPTIM, steps=60, batch=32, length=48, loop=loop, show=0),
        reward=replace(plan.reward, optim=OPTIM, length=48, loop=replace(loop, sample_tokens=0)),
        ppo=replace(plan.ppo, batch=16, steps=2, prompt_length=38, answer_length=10, best_of=2,
                    evaluate_prompts=16, loop=replace(plan.ppo.loop, evaluate_every=2),
                    update=UpdateConfig(minibatches=2)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def rounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rounds")
    Smalltalk(conversations=300, single=300).write(folder / "data")
    base = pretrained(folder / "base", MODEL)
    plan = small()
    data = DialoguesConfig(train=str(folder / "data" / "conversations.jsonl"))
    plan = replace(plan, init=str(base), sft=replace(plan.sft, data=data))
    plan.run(folder / "run")
    return plan, folder / "run"


@pytest.mark.slow
def test_two_rounds_leave_labels_of_the_newest_policy_and_one_report(rounds):
    plan, run = rounds
    for name in ("sft", "1/reward", "1/ppo", "2/reward", "2/ppo"):
        assert (run / name / "summary.json").exists()
    second = (run / "2/reward/config.gin").read_text()
    assert "1/labels.jsonl" in second and "2/labels.jsonl" in second
    files = [str(run / f"{number}/labels.jsonl") for number in (1, 2)]
    first, second, both = (len(list(conversation_rows(spec))) for spec in (*files, ",".join(files)))
    assert first and second and both == first + second  # no round's labels replace another's
    assert "1/ppo" in (run / "2/ppo/config.gin").read_text()
    summary = json.loads((run / "summary.json").read_text())
    for number in (1, 2):
        (scores,) = evaluated([run / f"{number}/ppo"], ["gold"])[1]["gold"].tolist()
        assert summary[f"round {number}: valid_gold"] == scores[-1]
        if number == 1:  # before its first update it is the SFT model
            assert summary["SFT: valid_gold"] == scores[0]
    assert "round 2" in (run / "report.html").read_text()


@pytest.mark.slow
def test_what_is_ranked_is_a_random_message_after_others_that_the_model_wrote(rounds):
    plan, run = rounds
    rows = [row.values for row in conversation_rows(str(run / "1/labels.jsonl"))]
    talks = [turns_of(row["messages"]) for row in rows]
    assert {len(talk) for talk in talks} == {1, 3, 5}
    assert all(sorted(row["ranks"]) == list(range(1, len(row["answers"]) + 1)) for row in rows)
    known = {one.turns[:2] for one in plan.sft.data.dialogues("train")["dialogues"]}
    openings = [talk[:2] for talk in talks if len(talk) > 1]
    assert sum(opening in known for opening in openings) < len(openings) / 2


@pytest.mark.slow
def test_the_same_command_does_what_is_missing_and_nothing_else(rounds, capsys):
    plan, run = rounds
    before = (run / "summary.json").read_text()
    (run / "2/ppo/summary.json").unlink()
    shutil.rmtree(run / "2/ppo/checkpoints")
    capsys.readouterr()
    plan.run(run)
    said = capsys.readouterr().out
    assert said.count("--- ") == 1 and "--- 2/ppo" in said
    assert (run / "summary.json").read_text() == before


@pytest.mark.slow
def test_a_study_of_one_seed_tells_every_figure_of_every_policy(rounds, tmp_path):
    plan, run = rounds
    study = sweeps.conversation()
    study = replace(
        study, seeds=(0,), prompts=32, chat=replace(plan, init=None),
        talk=Smalltalk(conversations=200, single=200),
        base=replace(study.base, model=MODEL, steps=2, batch=8),
    )  # fmt: skip
    study.run(tmp_path)
    told = (tmp_path / "report.md").read_text()
    assert all(
        title in told for title in (*smalltalk.POLICIES.values(), *smalltalk.FIGURES.values())
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    known = smalltalk.known(tmp_path / "0")
    for name, title in smalltalk.POLICIES.items():
        for figure in smalltalk.FIGURES:
            assert summary[f"{title}: {figure}"]["mean"] == known[name][figure]
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")


def test_the_worth_of_drawn_answers_is_the_mean_of_draws_that_differ(tmp_path, monkeypatch):
    study = sweeps.conversation()
    asked = []

    class Speaker:
        def __init__(self, *_):
            pass

        def __call__(self, prompts, temperature):
            if temperature:
                asked.extend(prompts)
            good = [len(one) == 1 or number < 16 for number, one in enumerate(prompts)]
            return [(expected(one) if well else "", well)
                    for one, well in zip(prompts, good, strict=True)]  # fmt: skip

    data = tmp_path / "data"
    Smalltalk(conversations=200, single=200).write(data)
    (tmp_path / "single").mkdir()
    (tmp_path / "single/summary.json").write_text("{}")
    monkeypatch.setattr(smalltalk, "Speaker", Speaker)
    monkeypatch.setattr(smalltalk, "selected", lambda *_: None)
    monkeypatch.setattr(smalltalk, "read_source", lambda *_: None)
    replace(study, draws=4, prompts=8).measure(tmp_path)
    (found, prompts) = (smalltalk.known(tmp_path)[key] for key in ("single", "prompts"))
    assert prompts == {"first": 8, "later": 8} and len(asked) == 4 * 16
    assert asked[:16] == asked[16:32] and len(set(asked[:16])) > 8
    # first questions are right in all four draws, follow-ups in one
    assert (found["gold_first"], found["gold_later"]) == (1.0, 0.25)
    assert found["gold"] == found["ended"] == 0.625


def planted(**changes):
    """What three seeds were found to be: that of results/chatgpt.md's table, a gold score of either
    kind of question, and what is told of each seed by "policy: figure"."""
    names = ("single", "chat/sft", "chat/1/ppo", "again", "chat/2/ppo")
    figures = {
        "first": [1.0] * 5, "follow_up": [0.128, 0.996, 0.991, 0.969, 0.984],
        "no_history": [0.0, 0.154, 0.152, 0.129, 0.181], "gold": [0.729, 1.22, 1.73, 1.7, 1.84],
        "ended": [0.999, 0.999, 0.997, 0.997, 0.998],
        "gold_first": [1.2, 1.2, 1.8, 1.8, 1.9], "gold_later": [0.3, 1.2, 1.7, 1.6, 1.8],
    }  # fmt: skip
    found = [
        {name: {key: figures[key][place] for key in figures} for place, name in enumerate(names)}
        for _ in range(3)
    ]
    for told, values in changes.items():
        name, key = told.split(": ")
        for one, value in zip(found, values, strict=True):
            one[name][key] = value
    return found


def shown(measures):
    """Of C3 to C5."""
    return [said for name, (said, _) in claims(measures).items() if not name.startswith("C2")]


HISTORY = {"chat/sft: no_history": (0.148, 0.313, 0.0)}  # of results/chatgpt.md, like the rounds
SINGLE = {"single: follow_up": (0.067, 0.128, 0.189)}
ROUNDS = {
    "chat/1/ppo: gold": (1.663, 1.694, 1.845), "again: gold": (1.632, 1.636, 1.815),
    "chat/2/ppo: gold": (1.844, 1.844, 1.844),
}  # fmt: skip


def test_a_claim_is_shown_where_its_gain_is_above_twice_its_spread_over_the_seeds():
    assert shown(planted()) == [True, True, True]
    assert shown(planted(**HISTORY | SINGLE | ROUNDS)) == [True, True, False]
    lines = verdict(planted(**ROUNDS))[1:]
    assert "not shown" in lines[2] and "by 0.110 ± 0.097, and above" in lines[2]
    assert "by 0.150 ± 0.10" in lines[2]
    assert not any(shown(planted()[:1]))  # one seed has no spread


def test_answers_end_where_their_share_is_above_the_one_asked_for_beyond_its_spread():
    for shares, said in (
        ((0.999, 0.999, 1.0), "shown"), ((0.93, 0.93, 0.94), "not shown"),
        ((0.9, 1.0, 1.0), "not shown"), ((0.999,), "not shown"),
    ):  # fmt: skip
        (line, *_) = verdict(planted(**{"chat/sft: ended": (*shares, 1, 1)[:3]})[: len(shares)])
        assert line.startswith(f"- C2, the end: {said}:"), shares
    assert line.endswith("mixture's answers that end by themselves is above 0.95 by 0.049.")


def test_a_claim_is_not_shown_where_its_control_does_as_well():
    assert shown(planted(**{"chat/sft: no_history": (0.99, 1.0, 0.99)})) == [False, True, True]
    assert shown(planted(**{"single: follow_up": (0.99, 1.0, 1.0)})) == [True, False, True]
    assert shown(planted(**{"again: gold": (1.84, 1.85, 1.84)})) == [True, True, False]


@pytest.mark.parametrize(
    ("scores", "same"),
    [
        ((1.2, 1.2, 1.2), True), ((1.19, 1.23, 1.2), True),  # noise
        ((1.15, 1.16, 1.14), False),  # a loss beyond its spread, though all first are right
        ((1.25, 1.24, 1.26), False),  # a gain is a change too
        ((1.2, 1.1, 1.3), False),  # so noisy that a loss would not be seen
        ((1.1, 1.1, 1.1), False),
    ],
)  # fmt: skip
def test_single_turns_are_unchanged_where_their_gold_score_differs_by_noise_that_is_small(
    scores, same
):
    measures = planted(**{"chat/sft: gold_first": scores})
    assert shown(measures) == [True, same, True]
    paired = planted(**{"chat/sft: gold_first": scores, "single: gold_first": scores})
    assert shown(paired) == [True, True, True]  # a seed is compared with itself


def test_of_seeds_measured_before_the_gold_score_was_divided_the_mixture_cannot_be_judged(
    tmp_path,
):
    study, old = replace(sweeps.conversation(), seeds=(0, 1, 2)), planted()
    for seed, one in enumerate(old):
        if seed < 2:
            for policy in one.values():
                del policy["gold_first"], policy["gold_later"]
        (tmp_path / f"{seed}").mkdir()
        (tmp_path / f"{seed}" / smalltalk.MEASURED).write_text(json.dumps(one))
        for name in ("chat/1/ppo", "chat/2/ppo", "again"):
            (tmp_path / f"{seed}" / name).mkdir(parents=True)
            (tmp_path / f"{seed}" / name / "metrics.jsonl").write_text(
                '{"step": 0, "valid_gold": 1.0}\n'
            )
    assert shown(old) == [True, None, True]
    study.tell(tmp_path)
    told = (tmp_path / "report.md").read_text()
    assert "- C4, the mixture: cannot be judged: above single turns it has 0.868 ± 0.000" in told
    assert "gold score of first questions alone was not measured" in told
    assert "| 1.220 ± 0.000 | not measured | not measured | 3 |" in told
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["shown"]["C4, the mixture"] is None
    assert "PPO, round 2: gold" in summary and "PPO, round 2: gold_first" not in summary


def test_the_gold_score_of_first_questions_is_kept_apart_from_that_of_follow_ups(
    tmp_path, monkeypatch
):
    Smalltalk(conversations=40, single=2).write(tmp_path / "data")
    (tmp_path / "single").mkdir()
    (tmp_path / "single" / "summary.json").write_text("{}")
    monkeypatch.setattr(smalltalk, "read_source", lambda *_: None)

    def speak(asked, _):
        """All that is liked of first questions, and no letter of follow-ups."""
        return [(f"it is {expected(one)}." if len(one) == 1 else "z", True) for one in asked]

    monkeypatch.setattr(smalltalk, "Speaker", lambda *_: speak)
    sweeps.conversation().measure(tmp_path)
    known = smalltalk.known(tmp_path)
    single, count = known["single"], known["prompts"]
    assert (single["gold_first"], single["gold_later"]) == (2.0, 0.0)
    share = count["first"] / (count["first"] + count["later"])
    assert 0 < share < 1 and single["gold"] == pytest.approx(2 * share)


@pytest.mark.parametrize("fraction", [0.02, 0.3])
def test_policies_are_measured_on_what_they_hold_out_however_much_that_is(
    fraction, tmp_path, monkeypatch
):
    study, asked = sweeps.conversation(), []
    data = replace(study.chat.sft.data, valid_fraction=fraction)
    study = replace(
        study, seeds=(0,), prompts=3000, talk=Smalltalk(conversations=400, single=400),
        chat=replace(study.chat, sft=replace(study.chat.sft, data=data)),
    )  # fmt: skip
    steps = study.members(tmp_path, 0)

    def begun(member, folder, *_):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").write_text("{}")

    def speaker(*_):
        return lambda some, _: asked.extend(some) or [("a", True)] * len(some)

    monkeypatch.setattr(smalltalk, "run_member", begun)
    monkeypatch.setattr(smalltalk, "read_source", lambda *_: None)
    monkeypatch.setattr(smalltalk, "Speaker", speaker)
    monkeypatch.setattr(type(study), "tell", lambda *_: None)
    study.run(tmp_path)
    opened = {one[0].content for one in asked if ":" in one[0].content}  # not without history
    learned = {
        item.turns[0].content
        for name in ("chat/sft", "single")
        for some in steps[name].data.dialogues("train").values()
        for item in some
    }
    assert len(opened) > 400 * fraction / 2 and not opened & learned
    text = (tmp_path / "0" / "data" / "text.txt").read_text()
    assert not opened & {said.rpartition(" is ")[0] for said in text.split(". ")}
    other = replace(study, chat=sweeps.conversation().chat)
    with pytest.raises(ConfigError, match="chat.sft.data.valid_fraction was"):
        other.run(tmp_path)


def test_sft_is_measured_at_the_step_that_ppo_begins_with(tmp_path, monkeypatch):
    Smalltalk(conversations=40, single=2).write(tmp_path / "data")
    for name in smalltalk.POLICIES:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "summary.json").write_text('{"selected_step": 7}')
    study, read = sweeps.conversation(), {}
    monkeypatch.setattr(
        smalltalk, "read_source", lambda run, mesh, step=None: read.setdefault(run, step)
    )
    monkeypatch.setattr(
        smalltalk, "Speaker", lambda *_: lambda asked, _: [("a", True)] * len(asked)
    )
    chosen = replace(study.chat.sft, reward=RewardConfig(run="liked"))
    replace(study, chat=replace(study.chat, sft=chosen)).measure(tmp_path)
    begins = replace(study.chat, sft=chosen).members(tmp_path / "chat")["1/ppo"].init_step
    policies = {name: read[str(tmp_path / name)] for name in smalltalk.POLICIES}
    assert policies == dict.fromkeys(policies) | {"single": 7, "chat/sft": begins} and begins == 7


@pytest.mark.parametrize("process", [0, 1])
def test_one_process_writes_the_conversations_and_the_others_wait_for_them(
    process, tmp_path, monkeypatch
):
    study = replace(sweeps.conversation(), seeds=(0,), talk=Smalltalk(conversations=2, single=2))
    text, seen = tmp_path / "0" / "data" / "text.txt", []
    monkeypatch.setattr(jax, "process_index", lambda: process)
    monkeypatch.setattr(smalltalk, "agreed", lambda _: seen.append(text.exists()))
    monkeypatch.setattr(type(study), "members", lambda *_: {})
    study.run(tmp_path)
    study.run(tmp_path)  # whether it was there or not, all meet
    assert seen == [process == 0] * 2


def test_a_pipeline_without_a_run_or_a_labeler_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--set init=RUN"):
        small().run(tmp_path)
    plan = replace(small(), judge=RewardConfig())
    with pytest.raises(ConfigError, match="nobody ranks answers"):
        plan.label(tmp_path, 1, plan.ppo)


def test_what_is_written_anew_shares_no_draw_with_the_answers_to_rank(tmp_path, monkeypatch):
    plan, drawn = small(), []
    source = SimpleNamespace(tokenizer=ByteTokenizer())
    monkeypatch.setattr(conversation, "read_source", lambda *_: source)
    monkeypatch.setattr(conversation, "to_label", lambda *_: {"train": [], "valid": []})
    monkeypatch.setattr(conversation, "text_scorer", lambda *_: None)
    monkeypatch.setattr(conversation, "model_written", lambda *some, **_: drawn.append(some[3]))
    monkeypatch.setattr(
        conversation,
        "label",
        lambda config, *_, **__: (
            drawn.append(config) or dict.fromkeys(("rankings", "bayes_accuracy"), 0)
        ),
    )
    plan.label(tmp_path, 1, plan.ppo)
    *written, config = drawn
    ranked = [jax.random.fold_in(jax.random.key(config.seed), n) for n in range(config.answers[1])]
    keys = [jax.random.key_data(key).tolist() for key in (*written, *ranked)]
    assert len(written) == 2 and len({tuple(key) for key in keys}) == len(keys)


def test_the_second_round_ranks_other_messages_and_holds_the_same_ones_out(tmp_path, monkeypatch):
    Smalltalk(conversations=60, single=2).write(tmp_path / "data")
    plan, labeled = small(), {}
    data = DialoguesConfig(train=str(tmp_path / "data" / "conversations.jsonl"))
    every = replace(plan.labeling, prompts=1000)
    ppo = replace(plan, sft=replace(plan.sft, data=data)).members(tmp_path)["2/ppo"]
    source = SimpleNamespace(tokenizer=ByteTokenizer())
    monkeypatch.setattr(conversation, "read_source", lambda *_: source)
    monkeypatch.setattr(conversation, "text_scorer", lambda *_: None)
    monkeypatch.setattr(conversation, "model_written", lambda some, *_, **__: set(some))
    told = dict.fromkeys(("rankings", "bayes_accuracy"), 0)
    monkeypatch.setattr(
        conversation, "label", lambda _, asked, *__, **___: labeled.setdefault(len(labeled), asked)
        and told,
    )  # fmt: skip
    for number in (1, 2, 2):
        replace(plan, labeling=every).label(tmp_path, number, ppo)
    first, second, again = labeled.values()
    assert second == again and first["valid"] == second["valid"]
    assert 0 < len(first["train"] & second["train"]) < 0.7 * len(first["train"])


def test_each_round_is_drawn_from_where_it_began_and_by_its_own_reward_model(tmp_path, monkeypatch):
    rows = [{"step": n, "reward": n / 2, "kl": n / 3, "valid_reward": n / 2, "valid_kl": n / 3}
            for n in range(3)]  # fmt: skip
    summary = {"best_of_n": [{"n": n, "kl": n - 1.0, "reward": n / 9} for n in (1, 2)], "rows": 1}
    record = Record("", rows, {}, [], samples={0: ""}, summary=summary)
    monkeypatch.setattr(conversation_report, "read_run", lambda _: record)

    def page():
        return conversation_report.write_conversing(tmp_path, 2).read_text()

    assert "labelers held out" in page()
    summary |= {"labelers_accuracy": 0.75, "labelers_accuracy_error": 0.125}
    found = page()
    assert "KL from where the round began" in found and "SFT model, nats" not in found
    for number in (1, 2):
        assert f"round {number}: Reward against KL" in found
    assert found.count(">best of n<") == 2
    assert "labelers held out" not in found
    told = json.loads((tmp_path / "summary.json").read_text())
    assert told["round 2: reward model, labelers_accuracy"] == 0.75
    assert told["round 1: reward model, labelers_accuracy_error"] == 0.125


def test_names_that_lists_of_files_would_divide_are_refused_before_a_run(tmp_path):
    plan = replace(small(), init="base")
    with pytest.raises(ConfigError, match="a,b has a comma"):
        plan.run(tmp_path / "a,b")
    (tmp_path / "x,y.jsonl").write_text("")
    parts = tuple((name, str(tmp_path / f"{name}.jsonl"), 1.0) for name in ("x,y", "z"))
    mixed = replace(plan, sft=replace(plan.sft, data=DialoguesConfig(mixture=parts)))
    with pytest.raises(DataError, match="x,y.jsonl' has a comma"):
        mixed.run(tmp_path / "a")
    assert not (tmp_path / "a,b").exists() and not (tmp_path / "a").exists()


@pytest.mark.parametrize("mixed", [False, True])
def test_what_demonstrations_say_scores_zero_in_every_round(mixed, tmp_path):
    Smalltalk(conversations=60, single=60).write(tmp_path)
    one, other = (str(tmp_path / f"{name}.jsonl") for name in ("conversations", "single"))
    data = DialoguesConfig(train=one)
    if mixed:
        data = replace(data, mixture=(("talk", one, 0.9), ("single", other, 0.1)))
    plan = small()
    members = replace(plan, sft=replace(plan.sft, data=data)).members(tmp_path)
    learned = [turns for some in data.dialogues("train").values() for turns in some]
    for reward in (members["1/reward"], members["2/reward"]):
        shown = reward.data.demonstrated(reward.demonstrations)
        assert [(*item.prompt, item.answer) for item in shown] == [
            (*one.turns[:-1], one.turns[-1].content) for one in learned
        ]


def test_the_papers_sizes_have_the_vocabulary_of_conversations():
    for size in ("1.3b", "6b", "175b"):
        assert chatgpt.sft(size).decoder.vocab == 50_257 + 5
        assert chatgpt.ppo(size).policy_model.vocab == chatgpt.reward(size).decoder.vocab
    assert chatgpt.reward(data="labels/").data.train == "labels/"
