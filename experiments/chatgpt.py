"""ChatGPT (OpenAI, 30 November 2022; an announcement, no paper: no size, count, rate or score is
published, so every number here is our choice, or InstructGPT's).

    python -m launch.train --experiment=chatgpt:sft --set init=runs/gpt2-tiny \
        --set data.train=conversations.jsonl --workdir=runs/chat
    python -m launch.train --experiment='chatgpt:reward(data="labels/")' --set init=runs/chat \
        --workdir=runs/liked
    python -m launch.train --experiment=chatgpt:ppo --set init=runs/chat \
        --set reward.run=runs/liked --set data.train=conversations.jsonl --workdir=runs/chatgpt

or, from the same rankings without a reward model,

    python -m launch.train --experiment='chatgpt:dpo(data="labels/")' --set init=runs/chat \
        --workdir=runs/chatgpt

or all of it, twice round, a program ranking in place of people:

    python -m launch.train --experiment=chatgpt:pipeline --set init=runs/gpt2-tiny \
        --set sft.data.train=conversations.jsonl --set judge.function=mine:judge \
        --workdir=runs/rounds

It is InstructGPT on conversations: who speaks and where a turn ends are ids that text can never
produce, every turn of the assistant is learned, a reward is read at the end of the last of them,
and PPO answers conversations that were cut at one of them. Files may be of any kind that
`lm/data/dialogues.py` reads; several are mixed by weight:

    --set 'data.mixture=(("dialogue","dailydialog.txt.gz",0.7),("instructions","alpaca.jsonl",0.3))'
"""

from dataclasses import replace

from experiments import instructgpt
from lm.data.dialogue_comparisons import DialogueComparisonsConfig
from lm.data.dialogues import DialoguesConfig
from lm.data.prompts import RowsConfig
from lm.models.gpt import GptConfig
from lm.rlhf.dialogue_sft import DialogueSft
from lm.rlhf.dpo import Dpo
from lm.rlhf.ppo import Ppo
from lm.rlhf.reward import RewardTraining
from lm.rlhf.scores import RewardConfig
from lm.studies.conversation import Conversing
from lm.studies.several import TOY
from lm.train.optimizer import AdamWConfig
from lm.train.session import LoopConfig

SPECIALS = 5  # that conversations add to GPT-2's vocabulary


def decoder(size: str) -> GptConfig:
    """The architecture that InstructGPT has, with ids for who speaks and where a turn ends."""
    model = instructgpt.decoder(size)
    return replace(model, vocab=model.vocab + SPECIALS)


def dialogues(like: RowsConfig) -> DialoguesConfig:
    """Conversations, of which as many are taken as InstructGPT takes prompts."""
    return DialoguesConfig(per_user=like.per_user, common_prefix=like.common_prefix)


def sft(size: str = "tiny", text: str | None = None) -> DialogueSft:
    """Conversations, and instructions as conversations of one turn, by weight."""
    like = instructgpt.sft(size, text)
    if size == "tiny":
        return DialogueSft(
            text=like.text,
            optim=AdamWConfig(peak_lr=1e-3, weight_decay=0.0),
            batch=16,
            epochs=3.0,
            length=128,
            residual_dropout=0.0,
            loop=LoopConfig(evaluate_every=100, save_every=100, sample_tokens=48),
        )
    return DialogueSft(
        data=dialogues(like.data),
        text=like.text,
        model=decoder(size),
        optim=like.optim,
        batch=like.batch,
        epochs=like.epochs,
        length=like.length,
        residual_dropout=like.residual_dropout,
        loop=like.loop,
    )


def reward(size: str = "tiny", data: str | None = None) -> RewardTraining:
    """A reward model, from rankings of a model's message and its alternatives, such as labels/."""
    like = instructgpt.reward(size)
    rows = DialogueComparisonsConfig(
        train=like.data.train if data is None else data,
        per_user=like.data.per_user,
        common_prefix=like.data.common_prefix,
    )
    model = None if size == "tiny" else decoder("6b")
    return replace(like, data=rows, model=model, prompt_length=None)  # cut at a turn instead


def dpo(size: str = "tiny", data: str | None = None) -> Dpo:
    """Rankings without a reward model (Rafailov et al. 2023), in place of `reward` and `ppo`."""
    like = instructgpt.dpo(size)
    model = None if size == "tiny" else decoder(size)
    return replace(like, data=reward(size, data).data, model=model, prompt_length=None)


def ppo(size: str = "tiny", text: str | None = None) -> Ppo:
    """PPO: answers to conversations that end at a random turn of the assistant."""
    like = instructgpt.ppo(size, text)
    if size == "tiny":
        return replace(like, data=DialoguesConfig())
    return replace(like, data=dialogues(like.data), model=decoder(size), value_model=decoder("6b"))


def ppo_ptx(size: str = "tiny", text: str | None = None) -> Ppo:
    """The same with the gradient of pre-training text beside PPO's."""
    return replace(ppo(size, text), update=instructgpt.ppo_ptx(size).update)


def pipeline(size: str = "tiny") -> Conversing:
    """SFT, then twice: labels of the newest policy, a reward model of all labels, and PPO.

    At InstructGPT's sizes PPO learns pre-training text beside it.
    """
    like = instructgpt.pipeline(size).sft
    start = replace(
        sft(size), epochs=like.epochs, pretraining_share=like.pretraining_share, optim=like.optim
    )
    return Conversing(
        sft=start,
        reward=reward(size),
        ppo=ppo(size) if size == "tiny" else ppo_ptx(size),
        judge=RewardConfig(function=TOY),
    )
