"""Prompted < SFT < PPO, by a programmed labeler whose scores are known (Ouyang et al. 2022, figure
1, with a program in place of people), over seeds.

Everything is trained anew for each seed, the pre-trained model too:

    <workdir>/<seed>/base, pipeline         the runs (lm/studies/gold_setting.py)
    <workdir>/<seed>/measured.json          what every policy's answers are worth
    <workdir>/report.md, figure.svg, summary.json

What has its result is done; the same command goes on with the rest.
"""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from lm.core.config import require, require_at_least_zero, require_positive
from lm.core.mesh import make_mesh
from lm.data.demonstrations import demonstrations
from lm.data.held_out import in_turn
from lm.rlhf.function import finite
from lm.rlhf.labeling import Answer, answered
from lm.rlhf.scores import text_scorer
from lm.rlhf.source import Source, read_source
from lm.studies import alignment
from lm.studies.alignment import Alignment
from lm.studies.gold_report import POLICIES, write_gold
from lm.studies.gold_setting import GoldSetting
from lm.studies.several import alone, begin, fixed, run_member
from lm.train.process import Process, write_for_all

MEASURED = "measured.json"
MADE_WITH = {
    "*/base/summary.json": ["base."],
    **{
        f"*/pipeline/{file}": [f"pipeline.{name}" for name in names]
        for file, names in alignment.MADE_WITH.items()
    },
    "*/pipeline/summary.json": ["pipeline."],
    f"*/{MEASURED}": ["second.", "prompts", "draws", "examples"],
}
DRAWS = 500  # of the answers: as many as this seed are no draws of training


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoldStudy(GoldSetting):
    """Every policy's answers, by both scorers."""

    prompts: int = 64  # held-out ones that every policy answers
    draws: int = 8  # answers to each: one alone is noise of the size of what is to be seen
    examples: int = 2  # demonstrations that the base is shown before a prompt, where they fit

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "prompts", "draws")
        require_at_least_zero(self, "examples")

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Trains and measures the seeds that are not done, and tells what came out."""
        process = process or Process()
        self.check(workdir, "ppo", "ppo_ptx")
        with alone(workdir, process):
            begin(workdir, self, fixed(workdir, MADE_WITH, pooled=True))
            for seed in self.seeds:
                folder = workdir / str(seed)
                base, pipeline = self.members(workdir, seed)
                for name, member in (("base", base), ("pipeline", pipeline)):
                    run_member(member, folder / name, process, f"seed {seed}: {name}")
                if not (folder / MEASURED).exists():
                    measured = self.measure(folder, pipeline)
                    write_for_all(folder / MEASURED, json.dumps(measured, indent=1) + "\n")
            if jax.process_index() == 0:
                write_gold(workdir, self.title, self.seeds)

    def measure(self, folder: Path, pipeline: Alignment) -> dict[str, Any]:
        """Mean scores of every policy's answers to the same held-out prompts, and an example."""
        mesh = make_mesh(pipeline.ppo.mesh)
        steps = pipeline.members(folder / "pipeline")
        data = steps["sft"].data
        found = {}
        with jax.set_mesh(mesh):
            for policy in POLICIES:
                run = folder / ("base" if policy == "prompted" else f"pipeline/{policy}")
                step = steps["ppo"].init_step if policy == "sft" else None
                source = read_source(str(run), mesh, step)
                shown = self.shown(source, pipeline) if policy == "prompted" else ""
                # the longest first answers of all policies are to the same prompts
                asked = [
                    prompt for prompt in in_turn(data.prompts("valid"))
                    if 0 < len(source.tokenizer.encode(prompt)) <= pipeline.ppo.prompt_length
                ][: self.prompts]  # fmt: skip
                asked = asked * self.draws
                written = self.answers(source, [shown + prompt for prompt in asked], pipeline, mesh)
                if shown:  # the next example, were it written, would begin after a blank line
                    written = [up_to_blank_line(answer) for answer in written]
                answers = [answer.text for answer in written]
                ended = [answer.ended for answer in written]
                scores = {
                    name: finite(
                        text_scorer(config, source.tokenizer, mesh)(asked, answers, ended), name
                    )
                    for name, config in (("gold", pipeline.judge), ("second", self.second))
                }
                found[policy] = {name: float(values.mean()) for name, values in scores.items()} | {
                    "items": len(asked), "example": asked[0] + answers[0]
                }  # fmt: skip
        return found

    def shown(self, source: Source, pipeline: Alignment) -> str:
        """Demonstrations of the training part, as many as fit: GPT-3's prompt."""
        data = replace(pipeline.sft.data, train=pipeline.demonstrations)
        room = source.model.length - pipeline.ppo.width
        text = ""
        for one in sorted(
            (one for one in data.read(demonstrations(data.between), "train") if one.good),
            key=lambda each: len(each.prompt) + len(each.answer),
        )[: self.examples]:
            longer = f"{text}{one.prompt}{one.answer}\n\n"
            if len(source.tokenizer.encode(longer)) > room:
                break
            text = longer
        return text

    def answers(
        self, source: Source, asked: list[str], pipeline: Alignment, mesh: jax.sharding.Mesh
    ) -> list[Answer]:
        """One answer to each prompt, as PPO draws them."""
        width = source.model.length - pipeline.ppo.answer_length
        found = answered(
            asked, source.tokenizer, source, jax.random.key(DRAWS), mesh, batch=pipeline.ppo.batch,
            prompt_length=width, answer_length=pipeline.ppo.answer_length,
            temperature=pipeline.ppo.temperature,
        )  # fmt: skip
        answers = [answer for answer in found if answer is not None]
        left_out = len(found) - len(answers)
        require(left_out == 0, f"{left_out} prompts are longer than {width} tokens")
        return answers


def up_to_blank_line(answer: Answer) -> Answer:
    text, blank, _ = answer.text.partition("\n\n")
    return Answer(text, answer.ended or bool(blank))
