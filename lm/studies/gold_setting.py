"""What the studies with a programmed labeler share: a base, InstructGPT's steps on it, and scorers.

    <workdir>/<seed>/base                   the pre-trained model
    <workdir>/<seed>/pipeline               the steps (lm/studies/alignment.py)

The gold scorer, `pipeline.judge`, labels the comparisons; the second one labels nothing.
"""

import dataclasses
from dataclasses import replace
from pathlib import Path

from lm.core.config import require
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
        self.second.check_unread("second", "normalise")

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

    def check(self, workdir: Path, *policies: str) -> None:
        """Raises ConfigError, before the base is trained, for what would stop a step after it.

        Args:
          policies: the pipeline's steps of PPO that are run.
        """
        base, pipeline = self.members(workdir, self.seeds[0])
        pipeline.check(workdir / str(self.seeds[0]) / "pipeline")
        require(
            pipeline.members(workdir)["ppo"].gold.given,
            "pipeline.comparisons are people's, of whom the experiment's own judge says nothing: "
            "set pipeline.judge.function or pipeline.judge.run",
        )
        lengths = {"sft.length": pipeline.sft.length}
        if pipeline.reward.init is None:
            lengths["reward.length"] = pipeline.reward.length
        for name in policies:
            lengths[f"{name}.prompt_length + answer_length"] = getattr(pipeline, name).width
        for name, length in lengths.items():
            require(
                length <= base.model.length,
                f"pipeline.{name} {length} is more than base.model.length {base.model.length}: "
                "set one of them lower",
            )
