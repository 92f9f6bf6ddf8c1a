"""GPT-4's abilities: what an image means, text in it, questions over charts; then the text tasks.

Each set is answered with its own images and under three controls that must break it: black images,
another example's images, and no image at all but the likeliest answer of the training part; a
conversation also without what was said before. A .jsonl of one's own is a set like the others, of
which all is held out: its likeliest answers are those of the file itself. The figures beside are
published ones of other, whole sets: a reference, no comparison.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lm.core.errors import DataError
from lm.core.paths import at_home
from lm.data.visual import Example
from lm.data.visual.example import spread, unfolded
from lm.data.visual.layouts import Part
from lm.data.visual.sets import SETS
from lm.data.visual.written import written
from lm.evals.controls import digest, outcomes, prior
from lm.evals.fewshot.ledger import KEY, Ledger
from lm.evals.published import figures
from lm.evals.suites import Model, Options, gpt4_text, write_table
from lm.evals.visual import Answered
from lm.metrics.spread import by_group, ratio_error

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
OWN = "of your own", ""
PARTS: tuple[Part, ...] = ("train", "valid")
LIMIT = 200  # examples of a set, where no other number is asked for
METRICS = {  # of an example's match
    "exact": "exact", "relaxed": "relaxed", "anls": "ANLS", "caption": "ROUGE-L",
}  # fmt: skip
HEAD = (
    f"{'set':14}{'items':>6}  {'metric':9}{'right':>15}{'black':>8}{'others':>8}{'prior':>8}  "
    "published"
)
REFERENCE = (
    "published: of other images and other questions, or of the whole set where ours has its name; "
    "a reference, no comparison"
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
    data: str = ""  # a digest of what was asked

    @property
    def metric(self) -> str:
        """What "right" is the mean of."""
        return ", ".join(dict.fromkeys(METRICS[one.match] for one in self.answered.examples))

    @property
    def published(self) -> dict[str, dict[str, dict[str, float]]]:
        """Of the published set that is nearest the values by metric and system, where any are."""
        task, told = ABILITIES.get(self.name, OWN)[1], dict[str, dict[str, float]]()
        for row in figures():
            if row["family"] == "gpt4_vision" and row["task"] == task:
                told.setdefault(row["metric"], {})[row["system"]] = row["value"]
        return {task: told} if told else {}

    @property
    def error(self) -> float | None:
        """Standard error of what is right; None of one part of a sample, which the questions about
        one image are, that those of a conversation begin with."""
        found = self.answered.scores
        images = ["".join(map(repr, one.pictures[:1])) for one in self.answered.examples]
        sums, sizes = by_group(found, images), by_group(np.ones(len(found)), images)
        return ratio_error(sums, sizes) if len(sums) > 1 else None

    def __str__(self) -> str:
        count, right = len(self.answered.answers), f"{self.answered.accuracy:.3f}"
        if self.error is not None:
            right += f" ± {self.error:.3f}"
        beside = [
            f"{task}, {metric}: " + ", ".join(f"{name} {value:.3f}" for name, value in of.items())
            for task, metrics in self.published.items()
            for metric, of in metrics.items()
        ]
        return (
            f"{self.name:14}{count:6}  {self.metric:9}{right:>15}{self.black:8.3f}"
            f"{self.others:8.3f}{self.prior:8.3f}  {'; '.join(beside) or '-'}"
        )

    def figures(self) -> dict[str, Any]:
        """The same for a program."""
        return {
            "set": self.name, "data": self.data, "items": len(self.answered.answers),
            "metric": self.metric, "unread": len(self.answered.unread),
            "right": self.answered.accuracy, "standard_error": self.error, "black": self.black,
            "others": self.others, "prior": self.prior, "kinds": self.kinds,
            "follow": self.follow and dict(zip(("right", "alone"), self.follow, strict=True)),
            "published": self.published,
        }  # fmt: skip


def evaluate(model: Model, options: Options, say: Callable[[str], None]) -> list[Line]:
    """Asks the sets of images where the model sees, then the text tasks whose data are there.

    Every answer goes to `OUT/gpt4-step<step>.jsonl`, set by set, from which an interrupted
    evaluation goes on; the table goes to `OUT/gpt4-step<step>.json`.

    Raises:
      ConfigError: an unknown task.
      DataError: nothing to ask, or the file of answers is damaged or another process's.
    """
    own = [name for name in options.tasks if name.endswith((".jsonl", ".jsonl.gz"))]
    options.named(dict.fromkeys([*ABILITIES, *(task.name for task in gpt4_text.TASKS), *own]))
    seen = [name for name in options.tasks or ABILITIES if name in ABILITIES or name in own]
    text = [name for name in options.tasks if name not in seen]
    lines: list[Line] = []
    if model.seer is None:
        blind = "images: not asked, this model does not see; name a run of gpt4"
        if options.tasks and not text:
            raise DataError(blind)
        say(blind)
    elif seen:
        try:
            with (
                Ledger(options.out / f"gpt4-step{model.step}.jsonl") as ledger,
                jax.set_mesh(model.scorer.mesh),  # the seer's parameters are on it too
            ):
                for line in see(model, seen, options, ledger, say):
                    lines.append(line)
            if any(line.published for line in lines):
                say(REFERENCE)
        finally:
            if lines:
                table = options.out / f"gpt4-step{model.step}.json"
                write_table(table, [line.figures() for line in lines], model, options)
    if text or not options.tasks:
        try:
            gpt4_text.evaluate(model, dataclasses.replace(options, tasks=tuple(text)), say)
        except DataError as error:
            if not lines:
                raise
            say(f"text tasks: not asked: {error}")
    return lines


def see(
    model: Model, names: Sequence[str], options: Options, ledger: Ledger, say: Callable[[str], None]
) -> Iterator[Line]:
    """A line for each set that is there and fits the model's context.

    Raises:
      DataError: a set that was asked for by name is not there, has no held-out example, or does
        not fit.
    """
    ability = ""
    say(HEAD)
    for name in names:
        try:
            train, valid = parts(name, options.root)
            if not valid:
                raise DataError(f"no example of {name} in {options.root} is held out: add images")
            valid = spread(valid, options.limit or LIMIT)
            line = asked(name, model, train, valid, ledger)
        except DataError as error:
            if options.tasks:
                raise
            say(f"{name:14}left out: {error}")
            continue
        if (shown := ABILITIES.get(name, OWN)[0]) != ability:
            ability = shown
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


def parts(name: str, root: Path) -> list[list[Example]]:
    """Examples of a set that are for the likeliest answer, and that are asked; of a file all are
    both."""
    some = [SETS[name](root, part) for part in PARTS] if name in SETS else [written(at_home(name))]
    found = [[turn for one in part for turn in unfolded(one)] for part in some]
    return [found[0], found[-1]]


def asked(
    name: str, model: Model, train: Sequence[Example], valid: Sequence[Example], ledger: Ledger
) -> Line:
    """Held-out examples of a set with their controls, from the ledger where it has all of them; the
    training part is for the prior."""
    assert model.seer is not None
    data = digest(valid, model.seer.config.vision.image)
    keys = [(name, 0, 0, f"{model.digest}:{data}", number) for number in range(len(valid))]
    if any(ledger.row(*key) is None for key in keys):
        found = outcomes(model.seer, model.scorer.tokenizer, valid)
        ledger.add(
            dict(zip(KEY, key, strict=True))
            | {"id": one.id, "question": one.question, "truth": list(one.answers)}
            | row
            for key, one, row in zip(keys, valid, found, strict=True)
        )
    rows = [row for key in keys if (row := ledger.row(*key)) is not None]
    read = [number for number, row in enumerate(rows) if "unread" not in row]
    right = Answered(
        [valid[number] for number in read],
        tuple(rows[number]["answer"] for number in read),
        tuple(row["unread"] for row in rows if "unread" in row),
    )
    rows = [rows[number] for number in read]
    scores, places = right.scores, [n for n, row in enumerate(rows) if "alone" in row]
    follow = None
    if places:
        alone = float(np.mean([rows[n]["alone"] for n in places]))
        follow = float(scores[places].mean()), alone
    kinds = dict.fromkeys(example.kind for example in right.examples)
    by_kind = {
        kind or "all": float(scores[[one.kind == kind for one in right.examples]].mean())
        for kind in kinds
    }
    black, others = (float(np.mean([row[how] for row in rows])) for how in ("black", "others"))
    return Line(name, right, black, others, prior(train, right.examples), by_kind, follow, data)
