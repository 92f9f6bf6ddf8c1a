"""The whole loop with a real browser: talk, rank on the page, train on the file, and be liked more.

The model was taught to answer either of two ways, as often the one as the other; whoever ranks
likes one of them.
"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lm
from lm.data.dialogue_comparisons import DialogueComparisonsConfig
from lm.data.dialogues import DialoguesConfig
from lm.data.prompts import held_out
from lm.decode.sampling import SamplingConfig
from lm.models.gpt import GptConfig
from lm.rlhf.controller import KlConfig
from lm.rlhf.dialogue_sft import DialogueSft
from lm.rlhf.ppo import Ppo
from lm.rlhf.reward import RewardTraining
from lm.rlhf.scores import RewardConfig
from lm.rlhf.update import UpdateConfig
from lm.serve.engine import Engine
from lm.serve.items import Pool, SamplingPlan, Wanted, read_prompts
from lm.serve.labelling import Labelling
from lm.serve.labels import Labels
from lm.serve.model import Served
from lm.text.dialogue import Chat, Message
from lm.train.guard import GuardConfig
from lm.train.session import LoopConfig
from tests.rlhf.runs import OPTIM, VOCAB, pretrained, write_rows
from tests.serve.browser import browsing, settled
from tests.serve.served import listening, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_device")]
LOOP = LoopConfig(log_every=10, evaluate_every=100, save_every=100, sample_tokens=8)
GUARD = GuardConfig(spike="off")
MODEL = GptConfig(layers=1, width=32, heads=2, vocab=VOCAB, length=96)
LIKED, OTHER = "Gladly.", "No way."
ASKED = [f"{word} {letter}?" for word in ("Sing", "Tea", "Stay", "Now") for letter in "abcdefgh"]
USERS = ["abe", "ben", "coy", "dee", "eve", "flo", "gus", "hal"]  # each with a letter of his own


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return taught(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def served(run):
    loaded = lm.load(run)
    engine = Engine(loaded.config.model, loaded.params, slots=2).start()
    yield Served("chat", engine, loaded.tokenizer)
    engine.close(drain=False)


def taught(folder):
    drawn = np.random.default_rng(0)
    rows = []
    for _ in range(300):
        messages = []
        for asked in drawn.choice(ASKED, 2):
            answer = str(drawn.choice([LIKED, OTHER]))
            messages += [{"role": "user", "content": str(asked)},
                         {"role": "assistant", "content": answer}]  # fmt: skip
        rows.append({"messages": messages})
    config = DialogueSft(
        init=str(pretrained(folder / "base", MODEL)), optim=OPTIM, batch=32, steps=150, length=80,
        residual_dropout=0.0, loop=LOOP, guard=GUARD, show=0,
        data=DialoguesConfig(train=write_rows(folder / "rows.jsonl", rows)),
    )  # fmt: skip
    config.run(folder / "chat")
    return folder / "chat"


def liked(run):
    """How often an answer is of the preferred style."""
    loaded = lm.load(run)
    chat = Chat(loaded.tokenizer)
    prompts = chat.prompts([(Message("user", asked),) for asked in ASKED * 8])
    rows = loaded.generator()(prompts, 12, SamplingConfig(temperature=1.0), seed=3)
    return float(np.mean([chat.decode(row) == LIKED for row in rows]))


def say(page, *texts):
    """Says each when the last has been answered, in a fresh conversation."""
    for number, text in enumerate(texts, start=1):
        page.fill("#text", text)
        page.press("#text", "Enter")
        page.wait_for_function(f"document.querySelectorAll('.turn').length === {2 * number}")
        settled(page)
        assert page.locator(".assistant .said").nth(number - 1).inner_text()


def test_both_pages_are_shown_as_the_readme_shows_them(served, tmp_path):
    """`LM_SCREENSHOTS=FOLDER` keeps the pictures there: `make screenshots`."""
    prompts = [Wanted((Message("user", one),)) for one in ASKED[::8]]
    pool = Pool(tmp_path / "labels", prompts, [served], SamplingPlan(answers=2, attempts=24))
    pool.start()
    routes = Labelling(Labels(tmp_path / "labels"), pool, 1).routes()
    window = {"viewport": {"width": 1000, "height": 600}}
    with listening(served, extra=routes) as address:
        with browsing(address, **window) as page:
            say(page, ASKED[0], ASKED[8])
            page.screenshot(path=tmp_path / "chat.png")
        wait_until(lambda: pool.items, 60)
        with browsing(address + "/label", **window) as page:
            page.fill("#name", "ann")
            page.keyboard.press("Enter")
            page.wait_for_selector(".answer")
            page.screenshot(path=tmp_path / "label.png")
    pool.stop()
    for name in ("chat.png", "label.png"):
        picture = Image.open(tmp_path / name)
        assert picture.size == (1000, 600) and len(picture.getcolors(1 << 20)) > 50
        if folder := os.environ.get("LM_SCREENSHOTS"):
            shutil.copy(tmp_path / name, folder)


def told(page, number):
    """Waits until the page tells that so many are done."""
    page.wait_for_function(
        f"document.getElementById('progress').textContent.startsWith('{number} of')"
    )


def rank(page, number):
    """Puts the answer that is liked first, of an item that comes after `number` others, and any
    other style before no answer at all."""
    told(page, number)
    page.wait_for_selector(".answer")
    for style in (OTHER, LIKED):
        better = page.locator(".answer", has_text=style)
        if better.count():
            better.first.focus()
            page.keyboard.press("Shift+ArrowUp")
    page.locator(".answer").nth(1).focus()
    for _ in range(2):  # one that nobody touched would be asked about
        page.keyboard.press("t")
    page.keyboard.press("Control+Enter")


def said_by(asked):
    return USERS[ASKED.index(asked) % 8]


def held_out_user(user):
    return held_out(f"user {user}", 0.3)


def judged(run):
    """The share of pairs of users nothing was learned of that are in their order, and its error."""
    told = json.loads((run / "summary.json").read_text())
    return told["valid_accuracy"], told["valid_accuracy_error"]


def test_what_two_people_rank_holds_for_users_of_whom_nothing_is_learned(run, served, tmp_path):
    folder = tmp_path / "labels"
    rows = [{"prompt": one, "user": USERS[n % 8]} for n, one in enumerate(ASKED)]
    asked = write_rows(tmp_path / "asked.jsonl", rows)
    plan = SamplingPlan(answers=2, max_tokens=12, attempts=12)
    pool = Pool(folder, read_prompts(Path(asked)), [served], plan)
    pool.start()
    with listening(served, extra=Labelling(Labels(folder), pool, 1).routes()) as address:
        wait_until(lambda: not pool.making, 120)
        assert len(pool.items) >= 24
        half = len(pool.items) // 2
        for labeler, count in (("ann", half), ("bob", len(pool.items) - half)):
            with browsing(address + "/label") as page:
                page.fill("#name", labeler)
                page.keyboard.press("Enter")
                for number in range(count):
                    rank(page, number)
                told(page, count)
    kept = (folder / "labels.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in kept]
    assert len({one["item"] for one in records}) == len(records) == len(pool.items)
    assert {one["labeler"] for one in records} == {"ann", "bob"}

    learned = RewardTraining(
        init=str(run), optim=OPTIM, batch=4, steps=40, length=80, loop=LOOP, guard=GUARD,
        data=DialogueComparisonsConfig(train=str(folder), valid_fraction=0.3),
    )  # fmt: skip
    learned.run(tmp_path / "liked")
    unseen = {one["user"] for one in records if held_out_user(one["user"])}
    valid = learned.data.compared("valid")
    assert len(valid) >= 8 and len(unseen) >= 3
    assert {said_by(one.prompt[0].content) for one in valid} == unseen
    accuracy, error = judged(tmp_path / "liked")
    assert accuracy - 2 * error > 0.5, (accuracy, error)
    # the control: of the others everything is said the other way around
    turned = [one if one["user"] in unseen else one | {"ranks": [3 - r for r in one["ranks"]]}
              for one in records]  # fmt: skip
    data = replace(learned.data, train=write_rows(tmp_path / "turned.jsonl", turned))
    replace(learned, data=data).run(tmp_path / "disliked")
    accuracy, error = judged(tmp_path / "disliked")
    assert accuracy + 2 * error < 0.5, (accuracy, error)


def test_what_is_ranked_on_the_page_is_what_the_policy_learns(run, served, tmp_path):
    labels = Labels(run / "labels")
    asked = write_rows(tmp_path / "asked.jsonl", [{"prompt": one} for one in ASKED])
    plan = SamplingPlan(answers=2, max_tokens=12, attempts=12)
    pool = Pool(run / "labels", read_prompts(Path(asked)), [served], plan)
    pool.start()
    with listening(served, extra=Labelling(labels, pool, 1).routes()) as address:
        with browsing(address) as page:
            say(page, *ASKED[:2])
        wait_until(lambda: not pool.making, 120)
        assert len(pool.items) >= 24
        with browsing(address + "/label") as page:
            page.fill("#name", "ann")
            page.keyboard.press("Enter")
            for number in range(len(pool.items)):
                rank(page, number)
            page.wait_for_selector("#none")
    kept = (run / "labels" / "labels.jsonl").read_text().splitlines()
    assert len(kept) == len(pool.items) and json.loads(kept[0])["kind"] == "ranking"

    RewardTraining(
        init=str(run), optim=OPTIM, batch=4, steps=40, length=80, loop=LOOP, guard=GUARD,
        data=DialogueComparisonsConfig(train=str(run / "labels"), valid_fraction=0.3),
        demonstrations=str(run.parent / "rows.jsonl"),
    ).run(tmp_path / "liked")  # fmt: skip
    Ppo(
        init=str(run), data=DialoguesConfig(train=str(run.parent / "rows.jsonl")),
        reward=RewardConfig(run=str(tmp_path / "liked")), optim=OPTIM, value_optim=OPTIM,
        batch=32, steps=40, prompt_length=60, answer_length=12, warmup=0,
        update=UpdateConfig(minibatches=2), guard=GUARD, evaluate_prompts=16,
        kl=KlConfig(beta=0.5),
        loop=replace(LOOP, log_every=5),
    ).run(tmp_path / "ppo")  # fmt: skip
    before, after = liked(run), liked(tmp_path / "ppo")
    assert 0.2 < before < 0.8  # the control: both ways are there to begin with
    assert after > before + 0.15, (before, after)
