"""What InstructGPT comes from: continuing books as somebody likes it (Ziegler et al. 2019).

    <workdir>/prompts.jsonl        excerpts of the text that the policy was pre-trained on
    <workdir>/comparisons.jsonl    the best of four continuations of each, chosen by a judge
    <workdir>/reward               a reward model that learned from the choices, in one pass
    <workdir>/ppo                  the policy, by the mechanics of lm-human-preferences
    <workdir>/summary.json         score and KL before and after

A step that is there is done; the same command goes on with the others.
"""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from lm.core.config import require_positive
from lm.core.errors import ConfigError
from lm.core.mesh import make_mesh
from lm.core.paths import write_whole
from lm.data.excerpts import excerpts
from lm.data.sources import documents
from lm.data.tokens import TextConfig
from lm.rlhf.labeling import LabelingConfig, label, to_label, write_rows
from lm.rlhf.ppo import Ppo
from lm.rlhf.reward import RewardTraining
from lm.rlhf.scores import RewardConfig, text_scorer
from lm.rlhf.source import Source, read_source
from lm.studies.several import alone, begin, check_used, fixed, run_member
from lm.train.metrics import read_metrics
from lm.train.process import Process, agreed
from lm.train.saved import require_init

CHOSEN = 0  # the rank of the best answer; the others share the next one
MADE_WITH = {
    "prompts.jsonl": ["init", "excerpts", "ppo.prompt_length", "ppo.seed"],
    "comparisons.jsonl": [
        "init", "excerpts", "labeling.", "judge.", "ppo.prompt_length", "ppo.answer_length",
        "ppo.temperature", "ppo.fixed_length", "ppo.reward.truncation.", "ppo.data.",
    ],
    "reward/summary.json": ["init", "reward."],
    "ppo/summary.json": ["init", "ppo."],
}  # fmt: skip
FIGURES = ("valid_reward", "valid_gold", "valid_kl", "pretraining_loss")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ancestor:
    """A pre-trained model, somebody's taste, and what is made of them."""

    reward: RewardTraining
    ppo: Ppo
    init: str | None = None  # the pre-trained run
    judge: RewardConfig = RewardConfig()  # whose taste it is; PPO never reads it but to measure
    excerpts: int = 3_072
    labeling: LabelingConfig = LabelingConfig()

    def __post_init__(self) -> None:
        require_positive(self, "excerpts")

    def members(self, workdir: Path) -> dict[str, Any]:
        """The two runs, bound to each other."""
        rankings = replace(self.reward.data, train=str(workdir / "comparisons.jsonl"))
        cut = self.ppo.reward.truncation
        reward = RewardConfig(
            run=str(workdir / "reward"), truncation=cut, normalise=self.ppo.reward.normalise
        )
        return {
            "reward": replace(self.reward, init=self.init, data=rankings),
            "ppo": replace(
                self.ppo, init=self.init, reward=reward, gold=replace(self.judge, truncation=cut),
                data=replace(self.ppo.data, train=str(workdir / "prompts.jsonl")),
            ),
        }  # fmt: skip

    @property
    def labels(self) -> LabelingConfig:
        """How answers are labeled: as PPO draws and reads them."""
        return replace(
            self.labeling, temperature=self.ppo.temperature, fixed_length=self.ppo.fixed_length,
            truncation=self.ppo.reward.truncation,
        )  # fmt: skip

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Makes what is not there yet, and tells what came out."""
        process = process or Process()
        require_init(self.init, "the pre-trained run")
        if not self.judge.given:
            raise ConfigError(
                "nobody chooses: --set judge.run=RUN, a classifier of two classes, or "
                "--set judge.function=module:name"
            )
        self.judge.check()
        self.judge.check_unread("judge", "normalise")
        self.ppo.check_rates()
        members = self.members(workdir)
        bound = {"labeling": self.labels, "judge": members["ppo"].gold}
        check_used(self, members | bound)
        with alone(workdir, process):
            begin(workdir, self, fixed(workdir, MADE_WITH))
            members = self.members(workdir)
            self.choose(workdir, members["ppo"])
            for name, member in members.items():
                run_member(member, workdir / name, process, name)
            if jax.process_index() == 0:
                write_whole(
                    workdir / "summary.json", json.dumps(self.told(workdir), indent=1) + "\n"
                )

    def choose(self, workdir: Path, ppo: Ppo) -> None:
        """Writes excerpts, and the best of the policy's continuations of each, unless they are. The
        first process writes, and no other goes on to read before it has."""
        asked, out = workdir / "prompts.jsonl", workdir / "comparisons.jsonl"
        if out.exists():
            return
        mesh = make_mesh(self.ppo.mesh)
        with jax.set_mesh(mesh):
            source = read_source(self.init, mesh)
            if jax.process_index() == 0 and not asked.exists():
                write_rows(asked, [{"prompt": one} for one in self.cut(source)])
            agreed(True)
            labeling = self.labels
            ranked = workdir / "ranked.jsonl"
            label(
                labeling, to_label(labeling, ppo.data), source.tokenizer, source,
                text_scorer(self.judge, source.tokenizer, mesh), ranked, mesh,
                prompt_length=ppo.prompt_length, answer_length=ppo.answer_length,
            )  # fmt: skip
        if jax.process_index() == 0:
            rows = [json.loads(line) for line in ranked.read_text().splitlines()]
            for row in rows:
                row["ranks"] = [CHOSEN if rank == 0 else CHOSEN + 1 for rank in row["ranks"]]
            write_rows(out, rows)
        agreed(True)

    def cut(self, source: Source) -> list[str]:
        """Excerpts of what the policy was pre-trained on.

        Raises:
          ConfigError: nobody knows what that was.
        """
        text: TextConfig | None = source.text
        if text is None:
            raise ConfigError(f"init={self.init} does not say which text it learned")
        found = excerpts(
            documents(text.train), source.tokenizer, self.excerpts, self.ppo.prompt_length,
            self.ppo.seed,
        )  # fmt: skip
        return found

    def told(self, workdir: Path) -> dict[str, Any]:
        """Score, KL and loss on the text before and after, and how good the reward model is."""
        rows = read_metrics(workdir / "ppo" / "metrics.jsonl")
        before = next(row for row in rows if "valid_reward" in row)
        after = json.loads((workdir / "ppo" / "summary.json").read_text())
        reward = json.loads((workdir / "reward" / "summary.json").read_text())
        found = {f"reward model: {name}": value for name, value in reward.items()
                 if name.startswith("valid_")}  # fmt: skip
        for when, some in (("before", before), ("after", after)):
            found |= {f"{when}: {name}": some[name] for name in FIGURES if name in some}
        found["gold win rate"] = after["gold_win_rate"]
        found["best of n"] = after["best_of_n"]
        for name, value in found.items():
            print(f"{name}: {value}")
        return found
