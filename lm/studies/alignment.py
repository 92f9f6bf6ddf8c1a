"""InstructGPT's three steps in order (Ouyang et al. 2022, figure 2), from one pre-trained run.

    <workdir>/sft                       step 1: demonstrations
    <workdir>/comparisons.jsonl         rankings of its answers, where a judge stands for people
    <workdir>/labeling.json             how often the judge itself is right about them
    <workdir>/reward                    step 2: the reward model
    <workdir>/ppo, <workdir>/ppo_ptx    step 3, without and with pre-training text
    <workdir>/report.html, summary.json

Every step is an ordinary run directory. One that has its summary is done; the same command goes on
with the others, and each of them resumes at its own checkpoint.
"""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from lm.core.errors import ConfigError
from lm.core.mesh import make_mesh
from lm.core.paths import read_summary
from lm.data.prompts import HELD_OUT, RowsConfig
from lm.rlhf.labeling import LabelingConfig, label, to_label
from lm.rlhf.ppo import Ppo
from lm.rlhf.reward import RewardTraining
from lm.rlhf.scores import RewardConfig, text_scorer
from lm.rlhf.sft import Sft
from lm.rlhf.source import read_source
from lm.studies.alignment_report import write_alignment
from lm.studies.several import (
    alone,
    begin,
    begun,
    check_begun,
    check_used,
    fixed,
    gold_of,
    selected,
)
from lm.train.process import Process
from lm.train.saved import require_init

RANKED_WITH = ["labeling.", "judge.", "ppo.prompt_length", "ppo.answer_length", "ppo.data."]
MADE_WITH = {
    "sft/summary.json": ["sft.", "init", "demonstrations"],
    "comparisons.jsonl": [*RANKED_WITH, "demonstrations"],
    "reward/summary.json": ["reward.", "comparisons"],
    "ppo/summary.json": ["ppo.", "judge."],
    "ppo_ptx/summary.json": ["ppo_ptx.", "judge."],
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alignment:
    """A pre-trained model, demonstrations, comparisons and prompts, and what is made of them."""

    sft: Sft
    reward: RewardTraining
    ppo: Ppo
    ppo_ptx: Ppo
    init: str | None = None  # the pre-trained run
    demonstrations: str = "data/demonstrations.jsonl"  # of step 1, and prompts of all steps
    comparisons: str | None = None  # rankings by people; a judge ranks where None
    # also the gold score that PPO is measured by; of people's rankings the program that the
    # experiment comes with is none
    judge: RewardConfig = RewardConfig()
    labeling: LabelingConfig = LabelingConfig()

    def members(self, workdir: Path) -> dict[str, Any]:
        """The steps, bound to each other: what SFT holds out none of them learns from."""
        init, rows, data = str(workdir / "sft"), self.demonstrations, self.sft.data
        step = selected(workdir / "sft", self.sft.reward)
        rankings = replace(
            self.reward.data, train=self.comparisons or str(workdir / "comparisons.jsonl"),
            valid_fraction=data.valid_fraction, between=data.between,
        )  # fmt: skip
        if self.comparisons is not None:  # a judge's say of themselves what is held out
            measured = RowsConfig(
                train=rows, valid=data.valid, valid_fraction=data.valid_fraction,
                between=data.between,
            )  # fmt: skip
            rankings = replace(rankings, beside=measured)
        if left_out := self.left_out(workdir / "comparisons.jsonl"):
            rankings = replace(rankings, held_out=left_out)
        sft = replace(self.sft, init=self.init, data=replace(data, train=rows))
        reward = begun(self.reward, self.sft, workdir / "sft")
        reward = replace(reward, demonstrations=rows, data=rankings)
        found: dict[str, Any] = {"sft": sft, "reward": reward}
        for name, ppo in (("ppo", self.ppo), ("ppo_ptx", self.ppo_ptx)):
            found[name] = replace(
                ppo, init=init, init_step=step,
                data=replace(
                    ppo.data, train=rows, valid=data.valid, valid_fraction=data.valid_fraction,
                    between=data.between,
                ),
                gold=gold_of(
                    self.judge, self.labeling.truncation, people=self.comparisons is not None
                ),
                reward=replace(ppo.reward, run=str(workdir / "reward"), function=None),
            )  # fmt: skip
        return found

    def left_out(self, rankings: Path) -> tuple[str, ...]:
        """The last of several labelers, of whom nothing is learned; nobody, where there are so few
        rankings that none that is held out is theirs."""
        last = self.labeling.names[-1]
        if self.comparisons is not None or self.labeling.labelers == 1:
            return ()
        if rankings.exists():
            rows = map(json.loads, rankings.read_text().splitlines())
            if not any(
                row.get("labeler") == last and row.get(HELD_OUT) and len(set(row["ranks"])) > 1
                for row in rows
            ):
                return ()
        return (last,)

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Runs the steps that are not done, and tells what came out.

        Raises:
          ConfigError: a step cannot be done as it is set.
        """
        process = process or Process()
        self.check(workdir)
        with alone(workdir, process):
            begin(workdir, self, fixed(workdir, MADE_WITH))
            for name in self.members(workdir):
                self.make(workdir, name, process)
            if jax.process_index() == 0:
                print(f"report: {write_alignment(workdir)}")

    def check(self, workdir: Path) -> None:
        """Raises ConfigError for what would stop a step only after those before it."""
        require_init(self.init, "the pre-trained run")
        if self.comparisons is None and not self.judge.given:
            raise ConfigError(
                "nobody ranks answers: --set comparisons=FILE, or --set judge.function=module:name"
            )
        self.judge.check()
        self.judge.check_unread("judge", "normalise")
        self.ppo.check_rates()
        check_begun(self.reward, self.sft)
        members = self.members(workdir)
        bound = {"judge": members["ppo"].gold} if self.comparisons is None else {}
        check_used(self, members | bound)

    def make(self, workdir: Path, name: str, process: Process) -> None:
        """Runs one step after those before it, unless it is done."""
        if read_summary(workdir / name / "summary.json") is not None:
            return
        if name == "reward":
            self.rank(workdir)
        print(f"--- {name}", flush=True)
        self.members(workdir)[name].run(workdir / name, process)  # from what SFT has chosen

    def rank(self, workdir: Path) -> None:
        """Has the judge rank answers of step 1, unless people did or it has."""
        out = workdir / "comparisons.jsonl"
        if self.comparisons is not None or out.exists():
            return
        mesh = make_mesh(self.ppo.mesh)
        with jax.set_mesh(mesh):
            step = selected(workdir / "sft", self.sft.reward)
            source = read_source(str(workdir / "sft"), mesh, step)
            data = self.members(workdir)["ppo"].data
            found = label(
                self.labeling, to_label(self.labeling, data), source.tokenizer, source,
                text_scorer(self.judge, source.tokenizer, mesh), out, mesh,
                prompt_length=self.ppo.prompt_length, answer_length=self.ppo.answer_length,
            )  # fmt: skip
        print(f"--- {found['rankings']} rankings; of the pairs held out the judge itself would be "
              f"right about {found['bayes_accuracy']:.3f}", flush=True)  # fmt: skip
