"""GPT-4's abilities: what an image means, text in it, questions over charts; then the text tasks.

Each set is answered with its own images and under three controls that must break it: black images,
another example's images, and no image at all but the likeliest answer of the training part; a
conversation also without what was said before. The figures beside are published ones of other,
whole sets: a reference, no comparison.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from lm.core.errors import DataError
from lm.core.paths import write_whole, writing
from lm.data.visual import Example
from lm.data.visual.example import Said, spread, unfolded
from lm.data.visual.layouts import Part
from lm.data.visual.sets import SETS
from lm.decode.images import ImageGenerator
from lm.evals.published import figures
from lm.evals.suites import Model, Options, gpt4_text, write_table
from lm.evals.visual import Answered, answer, longest, score
from lm.metrics.spread import standard_error
from lm.text.tokenizer import Tokenizer

ABILITIES = {  # set -> what it shows, and the published set that is nearest to it
    "easy_vqa": ("what an image means", "vqav2"),
    "easy_captions": ("what an image means", ""),
    "easy_talks": ("what an image means", ""),
    "nlvr": ("what an image means", ""),
    "oddities": ("what an image means", ""),
    "flickr8k": ("what an image means", ""),
    "strings": ("text in images", "textvqa"),
    "screens": ("text in images", "textvqa"),
    "screen_texts": ("text in images", ""),
    "receipts": ("text in images", "docvqa"),
    "charts": ("questions over charts", "chartqa"),
    "chart_tables": ("questions over charts", ""),
    "chartqa": ("questions over charts", "chartqa"),
}
PARTS: tuple[Part, ...] = ("train", "valid")
LIMIT = 200  # examples of a set, where no other number is asked for
METRICS = {"exact": "exact", "relaxed": "relaxed", "caption": "ROUGE-L"}  # of an example's match
HEAD = (
    f"{'set':14}{'items':>6}  {'metric':9}{'right':>15}{'black':>8}{'others':>8}{'prior':>8}  "
    "published"
)


@dataclasses.dataclass(frozen=True)
class Line:
    """One set."""

    name: str
    answered: Answered
    black: float
    others: float
    prior: float
    kinds: dict[str, float]
    follow: tuple[float, float] | None  # of answers that follow others: right, and without those

    @property
    def metric(self) -> str:
        """What "right" is the mean of."""
        return METRICS[self.answered.examples[0].match]

    def __str__(self) -> str:
        found = self.answered.scores
        right = f"{found.mean():.3f}"
        if len(found) > 1:
            right += f" ± {standard_error(found):.3f}"
        task = ABILITIES[self.name][1]
        told: dict[str, list[str]] = {}
        for row in figures():
            if row["family"] == "gpt4_vision" and row["task"] == task:
                told.setdefault(row["metric"], []).append(f"{row['system']} {row['value']:.3f}")
        beside = [f"{task}, {metric}: {', '.join(values)}" for metric, values in told.items()]
        return (
            f"{self.name:14}{len(found):6}  {self.metric:9}{right:>15}{self.black:8.3f}"
            f"{self.others:8.3f}{self.prior:8.3f}  {'; '.join(beside) or '-'}"
        )


def evaluate(model: Model, options: Options, say: Callable[[str], None]) -> list[Line]:
    """Asks the sets of images where the model sees, then the text tasks whose data are there.

    Every answer goes to `OUT/gpt4-step<step>.jsonl`, the table to `OUT/gpt4-step<step>.json`.

    Raises:
      ConfigError: an unknown task.
      DataError: nothing to ask.
    """
    options.named(dict.fromkeys([*ABILITIES, *(task.name for task in gpt4_text.TASKS)]))
    text = [name for name in options.tasks if name not in ABILITIES]
    seen = [name for name in options.tasks or ABILITIES if name in ABILITIES]
    lines: list[Line] = []
    if model.seer is None:
        blind = "images: not asked, this model does not see; name a run of gpt4"
        if options.tasks and not text:
            raise DataError(blind)
        say(blind)
    elif seen:
        try:
            with jax.set_mesh(model.scorer.mesh):  # the seer's parameters are on it too
                for line in see(model.seer, model.scorer.tokenizer, seen, options, say):
                    lines.append(line)
        finally:  # what is answered is kept, and nothing earlier is lost for nothing
            if lines:
                write(lines, options.out, model.step)
    if text or not options.tasks:
        try:
            gpt4_text.evaluate(model, dataclasses.replace(options, tasks=tuple(text)), say)
        except DataError as error:
            if not lines:
                raise
            say(f"text tasks: not asked: {error}")
    return lines


def see(
    seer: ImageGenerator, tokenizer: Tokenizer, names: Sequence[str], options: Options,
    say: Callable[[str], None],
) -> Iterator[Line]:  # fmt: skip
    """A line for each set that is there and fits the model's context.

    Raises:
      DataError: a set that was asked for by name is not there, has no held-out example, or does
        not fit.
    """
    ability = ""
    say(HEAD)
    for name in names:
        try:
            train, valid = (
                [turn for one in SETS[name](options.root, part) for turn in unfolded(one)]
                for part in PARTS
            )
            if not valid:
                raise DataError(f"no example of {name} in {options.root} is held out: add images")
            valid = spread(valid, options.limit or LIMIT)
            line = asked(name, seer, tokenizer, train, valid)
        except DataError as error:
            if options.tasks:
                raise
            say(f"{name:14}left out: {error}")
            continue
        if ABILITIES[name][0] != ability:
            ability = ABILITIES[name][0]
            say(f"{ability}:")
        say(str(line))
        if line.answered.unread:
            wrong = line.answered.unread
            say(" " * 12 + f"left out: {len(wrong)} whose images cannot be read: {wrong[0]}")
        if line.follow is not None:
            whole, alone = line.follow
            say(" " * 12 + f"that follow others {whole:.3f}, without those {alone:.3f}")
        if len(line.kinds) > 1:
            say(" " * 12 + ", ".join(f"{kind} {value:.3f}" for kind, value in line.kinds.items()))
        yield line


def asked(
    name: str, seer: ImageGenerator, tokenizer: Tokenizer, train: Sequence[Example],
    valid: Sequence[Example],
) -> Line:  # fmt: skip
    """Held-out examples of a set with their controls; the training part is for the prior."""
    side, room = seer.config.vision.image, seer.config.text.length
    tokens = min(room // 2, longest(valid, tokenizer))
    right = answer(seer, tokenizer, valid, tokens)
    valid = right.examples  # those that can be read

    def black(number: int) -> np.ndarray:
        return np.zeros((len(valid[number].pictures), side, side, 3), np.uint8)

    def others(number: int) -> np.ndarray:
        """The images of another example, which shows none of the same; black ones where all do."""
        mine = set(map(repr, valid[number].pictures))
        for step in range(len(valid)):
            other = (number + len(valid) // 2 + step) % len(valid)
            if not mine & set(map(repr, valid[other].pictures)):
                break
        else:
            return black(number)
        found = [picture.pixels(side) for picture in valid[other].pictures]
        return np.stack((found * len(valid[number].pictures))[: len(valid[number].pictures)])

    places = [n for n, one in enumerate(valid) if any(isinstance(p, Said) for p in one.parts)]
    follow = None
    if places:
        alone = answer(seer, tokenizer, [newest(valid[n]) for n in places], tokens)
        follow = float(right.scores[places].mean()), alone.accuracy
    kinds = dict.fromkeys(example.kind for example in valid)
    by_kind = {
        kind or "all": float(right.scores[[one.kind == kind for one in valid]].mean())
        for kind in kinds
    }
    return Line(
        name, right,
        answer(seer, tokenizer, valid, tokens, black).accuracy,
        answer(seer, tokenizer, valid, tokens, others).accuracy,
        prior(train, valid),
        by_kind,
        follow,
    )  # fmt: skip


def newest(example: Example) -> Example:
    """A conversation's last question alone."""
    said = [place for place, part in enumerate(example.parts) if isinstance(part, Said)]
    parts = example.parts[said[-1] + 1 :] if said else example.parts
    return dataclasses.replace(example, parts=parts)


def prior(train: Sequence[Example], valid: Sequence[Example]) -> float:
    """What the likeliest answer to the same question gets, or to any where it was never asked."""
    by_question: dict[str, Counter[str]] = {}
    overall: Counter[str] = Counter()
    for one in train:
        by_question.setdefault(one.question, Counter())[one.answers[0]] += 1
        overall[one.answers[0]] += 1
    said = [
        by_question.get(one.question, overall).most_common(1)[0][0] if overall else ""
        for one in valid
    ]
    return float(np.mean([score(guess, one) for guess, one in zip(said, valid, strict=True)]))


def write(lines: Sequence[Line], out: Path, step: int) -> None:
    """Answers one a line, and the table beside them.

    Raises:
      ConfigError: they cannot be written.
    """
    rows = []
    for line in lines:
        pairs = zip(line.answered.examples, line.answered.answers, strict=True)
        for (one, said), value in zip(pairs, line.answered.scores.tolist(), strict=True):
            row = {
                "set": line.name, "id": one.id, "question": one.question, "answer": said,
                "truth": list(one.answers), "score": value,
            }  # fmt: skip
            rows.append(json.dumps(row) + "\n")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / f"gpt4-step{step}.jsonl", "".join(rows))
    table = [
        {
            "set": line.name, "items": len(line.answered.answers), "metric": line.metric,
            "unread": len(line.answered.unread),
            "right": line.answered.accuracy,
            "black": line.black, "others": line.others, "prior": line.prior, "kinds": line.kinds,
            "follow": line.follow and dict(zip(("right", "alone"), line.follow, strict=True)),
        }
        for line in lines
    ]  # fmt: skip
    write_table(out / f"gpt4-step{step}.json", table)
