"""InstructGPT's stages on conversations: the vocabulary grows, turns end, PPO is cut at a turn."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments import chatgpt
from lm.core.errors import ConfigError
from lm.data.dialogue_comparisons import DialogueComparisonsConfig
from lm.data.dialogues import DialoguesConfig
from lm.rlhf.dialogue_sft import DialogueSft
from lm.rlhf.dpo import Dpo
from lm.rlhf.experience import AdvantageConfig
from lm.rlhf.ppo import Ppo
from lm.rlhf.reward import RewardTraining
from lm.rlhf.scores import RewardConfig, text_scorer
from lm.rlhf.source import Source, knowing, read_source
from lm.rlhf.update import UpdateConfig
from lm.text.added import AddedSpecials
from lm.text.byte import ByteTokenizer
from lm.text.dialogue import Chat, as_objects
from lm.train.guard import GuardConfig
from lm.train.metrics import read_metrics
from lm.train.session import LoopConfig
from tests.rlhf.runs import MODEL, OPTIM, pretrained, write_rows
from tests.text.dialogue_test import turns
from tests.text.tokenizers import tokenizer

pytestmark = pytest.mark.usefixtures("one_device")

LOOP = LoopConfig(log_every=10, evaluate_every=100, save_every=100, sample_tokens=8)
GUARD = GuardConfig(spike="off")
SEEN = []  # what the gold function was asked


def brevity(prompts, answers):
    SEEN.extend(prompts)
    return [-float(len(answer)) for answer in answers]


def conversations(count):
    """The assistant says the first letter of the conversation, in every turn."""
    draw = np.random.default_rng(0)
    rows = []
    for _ in range(count):
        first, *rest = ("".join(draw.choice(list("abcdefgh"), 2)) for _ in range(3))
        said = [text for asked in (first, *rest) for text in (asked, first[0])]
        rows.append({"messages": as_objects(turns(*said))})
    return rows


def ranked(rows):
    """Of three answers to a conversation's second turn the shortest is the best."""
    return [
        {"kind": "ranking", "item": f"{n}", "labeler": "ann", "messages": row["messages"][:3],
         "answers": ["z" * 4, "z", "zz"], "ranks": [3, 1, 2]}
        for n, row in enumerate(rows)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    rows = write_rows(folder / "rows.jsonl", conversations(300))
    single = [{"prompt": f"{a}{b}", "response": a} for a in "abcd" for b in "efgh"] * 4
    extra = write_rows(folder / "single.jsonl", single)
    config = DialogueSft(
        init=str(pretrained(folder / "base")), optim=OPTIM, batch=32, steps=100, length=40,
        residual_dropout=0.0, loop=LOOP, guard=GUARD, show=1,
        data=DialoguesConfig(mixture=(("talk", rows, 3.0), ("single", extra, 1.0))),
    )  # fmt: skip
    config.run(folder / "run")
    return folder / "run"


def test_only_a_run_whose_paths_were_cut_is_of_another_rule_by_which_they_share_answers(tmp_path):
    def node(role, text, *replies):
        return {"role": role, "text": text, "replies": list(replies)}

    last = [
        node("prompter", ask, node("assistant", said))
        for ask, said in (("x", "X" * 20), ("y", "Y"))
    ]
    trees = [node("prompter", f"{n}", node("assistant", "a", *last)) for n in range(9)]
    data = DialoguesConfig(
        train=write_rows(tmp_path / "trees.jsonl", [{"prompt": tree} for tree in trees])
    )
    for length, rule in ((64, ""), (30, ";2")):
        config = DialogueSft(optim=OPTIM, batch=2, length=length, show=0, data=data)
        found = config.demonstrated(Chat(ByteTokenizer()))
        assert found.digest == data.fingerprint + rule
        assert ("an earlier path of their tree has no room" in str(found)) == bool(rule)


def summary_of(run):
    return json.loads((run / "summary.json").read_text())


@pytest.mark.slow
def test_answers_of_a_model_that_conversed_end_by_themselves(taught):
    found = summary_of(taught)
    assert found["ended"] > 0.95 and found["valid_loss"] < 1.5
    first = read_metrics(taught / "metrics.jsonl")[0]
    assert first["ended"] < 0.5  # the control: before it has learned anything
    assert "talk (75.0% of the rows" in found["rows"] and "single (25.0%" in found["rows"]
    shown = (taught / "samples" / "00000100.txt").read_text()
    assert "user: " in shown and "assistant: [" in shown


@pytest.mark.slow
def test_text_is_learned_beside_conversations_before_ppo_and_in_it(tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", conversations(60))
    start = replace(
        chatgpt.sft(), init=str(pretrained(tmp_path / "base")), pretraining_share=0.125, batch=4,
        steps=4, length=40, loop=replace(LOOP, log_every=1), data=DialoguesConfig(train=rows),
    )  # fmt: skip
    start.run(tmp_path / "run")
    told = read_metrics(tmp_path / "run" / "metrics.jsonl")
    losses = [row["loss/text"] for row in told if "loss/text" in row]
    assert len(losses) == 2 and min(losses) > 1.0  # two rows in four steps
    assert summary_of(tmp_path / "run")["pretraining_loss"] > 1.0
    policy = replace(
        chatgpt.ppo_ptx(), init=str(tmp_path / "run"), data=start.data, batch=8, steps=2,
        reward=RewardConfig(function=f"{__name__}:brevity"), value_from="policy", best_of=2,
        prompt_length=26, answer_length=8, evaluate_prompts=8, loop=replace(LOOP, log_every=1),
    )  # fmt: skip
    policy.run(tmp_path / "ppo")
    told = read_metrics(tmp_path / "ppo" / "metrics.jsonl")
    assert all(row["loss/text"] > 1.0 for row in told if "loss/text" in row)


@pytest.mark.slow
def test_a_reward_model_and_ppo_read_and_answer_conversations(taught, tmp_path, one_device):
    rows = conversations(120)
    judge = RewardTraining(
        init=str(taught), optim=OPTIM, batch=8, steps=30, length=40, loop=LOOP, guard=GUARD,
        data=DialogueComparisonsConfig(train=write_rows(tmp_path / "labels.jsonl", ranked(rows))),
        demonstrations=write_rows(tmp_path / "rows.jsonl", rows),
    )  # fmt: skip
    judge.run(tmp_path / "reward")
    assert summary_of(tmp_path / "reward")["valid_accuracy"] > 0.9
    chat = Chat(ByteTokenizer())
    score = text_scorer(RewardConfig(run=str(tmp_path / "reward")), chat, one_device)
    assert np.diff(score([turns("ab", "a", "cd")] * 2, ["zzzz", "z"]))[0] > 0
    SEEN.clear()
    config = Ppo(
        init=str(taught), data=DialoguesConfig(train=str(tmp_path / "rows.jsonl")),
        reward=RewardConfig(run=str(tmp_path / "reward")),
        gold=RewardConfig(function=f"{__name__}:brevity"), optim=OPTIM, value_optim=OPTIM,
        batch=16, steps=2, prompt_length=26, answer_length=8, warmup=0, best_of=2,
        advantages=AdvantageConfig(missing_end=1.0), update=UpdateConfig(minibatches=2),
        guard=GUARD, evaluate_prompts=16, loop=replace(LOOP, log_every=1),
    )  # fmt: skip
    config.run(tmp_path / "ppo")
    assert SEEN and all(one[-1].role == "user" for one in SEEN)
    assert {len(one) for one in SEEN} == {1, 3, 5}  # cut at a random turn of the assistant
    steps = [row for row in read_metrics(tmp_path / "ppo" / "metrics.jsonl") if "drift" in row]
    assert all(row["drift"] < 1e-4 for row in steps)
    assert steps[0]["ended"] > 0.9  # an answer of the policy ends with a turn's end
    saved = read_source(str(tmp_path / "ppo"), one_device).tokenizer
    assert saved.digest == chat.tokenizer.digest


@pytest.mark.slow
def test_dpo_learns_from_rankings_of_answers_to_conversations(taught, tmp_path, one_device):
    data = DialogueComparisonsConfig(
        train=write_rows(tmp_path / "labels.jsonl", ranked(conversations(120))), valid_fraction=0.2
    )
    config = Dpo(
        init=str(taught), data=data, optim=OPTIM, batch=8, steps=30, length=40, loop=LOOP,
        guard=GUARD,
    )  # fmt: skip
    config.run(tmp_path / "dpo")
    assert read_metrics(tmp_path / "dpo" / "metrics.jsonl")[0]["valid_accuracy"] == 0.5
    assert summary_of(tmp_path / "dpo")["valid_accuracy"] > 0.9
    saved = read_source(str(tmp_path / "dpo"), one_device).tokenizer
    assert saved.digest == Chat(ByteTokenizer()).tokenizer.digest  # it can be talked to


def test_what_users_say_cannot_be_learned():
    with pytest.raises(ConfigError, match="never what others say"):
        DialogueSft(optim=OPTIM, batch=8, whole_text=True)


def test_a_published_vocabulary_grows_and_says_the_same_of_all_other_tokens(one_device):
    base = tokenizer("gpt2")
    model = replace(MODEL, vocab=base.vocab_size, width=16)
    params = {"tokens": {"table": np.ones((base.vocab_size, 16), np.float32)}, "rest": 1}
    source = Source(model, base, None, params, "")
    grown = knowing(source, DialoguesConfig())
    assert grown.model.vocab == base.vocab_size + 5 == grown.tokenizer.vocab_size
    table = np.asarray(grown.params["tokens"]["table"])
    np.testing.assert_array_equal(table[:-5], params["tokens"]["table"])
    assert 0.001 < np.std(table[-5:]) < 0.1 and isinstance(grown.tokenizer, AddedSpecials)
    assert knowing(grown, DialoguesConfig()).params is grown.params
    bytewise = replace(source, tokenizer=ByteTokenizer(), model=MODEL)
    assert knowing(bytewise, DialoguesConfig()).params is params
