"""The reward model of prompts with images, by the code that learns the order of answers to texts.

Comparisons are made of sets of questions, whose right answers come before wrong ones, or read from
a file of people's, whose images are named from its folder:

    {"image": "a.png", "question": "what is it?", "answers": ["a cat", "a dog"], "ranks": [1, 0]}
    {"parts": [{"image": "a.png"}, {"text": "what is it?\\n"}], "answers": [...], "ranks": [...]}
"""

import dataclasses
import hashlib
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from lm.core.config import require
from lm.core.errors import CheckpointError, ConfigError, DataError
from lm.data.comparisons import MOST, Comparison, ComparisonsConfig, comparisons
from lm.data.prompts import Part
from lm.data.rankings import Ranked, RankingBatch
from lm.data.visual import Example, VisualConfig
from lm.data.visual.unread import Unread
from lm.evals.visual import score
from lm.models.gpt_vision import GptVisionConfig
from lm.rlhf.eyes import SeeingSource, SeenForm, abstract_eyes, abstract_sight, read_seeing
from lm.rlhf.ranking import abstract_rankings
from lm.rlhf.reward import ComparisonMaterial, RewardTraining
from lm.rlhf.rollout import Sight
from lm.rlhf.source import Source
from lm.text.interface import Form
from lm.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeenComparisons(ComparisonsConfig):
    """Answers to questions about images, in an order."""

    images: VisualConfig = VisualConfig()  # the questions, where `contrast` is not 0
    contrast: int = 4  # answers to each at most, one of them right; 0: `train` names a file

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.contrast == 0 or 2 <= self.contrast <= 9,
            f"data.contrast must be from 2 to 9, or 0, got {self.contrast}",
        )
        require(
            not (self.contrast and self.held_out),
            f"data.held_out {self.held_out}: comparisons made of right answers have no labelers",
        )

    @property
    def told(self) -> str:
        return ", ".join(self.images.sets) if self.contrast else super().told

    @property
    def fingerprint(self) -> str:
        return self.told if self.contrast else super().fingerprint

    def compared(self, part: Part) -> list[Comparison]:
        if self.contrast:
            return contrasted(
                self.images.examples(part), self.images.examples("train"), self.contrast
            )
        return self.read(comparisons(self.between, images=True), part)


def contrasted(
    examples: Sequence[Example], among: Sequence[Example], count: int
) -> list[Comparison]:
    """Of each example its right answer, before wrong ones that the same question has in `among`;
    those whose question has none there are left out. A caption is wrong below half of its score."""
    known: dict[str, dict[str, None]] = {}
    for one in among:
        known.setdefault(one.question, {})[one.answers[0]] = None
    pools = {question: list(answers) for question, answers in known.items()}
    found = []
    for one in examples:
        pool, draw = pools.get(one.question, []), random.Random(one.id)
        others = draw.sample(pool, min(len(pool), 4 * count))  # of which some may be right
        wrong = [answer for answer in others if score(answer, one) < 0.5][: count - 1]
        answers = (one.answers[0], *wrong)
        ranks = (0, *[1] * len(wrong))
        found.append(Comparison(one, answers, ranks, "", one.id))
    return [comparison for comparison in found if comparison.pairs]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeeingReward(RewardTraining):
    """Learns a number for each answer about an image; `init` is the run whose eyes it has.

    A plan of it leaves out what looking costs, once a prompt.
    """

    data: SeenComparisons = SeenComparisons()
    eyes: str | None = None  # identity of the eyes, once the run has begun
    sees: GptVisionConfig | None = None  # the whole model of `init`, likewise

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.demonstrations is None,
            f"demonstrations {self.demonstrations}: none with images are read; the preferred "
            "answers score 0 on average",
        )
        require(not self.metadata, f"metadata {self.metadata}: none with images is learned")

    def needs_source(self, before: Any) -> bool:
        del before
        return True  # its eyes are not among what is learned

    def source(self, mesh: jax.sharding.Mesh) -> SeeingSource:
        return read_seeing(self.init, mesh, self.init_step)

    def form(self, tokenizer: Tokenizer, source: Source | None) -> Form:
        assert isinstance(source, SeeingSource)
        return SeenForm(tokenizer, source.eyes.whole, source.eyes.identity)

    def resolved(self, source: Any) -> Any:
        if isinstance(source, SeeingSource):
            eyes = source.eyes
            return replace(super().resolved(source), eyes=eyes.identity, sees=eyes.whole)
        if not isinstance(source, SeeingReward):
            raise ConfigError(
                f"the run's directory holds a {type(source).__name__}: choose another workdir"
            )
        return replace(super().resolved(source), eyes=source.eyes, sees=source.sees)

    def abstract_rows(self) -> RankingBatch:
        rows = abstract_rankings(self.batch, self.length, self.data.contrast or MOST)
        if self.sees is None:
            return rows
        sight = abstract_sight(self.sees, rows.tokens.shape)
        seen: RankingBatch = rows.replace(sight=sight)  # type: ignore[attr-defined]
        return seen

    def beside(self, mesh: jax.sharding.Mesh) -> dict[str, Any]:
        return {"eyes": abstract_eyes(self.sees, mesh)} if self.sees else {}

    def material(self, form: Form, source: Source | None, mesh: Any) -> "SeenRankings":
        assert isinstance(form, SeenForm) and isinstance(source, SeeingSource)
        if form.eyes != self.eyes:
            raise CheckpointError(
                f"init={self.init} has the eyes {form.eyes}, and this run began with {self.eyes}: "
                "name the run that it began from, and its checkpoint (init_step)"
            )
        return SeenRankings(self, form, source)


class SeenRankings(ComparisonMaterial):
    """Rankings, each with what the eyes make of its images."""

    def __init__(self, config: SeeingReward, form: SeenForm, source: SeeingSource):
        super().__init__(
            config.data, form, config.length, config.seed, end=config.end_token,
            prompt_length=config.prompt_length,
        )  # fmt: skip
        self.eyes, self.unread = source.eyes, Unread()
        compared: Any = [item for ranked in self.parts.values() for item in ranked.items]
        self.room = max(len(one.prompt.pictures) for one in (*compared, *self.zero))
        told = repr([(one.prompt, one.answers, one.ranks) for one in compared])
        self.digest = hashlib.sha256(told.encode()).hexdigest()
        for name, ranked in self.parts.items():
            rows = ranked.rows.replace(sight=self.unseen(ranked.rows))  # type: ignore[attr-defined]
            if name != "train":  # what is held out is read again and again
                rows = self.looked_at(rows, ranked)
                if not rows.mask.any():
                    raise DataError(f"no image of {config.data.told} for {name} can be read")
            self.parts[name] = replace(ranked, rows=rows)
        self.learned = self.shuffled(config.seed)

    def __str__(self) -> str:
        return f"{super().__str__()}{self.unread}"

    def rows(self, first: int, count: int) -> RankingBatch:
        return self.looked_at(super().rows(first, count), self.parts["train"])

    def zero_rows(self) -> RankingBatch:
        ranked = self.preferred()
        rows = ranked.rows.replace(sight=self.unseen(ranked.rows))  # type: ignore[attr-defined]
        return self.looked_at(rows, ranked)

    def unseen(self, rows: RankingBatch) -> Sight:
        """Where images stand in rows, and of which ranking they are."""
        whole, count = self.eyes.whole, len(rows.mask)
        return Sight(
            vectors=None, places=rows.tokens == whole.image_id,
            example=np.arange(count, dtype=np.int32), whole=whole.mask == "prefix",
        )  # fmt: skip

    def looked_at(self, rows: Any, ranked: Ranked) -> RankingBatch:
        """Rows of these rankings with the vectors of their images.

        Those whose images cannot be read do not count.

        Raises:
          DataError: they are more than a few.
        """
        examples: Any = [ranked.items[n].prompt for n in rows.sight.example]
        vectors, wrong = self.eyes.see(examples, self.room)
        for line in self.unread.add(wrong.values(), len(examples)):
            print(line, file=sys.stderr)
        mask = rows.mask & ~np.isin(np.arange(len(rows.mask)), list(wrong))[:, None]
        seen: RankingBatch = rows.replace(mask=mask, sight=replace(rows.sight, vectors=vectors))
        return seen
