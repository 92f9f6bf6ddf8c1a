"""The answers to yes/no questions that a reward model learns beside the order of answers."""

import json
import random
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lm.core.errors import ConfigError, DataError
from lm.data.comparisons import Comparison, ComparisonsConfig
from lm.data.dialogue_comparisons import DialogueComparisonsConfig
from lm.data.rankings import encode_rankings
from lm.losses.preference import comparison_losses
from lm.models import reward
from lm.rlhf import source as source_module
from lm.rlhf.ppo import Ppo
from lm.rlhf.ranking import Accuracy, Ranking, judged
from lm.rlhf.reward import ComparisonMaterial, RewardTraining
from lm.rlhf.scores import RewardConfig, RolloutScorer, text_scorer
from lm.rlhf.seeing_reward import SeeingReward
from lm.rlhf.source import read_source
from lm.text.byte import ByteTokenizer
from lm.text.dialogue import Chat
from lm.train.guard import GuardConfig
from lm.train.saved import Saved
from lm.train.session import LoopConfig
from lm.train.step import gradients
from tests.rlhf.runs import MODEL, OPTIM, pretrained, write_rows, written

pytestmark = pytest.mark.usefixtures("one_device")

LOOP = LoopConfig(log_every=10, evaluate_every=100, save_every=100)
GUARD = GuardConfig(spike="off")
QUESTIONS = ("loud", "late")
ITEMS = [
    Comparison("p", ("ab", "c"), (1, 0), "", "f:1", (), ({"loud": True}, {"late": False})),
    Comparison("q", ("d", "ee", "f"), (0, 1, 1), "", "f:2", (), ({}, {"loud": False}, {})),
    Comparison("r", ("g", "h"), (0, 1), "", "f:3"),
    Comparison("s", ("i", "j"), (0, 1), "", "f:4", (), ({"loud": True, "late": True}, {})),
]
WEIGHT = 0.3
OBJECTIVE = Ranking(MODEL, weights={"prompts": 1.0, "metadata": WEIGHT})
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return pretrained(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def params():
    return nn.unbox(jax.jit(reward.init, static_argnums=(0, 2))(MODEL, KEY, len(QUESTIONS)))


def batch_of(items=ITEMS, questions=QUESTIONS):
    return encode_rankings(items, ByteTokenizer(), 16, questions=questions).rows


@jax.jit
def learned(params, batch):
    """Gradient and means of a step over microbatches."""
    return gradients(OBJECTIVE, params, batch, KEY, OBJECTIVE.counts(batch))


said = jax.jit(OBJECTIVE.said)


def in_parts(batch, parts):
    return jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), batch)


def test_the_loss_is_that_of_the_order_and_beside_it_the_mean_of_what_was_answered(params):
    batch = batch_of()
    _, means = learned(params, in_parts(batch, 1))
    scores, odds = said(params, batch)
    alone = jax.jit(Ranking(MODEL).scores)(params, batch.replace(answered=None))
    np.testing.assert_allclose(scores, alone, rtol=1e-6)  # as without questions
    order = comparison_losses(scores, batch.ranks, batch.mask)
    np.testing.assert_allclose(means["prompts"], order.mean(), rtol=1e-5)
    yes = 1 / (1 + np.exp(-np.float64(odds)))
    each = [1 - yes[1, 1, 0], 1 - yes[0, 1, 1], yes[0, 0, 0], yes[3, 0, 0], yes[3, 0, 1]]
    np.testing.assert_allclose(means["metadata"], -np.mean(np.log(each)), rtol=1e-5)


def test_microbatches_with_unequal_numbers_of_answers_make_no_difference(params):
    whole, parts = (learned(params, in_parts(batch_of(), count)) for count in (1, 4))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), whole, parts)
    nobody = jax.tree.map(lambda leaf: leaf[:, 2:3], in_parts(batch_of(), 1))
    slopes, means = learned(params, nobody)
    assert means["metadata"] == 0 and not slopes["metadata"]["kernel"].any()


def test_what_nobody_answered_and_answers_that_are_not_there_do_not_count(params):
    batch = batch_of()
    slopes, means = learned(params, in_parts(batch, 1))
    other = batch.replace(answered=np.where(batch.mask[..., None], batch.answered, 1))
    again, same = learned(params, in_parts(other, 1))
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), (slopes, means), (again, same)))
    changed = batch.replace(answered=np.where(batch.answered == 1, 0, batch.answered))
    assert learned(params, in_parts(changed, 1))[1]["metadata"] != means["metadata"]  # the control


def test_order_and_questions_both_teach_the_trunk_and_each_its_own_head(params):
    @jax.jit
    def slopes(params):
        sums, pulled = jax.vjp(lambda params: OBJECTIVE.sums(params, batch_of()), params)
        return {part: pulled({one: jnp.float32(one == part) for one in sums})[0] for part in sums}

    order, questions = (slopes(params)[part] for part in ("prompts", "metadata"))
    for name, (own, other) in {"head": (order, questions), "metadata": (questions, order)}.items():
        assert own[name]["kernel"].any() and not other[name]["kernel"].any()
    both, _ = learned(params, in_parts(batch_of(), 1))
    expected = jax.tree.map(lambda a, b: a / 4 + WEIGHT * b / 5, order, questions)["model"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), both["model"], expected)


def test_shares_of_what_was_answered_are_told_and_of_nothing_no_share(params, one_device):
    odds = jnp.array([[2.0, -1.0, 0.0], [-1.0, 3.0, 1.0]])
    found = jax.jit(judged)(odds, jnp.array([[1, 1, 0], [0, -1, -1]]))
    assert (found["given"], found["yes"], found["right"]) == (4, 2, 2.5)
    parts = {
        "train": None,
        "valid": type("Held", (), {"rows": batch_of(ITEMS[:3]), "items": ITEMS[:3]}),
    }
    material = type("Material", (), {"parts": parts})
    measure = Accuracy(OBJECTIVE, material, one_device, 2, QUESTIONS)  # the last batch is filled up
    figures = measure(0, params)
    _, odds = said(params, batch_of())
    right = int(odds[0, 0, 0] > 0) + int(odds[1, 1, 0] < 0)
    assert figures["valid_loud_accuracy"] == right / 2
    assert figures["valid_late_accuracy"] == float(odds[0, 1, 1] < 0)
    assert 0.1 < figures["valid_metadata_loss"] < 3
    assert measure.summary() == {
        "valid_loud_answers": {"given": 2, "yes": 0.5, "commoner": 0.5},
        "valid_late_answers": {"given": 1, "yes": 0.0, "commoner": 1.0},
    }
    # of whose answers nothing is known
    parts["valid"].rows = jax.tree.map(lambda leaf: leaf[2:3], batch_of())
    parts["valid"].items = ITEMS[2:3]
    assert not any("metadata" in name or "loud" in name for name in measure(0, params))
    assert measure.summary()["valid_loud_answers"] == {"given": 0}


# ---------------------------------------------------------------------- runs


def labels(count, shuffled=False):
    """Rankings as the page keeps them: the more z the better; loud is one with a Q at its end."""
    draw, rows = random.Random(0), []
    for number in range(count):
        answers = ["".join(draw.choice("xyz") for _ in range(3)) + draw.choice("Q-") + "."
                   for _ in range(4)]  # fmt: skip
        told = [{"loud": "Q" in one, "late": False} for one in answers]
        told[draw.randrange(4)] = {}
        if shuffled:
            told = [{"loud": draw.random() < 0.5, "late": False} if one else {} for one in told]
        order = sorted({-one.count("z") for one in answers})
        rows.append({
            "kind": "ranking", "item": f"{number}", "labeler": "ann", "ratings": [None] * 4,
            "messages": [{"role": "user", "content": f"say {number}"}], "answers": answers,
            "ranks": [order.index(-one.count("z")) + 1 for one in answers],
            "metadata": told, "sources": ["a"] * 4,
        })  # fmt: skip
    return rows


def training(base, folder, rows, **changes):
    data = DialogueComparisonsConfig(train=write_rows(folder / "labels.jsonl", rows))
    config = RewardTraining(
        init=str(base), data=replace(data, valid_fraction=0.2), optim=OPTIM, batch=8, length=32,
        loop=LOOP, guard=GUARD, metadata=("loud",),
    )  # fmt: skip
    return replace(config, **changes)


def summary_of(run):
    return json.loads((run / "summary.json").read_text())


@pytest.mark.slow
def test_labels_of_the_page_teach_a_question_that_the_text_decides(base, tmp_path):
    training(base, tmp_path, labels(300), epochs=4.0).run(tmp_path / "run")
    found = summary_of(tmp_path / "run")
    answers = found["valid_loud_answers"]
    assert 0.45 < answers["yes"] < 0.55 and answers["given"] > 100
    assert found["valid_loud_accuracy"] > 0.9 > answers["commoner"] + 0.3
    assert found["valid_accuracy"] > 0.8
    told = (tmp_path / "run" / "report.html").read_text()
    assert "valid loud accuracy" in told and "commoner" in told
    first = json.loads((tmp_path / "run" / "metrics.jsonl").open().readline())
    assert first["valid_loud_accuracy"] < 0.75  # before it has learned anything
    # the control: answers that nothing in the text decides
    training(base, tmp_path, labels(300, shuffled=True), epochs=4.0).run(tmp_path / "shuffled")
    control = summary_of(tmp_path / "shuffled")
    assert control["valid_loud_accuracy"] < 0.65 and control["valid_accuracy"] > 0.8


def begun(config, base, folder, mesh):
    """A run that has learned nothing yet."""
    source = config.source(mesh)
    resolved = replace(config.resolved(source), steps=1)
    with jax.set_mesh(mesh):
        state = resolved.create(resolved.abstract(mesh), source)
    folder.mkdir()
    return resolved, written(folder, resolved, state)


def test_the_head_of_questions_is_its_runs_own(params, monkeypatch, one_device):
    config = RewardTraining(
        init="before", optim=OPTIM, batch=8, length=16, model=MODEL, metadata=QUESTIONS
    )
    saved = Saved(config, params, ByteTokenizer(), 1, "")
    monkeypatch.setattr(source_module, "read_init", lambda *some: saved)
    monkeypatch.setattr(source_module, "identity", lambda *some: "")
    found = read_source("run", one_device)
    assert set(found.params) == {"model", "head"} and found.scalar
    # another reward model goes on from it, with a fresh head for its questions or with none
    for questions in ((), ("other",)):
        more = replace(config, metadata=questions)
        fresh = nn.unbox(jax.eval_shape(more.first_params, KEY))
        adopted = more.adopted(fresh, found)
        assert jax.tree.map(jnp.shape, adopted) == jax.tree.map(lambda leaf: leaf.shape, fresh)
        assert adopted["head"] is params["head"]
        assert not questions or adopted["metadata"] is fresh["metadata"]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_judge_and_value_function_have_the_scalar_head_alone(base, tmp_path, one_device, rank):
    data = ComparisonsConfig(train="none.jsonl")
    config = RewardTraining(
        init=str(base), data=data, optim=OPTIM, batch=8, length=16, metadata=QUESTIONS,
        lora_rank=rank,
    )  # fmt: skip
    config, run = begun(config, base, tmp_path / "run", one_device)
    learned_part = config.abstract(one_device).params
    assert "metadata" in (learned_part["lora"] if rank else learned_part)
    (run / "summary.json").write_text("{}")  # as one that has ended
    judge = RewardConfig(run=str(run))
    score = RolloutScorer(judge, ByteTokenizer(), one_device)
    assert set(score.params) == {"model", "head"}
    assert np.isfinite(text_scorer(judge, ByteTokenizer(), one_device)(["q"], ["a"])).all()
    source = read_source(str(base), one_device)
    ppo = Ppo(
        init=str(base), reward=judge, optim=OPTIM, batch=8, prompt_length=8, answer_length=8
    ).resolved(source, score.model)
    with jax.set_mesh(one_device):
        abstract = ppo.abstract(one_device)
        state = ppo.create(abstract, source, score.value())
    assert jax.tree.structure(state.value) == jax.tree.structure(abstract.value)
    assert set(state.value) == {"model", "head"}


@pytest.mark.parametrize("questions", [(), ("late", "loud"), ("loud",)])
def test_a_run_goes_on_with_the_questions_that_it_began_with(base, questions):
    ours = RewardTraining(
        init=str(base), optim=OPTIM, batch=8, length=16, model=MODEL, metadata=QUESTIONS
    )
    with pytest.raises(ConfigError, match=r"is not the \('loud', 'late'\) that the run began with"):
        replace(ours, metadata=questions).resolved(ours)
    assert ours.resolved(ours).metadata == QUESTIONS  # the control


def test_questions_about_images_and_questions_asked_twice_are_refused():
    with pytest.raises(ConfigError, match=r"metadata \('a',\): none with images"):
        SeeingReward(optim=OPTIM, batch=8, metadata=("a",))
    with pytest.raises(ConfigError, match=r"metadata \('a', 'a'\) names a question twice"):
        RewardTraining(optim=OPTIM, batch=8, metadata=("a", "a"))


def test_a_question_that_nobody_answered_is_refused_with_those_there_are(
    base, tmp_path, one_device
):
    config = training(base, tmp_path, labels(20), metadata=("loud", "rude"))
    source = config.source(one_device)
    form = config.form(source.tokenizer, source)
    with pytest.raises(DataError, match="answers 'rude' in .*; there are: 'late', 'loud'$"):
        config.material(form, source, one_device)
    rows = replace(config, metadata=("loud",)).material(form, source, one_device).rows(0, 8)
    assert rows.answered.shape == (8, 4, 1) and set(np.unique(rows.answered)) == {-1, 0, 1}


def test_of_a_ranking_with_an_empty_answer_first_the_others_are_learned_and_one_scores_0(tmp_path):
    row = {"kind": "ranking", "item": "i", "labeler": "ann", "answers": ["", "a", "b"],
           "messages": [{"role": "user", "content": "q"}], "ranks": [1, 2, 3]}  # fmt: skip
    path = write_rows(tmp_path / "labels.jsonl", [row])
    data = DialogueComparisonsConfig(train=path, valid=write_rows(tmp_path / "v.jsonl", [
        {"prompt": "v", "chosen": "yes", "rejected": "no"}
    ]))  # fmt: skip
    material = ComparisonMaterial(data, Chat(ByteTokenizer()), 32, 0)
    assert [one.answers for one in material.preferred().items] == [("a",)]
    batch = material.parts["train"].rows
    scores = np.array([[5.0, 1.0, 0.0]], np.float32)
    objective = Ranking(MODEL)
    expected = np.log1p(np.exp(-1.0))  # of the one pair that is left
    np.testing.assert_allclose(objective.losses(scores, batch), [expected], rtol=1e-6)
    assert objective.counts(batch)["prompts"] == 1
    # a run that began when such rows were left out whole is not gone on with
    assert material.digest == f"{data.fingerprint};2"
    clean = replace(data, train=data.valid)
    assert ComparisonMaterial(clean, Chat(ByteTokenizer()), 32, 0).digest == clean.fingerprint
