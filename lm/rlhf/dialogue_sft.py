"""Supervised fine-tuning on conversations: every turn of the assistant is a demonstration.

ChatGPT's first step (OpenAI 2022, announcement): conversations that people wrote for both sides,
mixed with the instructions of InstructGPT as conversations of one turn. No weights are published.
"""

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np

from lm.core.config import require, require_positive
from lm.data.dialogue_rows import DialogueMixture, encode_dialogues
from lm.data.dialogues import DialoguesConfig, prompts_in
from lm.rlhf.sft import Sft, SftMaterial
from lm.rlhf.sft_evaluation import SftEvaluation
from lm.text.dialogue import Chat
from lm.text.interface import Form
from lm.text.shown import shown_row
from lm.train.session import Session

SHARING = 2  # of the rules by which paths share answers: a run goes on by those it began with


@dataclasses.dataclass(frozen=True, kw_only=True)
class DialogueSft(Sft):
    """Learns to say what the assistant says."""

    data: DialoguesConfig = DialoguesConfig()
    answered: int = 64  # held-out prompts that are answered, to see whether answers end
    show: int = 2  # rows of the data that are printed before the first step

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "answered")
        require(
            not self.whole_text,
            "whole_text=True: of a conversation what the assistant says is learned, never what "
            "others say; set data.learned to all or last",
        )
        require(
            self.prompt_length is None,
            f"prompt_length {self.prompt_length}: of a longer conversation the newest turns are "
            "learned; set length",
        )

    def demonstrated(self, form: Form) -> SftMaterial:
        chat = Chat(form.tokenizer)
        some = {name: encode_dialogues(items, chat, self.length, self.data.learned)
                for name, items in self.data.dialogues("train").items()}  # fmt: skip
        weights = [weight for _, weight in self.data.sources.values()]
        mixed = DialogueMixture(some, weights, self.seed)
        valid = list(itertools.chain.from_iterable(self.data.dialogues("valid").values()))
        held_out: Any = encode_dialogues(valid, chat, self.length, self.data.learned)
        prompts = [prompt for one in valid for prompt in prompts_in(one.turns, self.data.asked)]
        for number in range(self.show if jax.process_index() == 0 else 0):
            row = mixed(number, 1)
            print(shown_row(chat.tokenizer, row.tokens[0], row.targets[0], row.mask[0]))
        material = SftMaterial(self, mixed, held_out, mixed, prompts)
        if any(one.late for one in some.values()):
            material.digest += f";{SHARING}"
        return material

    def evaluation(
        self, material: Any, form: Form, mesh: jax.sharding.Mesh, session: Session
    ) -> "DialogueEvaluation":
        return DialogueEvaluation(self, material, form, mesh, session)


class DialogueEvaluation(SftEvaluation):
    """The figures of SFT, and how many answers end by themselves."""

    def __call__(self, step: int, params: Any) -> dict[str, float]:
        figures = super().__call__(step, params)
        most = self.config.loop.sample_tokens
        if most:
            assert isinstance(self.config, DialogueSft)
            some = self.prompts[: self.config.answered]
            lengths = [len(row) for row in self.written(params, some, 1.0)]
            figures["ended"] = float(np.mean([length < most for length in lengths]))
        return figures
