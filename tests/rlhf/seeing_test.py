"""PPO on prompts with images: what is seen decides, and the code that learns from text learns."""

import json
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import gpt4
from lm.core.config import bind
from lm.core.errors import CheckpointError, ConfigError, DataError
from lm.data.features import take
from lm.data.tokens import TextConfig
from lm.data.visual import VisualConfig
from lm.data.visual.unread import Unread
from lm.models import gpt_vision
from lm.models.gpt_vision import forward
from lm.rlhf.controller import KlConfig
from lm.rlhf.eyes import EYES, Eyes, SeenForm
from lm.rlhf.ranking import scored
from lm.rlhf.rollout import answer_logp, roll_out
from lm.rlhf.scores import RewardConfig, RolloutScorer
from lm.rlhf.seeing import SeeingPpo, SeenMaterial
from lm.rlhf.seeing_reward import SeeingReward, SeenComparisons, SeenRankings, contrasted
from lm.rlhf.source import read_source
from lm.rlhf.update import UpdateConfig
from lm.text.byte import ByteTokenizer
from lm.train.guard import GuardConfig
from lm.train.metrics import read_metrics
from lm.train.optimizer import AdamWConfig
from lm.train.session import LoopConfig
from tests.train.squares import config, write_squares

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_squares(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def base(data, tmp_path_factory):
    """A run that was ended when it named most colours, and what it drew was right in a sixth."""
    workdir = tmp_path_factory.mktemp("base") / "seen"
    loop = LoopConfig(log_every=20, evaluate_every=50, save_every=50)
    config(data, steps=40, loop=loop).run(workdir)
    return workdir


def setting(data, base, **changes):
    made = SeeingPpo(
        init=str(base), images=VisualConfig(root=str(data)),
        reward=RewardConfig(function="lm.rlhf.seeing:right"),
        optim=AdamWConfig(peak_lr=1e-3, weight_decay=0.0),
        value_optim=AdamWConfig(peak_lr=2e-3, weight_decay=0.0),
        batch=32, steps=60, prompt_length=16, answer_length=6, warmup=0, best_of=1,
        kl=KlConfig(beta=0.01), update=UpdateConfig(minibatches=2, average=0.5),
        guard=GuardConfig(spike="off"), evaluate_prompts=12,
        loop=LoopConfig(log_every=1, evaluate_every=60, save_every=60),
    )  # fmt: skip
    return replace(made, **changes)


@pytest.mark.slow
def test_a_rollout_is_scored_as_the_model_that_sees_scores_it(data, base, one_device):
    made = setting(data, base)
    source = made.source(one_device)
    material = made.material(made.form(source), source)
    prompts = material.prompts(0, one_device)
    planned = made.resolved(source, None).abstract_rows().sight  # what a plan takes them for
    assert jax.tree.map(lambda x: (x.shape, x.dtype), prompts.sight) == jax.tree.map(
        lambda x: (x.shape, x.dtype), planned
    )
    rollout = roll_out(
        source.model, source.params, prompts, jax.random.key(0), count=6, end=source.tokenizer.end
    )
    again = answer_logp(
        source.model, source.params, rollout.tokens, rollout.start, 6, sight=rollout.sight
    )
    drawn, scored = (np.where(rollout.mask, logp, 0) for logp in (rollout.logp, again))
    np.testing.assert_allclose(drawn, scored, atol=1e-5)
    # by the definition: the whole model, from the images themselves
    examples = [material.examples[n] for n in np.asarray(prompts.sight.example)]
    images = np.stack([one.pictures[0].pixels(16) for one in examples])[:, None]
    params = {**source.eyes.params, "text": source.params}
    logits = forward(source.eyes.whole, params, rollout.tokens, images, rollout.start)
    logp = np.asarray(jax.nn.log_softmax(logits))
    first = np.asarray(rollout.start)
    rows = np.arange(len(first))
    wanted = logp[rows, first - 1, np.asarray(rollout.tokens)[rows, first]]
    np.testing.assert_allclose(scored[:, 0], wanted, atol=1e-5)
    # the control: with other images than its own it is not what was drawn
    other = rollout.sight.replace(vectors=rollout.sight.vectors[::-1])
    strange = answer_logp(
        source.model, source.params, rollout.tokens, rollout.start, 6, sight=other
    )
    assert np.abs(np.where(rollout.mask, strange, 0) - drawn).max() > 0.1


@pytest.fixture(scope="module")
def judge(data, base, tmp_path_factory):
    """A reward model that was told of 48 squares which colour's name is right."""
    workdir = tmp_path_factory.mktemp("judge") / "reward"
    teaching(data, base).run(workdir)
    return workdir


def teaching(data, base, **changes):
    made = SeeingReward(
        init=str(base),
        data=SeenComparisons(images=VisualConfig(root=str(data)), contrast=3),
        optim=AdamWConfig(peak_lr=3e-3, weight_decay=0.0), batch=16, steps=60, length=32,
        loop=LoopConfig(log_every=20, evaluate_every=60, save_every=60),
    )  # fmt: skip
    return replace(made, **changes)


def figures(workdir):
    return json.loads((workdir / "summary.json").read_text())


@pytest.fixture
def damaged(tmp_path):
    """Questions of an own file, of which the third and the last have no image; and eyes for it."""
    rows = [{"image": f"{n}.png", "question": "what?", "answer": "ab"[n % 2]} for n in range(8)]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for n in (0, 1, 3, 4, 5, 6):
        Image.new("RGB", (16, 16), (30 * n, 0, 0)).save(tmp_path / f"{n}.png")
    model = config(tmp_path).model
    params = gpt_vision.init(model, jax.random.key(0))
    eyes = Eyes(model, {name: params[name] for name in EYES}, "eyes")
    own = str(tmp_path / "own.jsonl")
    return VisualConfig(sets=(own,), valid=own), SimpleNamespace(eyes=eyes)


@pytest.mark.slow
def test_a_prompt_whose_image_cannot_be_read_leaves_its_place_to_another(
    damaged, one_device, capfd
):
    images, source = damaged
    form = SeenForm(ByteTokenizer(), source.eyes.whole, "eyes", 2 * images.examples("train"))
    made = replace(setting("", ""), images=images, batch=8)
    material = SeenMaterial(made, form, source)
    assert material.valid.sight.example.tolist() == [8, 9, 11, 12, 13, 14]
    prompts = jax.device_get(material.prompts(0, one_device))
    read, numbers = sorted(prompts.sight.example), prompts.rows.tolist()
    assert len(read) == 8 and set(read) == {0, 1, 3, 4, 5, 6} and numbers == list(range(8))
    alone = [source.eyes.see([form.examples[n]], 1)[0][0] for n in prompts.sight.example]
    np.testing.assert_allclose(prompts.sight.vectors, alone, atol=1e-5)
    again = jax.device_get(material.prompts(0, one_device))
    np.testing.assert_array_equal(again.sight.example, prompts.sight.example)
    assert "; 6 of " in str(material) and str(material).endswith("had images that cannot be read")
    told = capfd.readouterr().err
    assert told.count("warning: left out: ") == 3 and "has no image 2.png" in told


def test_text_is_read_beside_prompts_with_images_and_what_is_held_out_of_it(
    damaged, one_device, tmp_path
):
    images, source = damaged
    (tmp_path / "text.txt").write_text("the cat sat on the mat and ran. " * 400)
    text = TextConfig(train=str(tmp_path / "text.txt"), cache=str(tmp_path / "cache"))
    form = SeenForm(ByteTokenizer(), source.eyes.whole, "eyes", 2 * images.examples("train"))
    made = replace(setting("", ""), images=images, batch=8)
    plain = SeenMaterial(replace(made, text=text), form, source)
    assert plain.held_out is not None and plain.text_rows(0, one_device) is None
    assert len(plain.origins(0)) == 8
    update = replace(made.update, gamma=27.8, text_rows=2)
    mixed = SeenMaterial(replace(made, text=text, update=update), form, source)
    rows = mixed.text_rows(0, one_device)
    assert rows.tokens.shape == (8, 2, made.width) and rows.mask.all()
    assert not (np.asarray(rows.tokens) == source.eyes.whole.image_id).any()
    assert mixed.digest != plain.digest and len(mixed.origins(0)) == 8 + 16
    with pytest.raises(ConfigError, match="update.gamma: init knows no pre-training text"):
        SeenMaterial(replace(made, update=update), form, source)
    gone = replace(text, train=str(tmp_path / "gone.txt"))
    told = str(SeenMaterial(replace(made, text=gone), form, source))
    assert "the loss on pre-training text is not measured" in told


def test_prompts_of_text_are_refused_where_questions_have_images():
    with pytest.raises(ConfigError, match="data is of prompts of text.*: set images"):
        bind(gpt4.ppo(), {"data.train": "prompts.jsonl"})


@pytest.mark.slow
def test_the_tax_on_text_is_told_of_a_policy_that_sees_and_text_beside_it_repairs_it(
    data, base, tmp_path
):
    (tmp_path / "text.txt").write_text("the cat sat on the mat and ran. " * 400)
    text, told = TextConfig(train=str(tmp_path / "text.txt"), cache=str(tmp_path / "cache")), {}
    for gamma in (0.0, 1.0):
        update = UpdateConfig(minibatches=2, average=0.5, gamma=gamma, text_rows=1)
        setting(data, base, text=text, update=update, steps=20).run(tmp_path / str(gamma))
        rows = read_metrics(tmp_path / str(gamma) / "metrics.jsonl")
        told[gamma] = [row["pretraining_loss"] for row in rows if "pretraining_loss" in row]
    assert told[0.0][0] == pytest.approx(told[1.0][0])
    assert told[1.0][-1] < min(told[1.0][0], told[0.0][-1]) - 0.5


def test_a_ranking_whose_image_cannot_be_read_does_not_count(damaged, capfd):
    images, source = damaged
    form = SeenForm(ByteTokenizer(), source.eyes.whole, "eyes")
    data = SeenComparisons(images=images, contrast=2)
    made = replace(teaching("", ""), data=data)
    material = SeenRankings(made, form, source)
    counted = {item.prompt.about: bool(mask.any()) for item, mask in zip(
        material.parts["valid"].items, material.parts["valid"].rows.mask, strict=True
    )}  # fmt: skip
    assert [name for name, there in counted.items() if not there] == ["2.png", "7.png"]
    rows = material.rows(0, 8)
    assert rows.mask.any(axis=1).sum() == 6
    assert "; 4 of " in str(material)
    assert "has no image 2.png" in capfd.readouterr().err


def test_images_that_cannot_be_read_stop_a_run_once_they_are_more_than_a_few():
    unread = Unread()
    assert unread.add(["a"], 10) == ["warning: left out: a"]
    assert unread.add(40 * ["b"], 790) == 2 * ["warning: left out: b"]
    assert unread.add(9 * ["c"], 200) == []
    with pytest.raises(DataError, match="51 of 1001 rows have an image that cannot be read.*: d;"):
        unread.add(["d"], 1)


def test_a_right_answer_stands_before_others_that_its_question_has(data):
    examples = VisualConfig(root=str(data)).examples("train")
    for one in contrasted(examples, examples, 3):
        assert one.answers[0] == one.prompt.answers[0] and one.ranks == (0, 1, 1)
        assert set(one.answers) == {"red", "green", "blue"}
    assert contrasted(examples, [], 3) == []  # there is nothing to prefer it to


@pytest.mark.slow
def test_a_reward_model_learns_from_what_is_seen_which_answer_is_right(judge):
    assert figures(judge)["valid_accuracy"] == 1.0


@pytest.mark.slow
def test_a_reward_model_shown_another_images_colour_prefers_that_colours_name(
    data, base, judge, one_device
):
    made = teaching(data, base)
    source = made.source(one_device)
    made = made.resolved(source)
    material = made.material(made.form(source.tokenizer, source), source, one_device)
    rows, items = material.parts["valid"].rows, material.parts["valid"].items
    model, params = source.model, read_source(str(judge), one_device).params

    def preferred(vectors):
        sight = rows.sight.replace(vectors=vectors)
        best = np.argmax(scored(model, params, rows.replace(sight=sight)), axis=1)
        return [item.answers[n] for item, n in zip(items, best, strict=True)]

    truths = [item.answers[0] for item in items]
    assert len(set(truths)) > 1
    assert preferred(rows.sight.vectors) == truths
    assert preferred(rows.sight.vectors[::-1]) == truths[::-1]


@pytest.mark.slow
def test_what_scores_zero_may_have_more_images_than_what_is_learned(
    data, base, tmp_path, one_device
):
    """A comparison that is left out for a long answer, of two images: the other answer fits."""
    one = {"image": "0.png", "question": "colour?"}
    two = {"parts": [{"image": "0.png"}, {"image": "1.png"}, {"text": "?"}]}
    rows = [one | {"answers": ["red", "blue"], "ranks": [0, 1]}] * 3
    rows.append(two | {"answers": ["red", 40 * "b"], "ranks": [0, 1]})
    path = tmp_path / "ranked.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with zipfile.ZipFile(data / "easy_vqa" / "train_images.zip") as archive:
        archive.extractall(tmp_path)
    compared = SeenComparisons(contrast=0, train=str(path), valid=str(path))
    made = replace(teaching(data, base), data=compared)
    source = made.source(one_device)
    made = made.resolved(source)
    material = made.material(made.form(source.tokenizer, source), source, one_device)
    assert material.count == 3 and len(material.zero_rows().mask) == 4


@pytest.mark.slow
def test_a_rollout_is_rewarded_as_the_same_ranking_is(data, base, judge, one_device):
    made = setting(data, base, reward=RewardConfig(run=str(judge)))
    source = made.source(one_device)
    form = made.form(source)
    material = made.material(form, source)
    prompts = material.prompts(0, one_device)
    rollout = roll_out(
        source.model, source.params, prompts, jax.random.key(0), count=6, end=source.tokenizer.end
    )
    scorer = RolloutScorer(made.reward, form, one_device)
    first = material.examples[int(prompts.sight.example[0])]
    (one,) = contrasted([first], material.examples, 3)
    ids = source.tokenizer.encode(one.answers[0]) + [source.tokenizer.end]
    start = int(rollout.start[0])
    tokens = np.array(rollout.tokens)
    tokens[0, start : start + len(ids)] = ids
    mask = np.array(rollout.mask)
    mask[0] = np.arange(6) < len(ids)
    said = np.asarray(scorer(rollout.replace(tokens=tokens, mask=mask)))[0]
    teacher = teaching(data, base).resolved(source)
    ranked = teacher.material(teacher.form(source.tokenizer, source), source, one_device)
    row = next(n for n, item in enumerate(ranked.parts["train"].items) if item.prompt == one.prompt)
    rows = ranked.looked_at(take(ranked.learned.whole, np.array([row])), ranked.parts["train"])
    wanted = scored(source.model, scorer.params, rows)[0, 0]
    np.testing.assert_allclose(said, wanted, atol=1e-4)


@pytest.mark.slow
def test_ppo_on_images_raises_what_a_rule_and_what_a_reward_model_says_of_answers(
    data, base, judge, tmp_path
):
    rewards = {
        "rule": RewardConfig(function="lm.rlhf.seeing:right"),
        "model": RewardConfig(run=str(judge)),
    }
    for name, reward in rewards.items():
        setting(data, base, reward=reward, steps=60).run(tmp_path / name)
        rows = read_metrics(tmp_path / name / "metrics.jsonl")
        told = [row["reward"] for row in rows if "reward" in row]
        spread = rows[1]["reward_std"]
        # of 320 answers each: four standard errors
        assert np.mean(told[-10:]) > np.mean(told[:10]) + spread / 4


@pytest.mark.slow
def test_a_reward_model_with_other_eyes_is_refused(data, base, judge, tmp_path, one_device):
    other = tmp_path / "other"
    config(data, steps=1, seed=1, loop=LoopConfig(evaluate_every=1, save_every=1)).run(other)
    made = setting(data, other, reward=RewardConfig(run=str(judge)))
    form = made.form(made.source(one_device))
    with pytest.raises(ConfigError, match="has the eyes .* start both from one run that sees"):
        RolloutScorer(made.reward, form, one_device)
    with pytest.raises(ConfigError, match="has the eyes .* and the policy None"):
        RolloutScorer(made.reward, form.tokenizer, one_device)
    with pytest.raises(CheckpointError, match="name the run that it began from"):
        teaching(data, other).run(judge)


def test_rankings_of_people_name_their_images_from_the_folder_of_their_file(tmp_path):
    rows = [
        {"image": f"{n}.png", "question": "what?", "answers": ["a", "b"], "ranks": [1, 0]}
        for n in range(9)
    ]
    rows.append({"parts": [{"text": "see "}, {"image": "9.png"}], "answers": ["a"], "ranks": [0]})
    path = tmp_path / "ranked.jsonl"
    data = SeenComparisons(contrast=0, train=str(path), valid_fraction=0.5)
    path.write_text("\n".join(map(json.dumps, rows[:9])))
    train, valid = data.compared("train"), data.compared("valid")
    assert len(train) + len(valid) == 9
    assert train[0].prompt.pictures[0].where == str(tmp_path)
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"ranked.jsonl:10: 1 answers; a comparison has 2 to 9"):
        data.compared("train")
    ordered = {"answers": ["a", "b"], "ranks": [1, 0]}
    wrong = [{"parts": [{"text": 5}]}, {"parts": []}, {"question": "?"}]
    path.write_text("\n".join(json.dumps(row | ordered) for row in wrong))
    with pytest.raises(DataError, match=r":1: a part is .*:2: a part is .*:3: .* \"image\""):
        data.compared("train")


def test_an_image_is_held_out_by_its_name_wherever_its_folder_is(tmp_path, monkeypatch):
    rows = [
        {"image": f"{n}.png", "question": "what?", "answers": ["a", "b"], "ranks": [1, 0]}
        for n in range(20)
    ]
    (tmp_path / "ranked.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.chdir(tmp_path)
    names = [
        [one.prompt.about for one in SeenComparisons(contrast=0, train=path).compared("valid")]
        for path in (str(tmp_path / "ranked.jsonl"), "ranked.jsonl")
    ]
    assert names[0] == names[1] and 0 < len(names[0]) < 20
