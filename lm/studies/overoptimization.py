"""Over-optimisation: what a reward model likes better and better is at last no longer what its
labels were about (Gao, Schulman and Hilton 2022, arXiv 2210.10760; Stiennon et al. 2020, figure 5).

A programmed labeler's scores are known, so that the gold score can be followed while PPO goes far
by the reward model, with no penalty for it, beside the best of n of the SFT model by the same
reward model. The control is the same PPO by the gold scorer itself, which cannot be deceived. It
differs in one thing more: its value function begins as the policy with a head of zeros, since a
program has no parameters, and that of the proxy as the reward model (`ppo.value_from`).

    <workdir>/<seed>/base, pipeline         the runs (lm/studies/gold_setting.py), up to the reward
    <workdir>/<seed>/proxy                  PPO by the reward model
    <workdir>/<seed>/control                PPO by the gold scorer
    <workdir>/report.md, figure.svg, summary.json

What has its result is done; the same command goes on with the rest.
"""

import dataclasses
from dataclasses import replace
from pathlib import Path

import jax

from lm.rlhf.ppo import Ppo
from lm.studies.alignment import RANKED_WITH, Alignment
from lm.studies.gold_setting import GoldSetting
from lm.studies.overoptimization_report import write_overoptimization
from lm.studies.several import alone, begin, fixed, run_member
from lm.train.process import Process

MEASURED_AT = ["pipeline.ppo.loop.evaluate_every"]  # the updates of the curves of all seeds
MADE_WITH = {
    "*/base/summary.json": ["base."],
    "*/pipeline/sft/summary.json": ["pipeline.sft.", "pipeline.demonstrations"],
    "*/pipeline/comparisons.jsonl": [f"pipeline.{name}" for name in RANKED_WITH],
    "*/pipeline/reward/summary.json": ["pipeline.reward.", "pipeline.comparisons"],
    "*/proxy/metrics.jsonl": MEASURED_AT,
    "*/control/metrics.jsonl": MEASURED_AT,
    "*/proxy/summary.json": ["pipeline.ppo.", "pipeline.judge.", "second."],
    "*/control/summary.json": ["pipeline.ppo.", "pipeline.judge.", "second."],
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overoptimization(GoldSetting):
    """PPO far from where it began, `pipeline.ppo`, by a reward model and by the truth."""

    def policies(self, folder: Path, pipeline: Alignment) -> dict[str, Ppo]:
        """The two runs of a seed, from the same SFT model, by the same prompts and draws; of the
        best of n only that by the reward model is asked for."""
        ppo = pipeline.members(folder / "pipeline")["ppo"]
        proxy = replace(ppo, second=self.second)
        return {"proxy": proxy, "control": replace(proxy, reward=pipeline.judge, best_of=1)}

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Trains the seeds that are not done, and tells what came out."""
        process = process or Process()
        self.check(workdir, "ppo")
        with alone(workdir, process):
            begin(workdir, self, fixed(workdir, MADE_WITH, pooled=True))
            for seed in self.seeds:
                folder = workdir / str(seed)
                base, pipeline = self.members(workdir, seed)
                print(f"--- seed {seed}", flush=True)
                run_member(base, folder / "base", process, "base")
                for name in ("sft", "reward"):
                    pipeline.make(folder / "pipeline", name, process)
                for name, ppo in self.policies(folder, pipeline).items():
                    run_member(ppo, folder / name, process, name)
            if jax.process_index() == 0:
                write_overoptimization(workdir, self.title, self.seeds)
