"""What the studies with a programmed labeler share: a base, InstructGPT's steps on it, and scorers.

    <workdir>/<seed>/base                   the pre-trained model
    <workdir>/<seed>/pipeline               the steps (lm/studies/alignment.py)

The gold scorer, `pipeline.judge`, labels the comparisons; the second one labels nothing.
"""

import dataclasses
from dataclasses import replace
from pathlib import Path

import jax

from lm.core.config import require
from lm.core.errors import ConfigError
from lm.rlhf.scores import RewardConfig
from lm.studies.alignment import Alignment
from lm.studies.several import check_distinct
from lm.train.pretrain import Pretrain


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoldSetting:
    """A base, the pipeline on it, and the two scorers; all of it anew for each seed."""

    title: str
    base: Pretrain
    pipeline: Alignment  # its judge is the gold scorer
    second: RewardConfig
    seeds: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        check_distinct(seeds=self.seeds)
        require(
            self.pipeline.judge.given and self.second.given,
            "pipeline.judge and second must both be set: the scorers",
        )

    def members(self, workdir: Path, seed: int) -> tuple[Pretrain, Alignment]:
        """The base and the pipeline of one seed."""
        base, plan = replace(self.base, seed=seed), self.pipeline
        return base, replace(
            plan,
            init=str(workdir / str(seed) / "base"),
            sft=replace(plan.sft, seed=seed),
            reward=replace(plan.reward, seed=seed),
            ppo=replace(plan.ppo, seed=seed),
            ppo_ptx=replace(plan.ppo_ptx, seed=seed),
            labeling=replace(plan.labeling, seed=seed),
        )

    def lowered(self, mesh: jax.sharding.Mesh) -> jax.stages.Lowered:
        raise ConfigError("a study is several runs: plan one of them")
