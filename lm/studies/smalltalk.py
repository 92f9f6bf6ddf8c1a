"""What conversations teach, by conversations that can be checked (lm/data/smalltalk.py), by seed.

    <workdir>/<seed>/data              the conversations, the single questions, and plain text
    <workdir>/<seed>/base              pre-trained on the text
    <workdir>/<seed>/single            SFT on questions of one turn alone: InstructGPT's data
    <workdir>/<seed>/chat              the rounds of lm/studies/conversation.py: SFT on the mixture
    <workdir>/<seed>/again             the control of the second round: as many updates more against
                                       the first round's reward model, without new labels
    <workdir>/<seed>/measured.json     what each policy was found to be, as soon as it is there
    <workdir>/report.md, figure.svg, summary.json

Every model answers the same held-out conversations, greedily for what it knows, and as PPO draws
for what its answers are worth. What has its result is done; the same command goes on.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lm.core.config import require_positive
from lm.core.mesh import make_mesh
from lm.core.paths import read_summary, write_whole
from lm.data.smalltalk import Smalltalk, gold, right
from lm.decode.generate import Generator
from lm.decode.sampling import SamplingConfig
from lm.metrics.spread import over_seeds
from lm.report.markdown import table, with_deviation
from lm.report.panels import Band, Panel, draw_panels
from lm.rlhf.dialogue_sft import DialogueSft
from lm.rlhf.ppo import Ppo
from lm.rlhf.source import Source, read_source
from lm.studies import conversation
from lm.studies.conversation import Conversing
from lm.studies.several import alone, begin, check_distinct, evaluated, fixed, run_member, selected
from lm.studies.smalltalk_report import claims, verdict
from lm.text.dialogue import Chat, Conversation
from lm.train.pretrain import Pretrain
from lm.train.process import Process, agreed, write_for_all

MEASURED = "measured.json"
MADE_WITH = {
    "*/data/text.txt": ["talk.", "chat.sft.data.valid_fraction"],
    "*/base/summary.json": ["base."],
    **{
        f"*/chat/{file}": [f"chat.{name}" for name in names]
        for file, names in conversation.MADE_WITH.items()
    },
    "*/chat/sft/summary.json": ["chat.sft.", "weights"],
    "*/chat/1/ppo/metrics.jsonl": ["chat.ppo.loop.evaluate_every"],  # the curves of all seeds
    "*/chat/summary.json": ["chat."],
    f"*/{MEASURED}": ["prompts", "draws", "chat.ppo.prompt_length", "chat.ppo.answer_length"],
}
POLICIES = {
    "single": "SFT, single turns", "chat/sft": "SFT, mixture", "chat/1/ppo": "PPO, round 1",
    "again": "PPO, round 1 twice as long", "chat/2/ppo": "PPO, round 2",
}  # fmt: skip
TUNED = ("single", "chat/sft")
FIGURES = {
    "first": "first questions right", "follow_up": "follow-ups right",
    "no_history": "follow-ups right, history withheld", "ended": "answers that end",
    "gold": "gold score", "gold_first": "of first questions", "gold_later": "of follow-ups",
}  # fmt: skip
ROWS = 64  # prompts that are answered at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmalltalkStudy:
    """A base, the rounds on it, and what they are measured on."""

    base: Pretrain
    chat: Conversing
    talk: Smalltalk = Smalltalk()
    weights: tuple[float, float] = (0.5, 0.5)  # of conversations and single questions
    seeds: tuple[int, ...] = (0, 1, 2)
    prompts: int = 256  # held-out ones of either kind, at most
    draws: int = 8  # of each prompt's answer, over which what is not greedy is averaged

    def __post_init__(self) -> None:
        require_positive(self, "prompts", "draws")
        check_distinct(seeds=self.seeds)

    def members(self, workdir: Path, seed: int) -> dict[str, Any]:
        """Every step of one seed, in order."""
        folder = workdir / str(seed)
        data, chat = folder / "data", self.chat
        base = replace(
            self.base, seed=seed, data=replace(self.base.data, train=str(data / "text.txt"))
        )
        parts = ("conversations", "single")
        mixture = tuple(
            (name, str(data / f"{name}.jsonl"), weight)
            for name, weight in zip(parts, self.weights, strict=True)
        )
        sft = replace(chat.sft, seed=seed, data=replace(chat.sft.data, mixture=mixture))
        init = str(folder / "base")
        single: DialogueSft = replace(
            sft, init=init, data=replace(sft.data, mixture=(), train=str(data / "single.jsonl"))
        )
        rounds: Conversing = replace(
            chat, init=init, sft=sft, reward=replace(chat.reward, seed=seed),
            ppo=replace(chat.ppo, seed=seed), labeling=replace(chat.labeling, seed=seed),
        )  # fmt: skip
        steps = rounds.members(folder / "chat")
        first: Ppo = steps["1/ppo"]
        again = replace(
            first, init=str(folder / "chat/1/ppo"), init_step=None,
            reward=replace(first.reward, run=str(folder / "chat/1/reward")),
        )  # fmt: skip
        return {
            "base": base, "chat/sft": steps["sft"], "single": single, "chat": rounds,
            "again": again,
        }  # fmt: skip

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Trains and measures the seeds that are not done, and tells what came out."""
        process = process or Process()
        with alone(workdir, process):
            begin(workdir, self, fixed(workdir, MADE_WITH, pooled=True))
            for seed in self.seeds:
                folder = workdir / str(seed)
                if jax.process_index() == 0 and not (folder / "data" / "text.txt").exists():
                    fraction = self.chat.sft.data.valid_fraction
                    replace(self.talk, seed=seed).write(folder / "data", fraction)
                agreed(True)  # it is there for all
                for name, member in self.members(workdir, seed).items():
                    run_member(member, folder / name, process, f"seed {seed}: {name}")
                    self.measure(folder)
                    if jax.process_index() == 0:
                        self.tell(workdir)

    def measure(self, folder: Path) -> None:
        """What every policy that is there says to the same conversations; each is asked once."""
        mesh, found = make_mesh(self.base.mesh), known(folder)
        ended = [one for one in POLICIES if read_summary(folder / one / "summary.json") is not None]
        new = [name for name in ended if name not in found]
        if not new:
            return
        data = replace(
            self.chat.sft.data, mixture=(), train=str(folder / "data/conversations.jsonl"),
            asked="every",
        )  # fmt: skip
        asked = data.prompts("valid")
        first = [one for one in asked if len(one) == 1][: self.prompts]
        later = [one for one in asked if len(one) > 1][: self.prompts]
        with jax.set_mesh(mesh):
            for name in new:
                # PPO begins with the step of an SFT that a reward model chose
                step = selected(folder / name, self.chat.sft.reward) if name in TUNED else None
                source = read_source(str(folder / name), mesh, step)
                ppo = self.chat.ppo
                speak = Speaker(source, ppo.prompt_length, ppo.answer_length)
                sets = (first, first), (later, later), (later, [one[-1:] for one in later])
                shares = [
                    np.mean([right(asked, answer) for asked, (answer, _) in
                             zip(real, speak(shown, 0.0), strict=True)])
                    for real, shown in sets
                ]  # fmt: skip
                drawn = speak((first + later) * self.draws, 1.0)
                worth = gold((first + later) * self.draws, [answer for answer, _ in drawn])
                each = np.reshape(worth, (self.draws, -1))
                worths = [
                    np.mean(some) for some in (each, each[:, : len(first)], each[:, len(first) :])
                ]
                values = (*shares, np.mean([ended for _, ended in drawn]), *worths)
                found[name] = {key: float(v) for key, v in zip(FIGURES, values, strict=True)}
        found["prompts"] = {"first": len(first), "later": len(later)}
        write_for_all(folder / MEASURED, json.dumps(found, indent=1) + "\n")

    def tell(self, workdir: Path) -> None:
        """Gathers what is measured into a table, and when all is into a figure and a summary."""
        found = [known(workdir / str(seed)) for seed in self.seeds]
        header = ("policy", *FIGURES.values(), "seeds")
        rows: list[Sequence[str]] = []
        summary: dict[str, Any] = {"seeds": list(self.seeds)}
        for name, title in POLICIES.items():
            cells = []
            there = [one[name] for one in found if name in one]
            if not there:
                continue
            for key in FIGURES:
                values = [one[key] for one in there if key in one]
                if len(values) < len(there):  # of a run before this was measured
                    cells.append("not measured")
                    continue
                mean, deviation = over_seeds(values)
                summary[f"{title}: {key}"] = {"mean": mean, "deviation": deviation,
                                              "values": values}  # fmt: skip
                cells.append(with_deviation(mean, deviation))
            rows.append((title, *cells, str(len(there))))
        whole = all(set(POLICIES) <= set(one) for one in found)
        judged = [*verdict(found), ""] if whole else []
        told = "\n".join([*judged, *table(header, rows)]) + "\n"
        write_whole(workdir / "report.md", told)
        if whole:
            summary["shown"] = {name: shown for name, (shown, _) in claims(found).items()}
            write_whole(workdir / "figure.svg", self.figure(workdir))
            write_whole(workdir / "summary.json", json.dumps(summary, indent=1) + "\n")
        print(f"{told}{workdir}/report.md", flush=True)

    def figure(self, workdir: Path) -> str:
        """The gold score of held-out answers over updates: both rounds, and the control."""
        lines = {"round 1": ("chat/1/ppo", 0), "round 2": ("chat/2/ppo", 1),
                 "round 1 for longer": ("again", 1)}  # fmt: skip
        bands = []
        for colour, (label, (name, after)) in enumerate(lines.items()):
            runs = [workdir / str(seed) / name for seed in self.seeds]
            steps, curves = evaluated(runs, ["gold"])
            x = [step + after * self.chat.ppo.steps for step in steps]
            scores = curves["gold"]
            spread = scores.std(0, ddof=1).tolist() if len(self.seeds) > 1 else ()
            bands.append(Band(label, x, scores.mean(0).tolist(), spread, colour))
        return draw_panels(
            "Rounds of labels, reward model and PPO",
            [Panel("Held-out conversations", "updates", "gold score, 0 to 2", bands)],
        )


class Speaker:
    """Answers of one model to conversations."""

    def __init__(self, source: Source, length: int, most: int):
        """`length` of prompts, whose oldest exchanges are cut off for it, `most` of answers."""
        self.chat, self.length, self.most = Chat(source.tokenizer), length, most
        params, size = source.language_model(), self.chat.tokenizer.vocab_size
        self.generate = Generator(source.model, params, self.chat.end, size)

    def __call__(self, asked: Sequence[Conversation], temperature: float) -> list[tuple[str, bool]]:
        """What it says to each, and whether that ends."""
        sampling = SamplingConfig(temperature=temperature)
        found: list[tuple[str, bool]] = []
        for first in range(0, len(asked), ROWS):
            some = list(asked[first : first + ROWS])
            whole = some + some[-1:] * (ROWS - len(some))  # one shape, compiled once
            said = self.generate(
                self.chat.prompts(whole, self.length), self.most, sampling, seed=first
            )
            found += [
                (self.chat.tokenizer.decode(ids), len(ids) < self.most) for ids in said[: len(some)]
            ]
        return found


def known(folder: Path) -> dict[str, Any]:
    """What was measured of a seed."""
    path = folder / MEASURED
    return json.loads(path.read_text()) if path.exists() else {}
