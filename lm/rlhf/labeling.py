"""Rankings that a programmed judge makes of a policy's own answers, with a labeler's noise.

What is preferred is drawn by the Bradley-Terry model: to each score comes a Gumbel variable, and
the sums are ranked. So how often even the truth would be right about a label is known.
"""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import jax
import numpy as np

from lm.core.config import require, require_at_least_zero, require_positive
from lm.core.errors import DataError
from lm.core.mesh import fetch, place_whole
from lm.core.paths import write_whole
from lm.data.features import in_order
from lm.data.labels import digest
from lm.data.prompts import HELD_OUT, PARTS, Part, RowsConfig
from lm.rlhf.function import Scorer, finite
from lm.rlhf.rollout import encode_prompts, roll_out
from lm.rlhf.scores import texts
from lm.rlhf.source import Source
from lm.rlhf.truncation import TruncationConfig, truncated
from lm.text.dialogue import Conversation, Message, as_objects
from lm.text.interface import Form
from lm.train.process import agreed

LAST = -1e9  # what an empty answer is worth: no labeler prefers one to words


class Answer(NamedTuple):
    """What a model said, and whether it ended by itself."""

    text: str
    ended: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelingConfig:
    """How a labeler is imitated."""

    prompts: int = 512
    # K, the answers that are drawn to a prompt and ranked, at least and at most (Ouyang et al.
    # 2022, section 3.5); of those that come again one is ranked
    answers: tuple[int, int] = (4, 9)
    noise: float = 0.1  # scale of the Gumbel variables, in units of the score
    temperature: float = 1.0  # of the answers
    fixed_length: bool = False  # no token ends one (lm-human-preferences)
    truncation: TruncationConfig = TruncationConfig()  # what of one is shown
    labelers: int = 5  # names that the work is divided among
    batch: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "prompts", "labelers", "batch", "temperature")
        least, most = self.answers
        require(
            2 <= least <= most <= 9,
            f"labeling.answers must rise from 2 to 9 at most, got {self.answers}: "
            "(4, 9), or (4, 4) for 4 to every prompt",
        )
        require_at_least_zero(self, "noise")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the labelers."""
        return tuple(f"judge {number}" for number in range(self.labelers))


def to_label(config: LabelingConfig, data: RowsConfig) -> dict[Part, list[Any]]:
    """Prompts of both parts, drawn by the seed from all files alike, whatever their weights. What
    is held out here is held out of the comparisons too, whose rows say so."""
    valid = max(1, round(data.valid_fraction * config.prompts))
    random = Random(config.seed)

    def drawn(prompts: list[Any], count: int) -> list[Any]:
        return random.sample(prompts, min(count, len(prompts)))

    train, held_out = (data.prompts(part, config.seed) for part in PARTS)
    return {"train": drawn(train, config.prompts - valid), "valid": drawn(held_out, valid)}


def answer_counts(config: LabelingConfig, prompts: int) -> list[int]:
    """How many answers to each prompt are drawn: any number of the range alike, by the seed."""
    least, most = config.answers
    random = np.random.default_rng((config.seed, 1))  # not that of the noise
    drawn: list[int] = random.integers(least, most + 1, size=prompts).tolist()
    return drawn


def label(
    config: LabelingConfig, parts: Mapping[Part, Sequence[Any]], form: Form, source: Source,
    judge: Scorer, out: Path,
    mesh: jax.sharding.Mesh, *, prompt_length: int, answer_length: int,
) -> dict[str, float]:  # fmt: skip
    """Writes rankings of the answers of `source` to prompts, a JSON object a line, and what is
    returned to `labeling.json` beside them: first, so that no rankings are without it.

    Returns:
      How many, and how often the judge's own order agrees with the noisy one: the Bayes limit, as
      the accuracy of a reward model is a mean over held-out prompts of each one's share of pairs
      (over all prompts, where none that is held out has a pair).

    Raises:
      DataError: no prompt got two different answers, or the judge gave no number.
    """
    asked = [prompt for some in parts.values() for prompt in some]
    held_out = [part == "valid" for part, some in parts.items() for _ in some]
    found: list[list[Answer]] = [[] for _ in asked]
    counts = answer_counts(config, len(asked))
    for number in range(config.answers[1]):
        waiting = [which for which, count in enumerate(counts) if number < count]
        key = jax.random.fold_in(jax.random.key(config.seed), number)
        said = answered(
            [asked[which] for which in waiting], form, source, key, mesh, batch=config.batch,
            prompt_length=prompt_length, answer_length=answer_length,
            temperature=config.temperature, fixed_length=config.fixed_length,
            truncation=config.truncation,
        )  # fmt: skip
        for which, answer in zip(waiting, said, strict=True):
            if answer is not None and not answer.text.strip():
                answer = Answer("", ended=True)
            if answer is not None and answer.text not in [one.text for one in found[which]]:
                found[which].append(answer)
    rows, pairs = [], 0
    shares: dict[bool, list[float]] = {True: [], False: []}  # of prompts held out, and the others
    random = np.random.default_rng(config.seed)
    for number, (prompt, written) in enumerate(zip(asked, found, strict=True)):
        if len(written) < 2:
            continue
        answers, ended = [one.text for one in written], [one.ended for one in written]
        scores = finite(judge([prompt] * len(answers), answers, ended), "the judge")
        worth = np.where([bool(answer) for answer in answers], scores, LAST)
        seen = worth + config.noise * random.gumbel(size=len(answers))
        ranks = np.unique(-seen, return_inverse=True)[1]  # equal scores are a tie
        truth, order = np.sign(np.subtract.outer(worth, worth)), np.less.outer(ranks, ranks)
        # by turns in each part, so that of whom nothing is learned something is held out
        labeler = config.names[len(shares[held_out[number]]) % config.labelers]
        if order.any():
            shares[held_out[number]].append(float(np.mean((truth[order] + 1) / 2)))
        pairs += int(order.sum())
        row = record(prompt, answers, ranks.tolist(), labeler)
        more = {"ended": ended, HELD_OUT: held_out[number]}
        rows.append(row | more | {"scores": [float(score) for score in scores]})
    if not pairs:
        raise DataError("no prompt got two different answers to rank")
    limit = float(np.mean(shares[True] or shares[False]))
    figures = {"rankings": len(rows), "pairs": pairs, "bayes_accuracy": limit}
    if jax.process_index() == 0:
        write_whole(out.with_name("labeling.json"), json.dumps(figures, indent=1) + "\n")
        write_rows(out, rows)
    agreed(True)  # the rankings may be read on any process from here on
    return figures


def answered(
    asked: Sequence[Any], form: Form, source: Source, key: jax.Array, mesh: jax.sharding.Mesh,
    *, batch: int, prompt_length: int, answer_length: int, temperature: float = 1.0,
    fixed_length: bool = False, truncation: TruncationConfig | None = None,
) -> list[Answer | None]:  # fmt: skip
    """What `source` answers to each prompt; None where one does not fit into `prompt_length`.

    A conversation is cut to fit, a text is not.

    Raises:
      ConfigError: prompt and answer are longer than the model's context.
    """
    width, length = prompt_length + answer_length, source.model.length
    require(
        width <= length,
        f"prompt_length {prompt_length} + answer_length {answer_length} is more than the "
        f"model.length {length} of the run that answers: set one of them lower",
    )
    ids = form.encode_prompts(asked)
    if form.in_turns:
        ids = [form.cut(row, prompt_length) for row in ids]
    fitting = [number for number, row in enumerate(ids) if 0 < len(row) <= prompt_length]
    found: list[Answer | None] = [None] * len(asked)
    if not fitting:
        return found
    whole, _ = encode_prompts([ids[number] for number in fitting], prompt_length)
    params = source.language_model()
    said: list[Answer] = []
    marks = truncation.ids(form.tokenizer) if truncation else ()
    for some in in_order(whole, batch):
        rollout = roll_out(
            source.model, params, place_whole(some, mesh), key, count=answer_length,
            end=-1 if fixed_length else form.end, temperature=temperature,
            vocab=form.tokenizer.vocab_size,
        )  # fmt: skip
        if marks and truncation:
            rollout = truncated(rollout, marks, truncation.after).rollout
        ended = fetch(rollout.ended).tolist()
        triples = zip(texts(rollout, form), ended, some.mask, strict=True)
        said += [Answer(text, end) for (_, text), end, counts in triples if counts]
    for number, answer in zip(fitting, said, strict=True):
        found[number] = answer
    return found


def model_written(
    asked: Sequence[Conversation], form: Form, source: Source, key: jax.Array,
    mesh: jax.sharding.Mesh,
    *, batch: int, prompt_length: int, answer_length: int,
) -> list[Conversation]:  # fmt: skip
    """Conversations that were cut at a random answer, every answer before it written anew by
    `source`, turn after turn: the answers to rank are then alternatives of a model's message that
    was picked at random (OpenAI 2022). One that no longer fits is left out.
    """
    users = [[one for one in turns if one.role != "assistant"] for turns in asked]
    talks: list[list[Message] | None] = [[] for _ in asked]
    for turn in itertools.count():
        going = [n for n, said in enumerate(users) if turn < len(said) and talks[n] is not None]
        if not going:
            break
        for number in going:
            talk = talks[number]
            assert talk is not None
            talk.append(users[number][turn])
        waiting = [n for n in going if users[n][turn].role == "user"
                   and turn + 1 < len(users[n])]  # fmt: skip
        some = [tuple(talks[number] or ()) for number in waiting]
        said = answered(
            some, form, source, jax.random.fold_in(key, turn), mesh, batch=batch,
            prompt_length=prompt_length, answer_length=answer_length,
        ) if some else []  # fmt: skip
        for number, answer in zip(waiting, said, strict=True):
            talk = talks[number]
            assert talk is not None
            talks[number] = None if answer is None else [*talk, Message("assistant", answer.text)]
    return [tuple(talk) for talk in talks if talk]


def record(prompt: Any, answers: list[str], ranks: list[int], labeler: str) -> dict[str, Any]:
    """A ranking as a row; of a conversation as the labelling page writes it, 1 the best, its item
    named by what is ranked: a ranking of the same by the same labeler replaces it."""
    if isinstance(prompt, str):
        return {"prompt": prompt, "answers": answers, "ranks": ranks, "labeler": labeler}
    messages = as_objects(prompt)
    return {"kind": "ranking", "item": digest([messages, answers]), "labeler": labeler,
            "messages": messages, "answers": answers,
            "ranks": [rank + 1 for rank in ranks]}  # fmt: skip


def write_rows(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes a JSONL file that is there whole or not at all."""
    write_whole(out, "".join(json.dumps(row) + "\n" for row in rows))
