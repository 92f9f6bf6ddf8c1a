"""ChatGPT's steps, over and over (OpenAI 2022): labels of the newest policy's answers, a reward
model of all labels, a new policy. Each round ranks other messages of the same conversations.

    <workdir>/sft                              step 1: conversations
    <workdir>/1/labels.jsonl                   rankings of the SFT model's answers
    <workdir>/1/reward, 1/ppo                  steps 2 and 3
    <workdir>/2/labels.jsonl, 2/reward, 2/ppo  the same of the policy of 1/ppo, and so on
    <workdir>/report.html, summary.json

Every step is an ordinary run directory. What has its result is done; the same command goes on.
People's labels take the place of the programmed labeler's for a round whose file is there before
it begins: `<workdir>/1/labels.jsonl` may be the file of the labelling page.
"""

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from lm.core.config import require, require_positive
from lm.core.errors import ConfigError
from lm.core.mesh import make_mesh
from lm.core.paths import read_summary
from lm.data.dialogues import DialoguesConfig
from lm.data.sources import together
from lm.rlhf.dialogue_sft import DialogueSft
from lm.rlhf.labeling import LabelingConfig, label, model_written, to_label
from lm.rlhf.ppo import Ppo
from lm.rlhf.reward import RewardTraining
from lm.rlhf.scores import RewardConfig, text_scorer
from lm.rlhf.source import read_source
from lm.studies.conversation_report import write_conversing
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

MADE_WITH = {
    "sft/summary.json": ["sft.", "init"],
    "*/labels.jsonl": ["labeling.", "judge."],
    # of people's there is none
    "*/labeling.json": ["ppo.prompt_length", "ppo.answer_length", "ppo.data."],
    "*/reward/summary.json": ["reward."],
    "*/ppo/summary.json": ["ppo."],
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversing:
    """A pre-trained model, conversations, a labeler, and how often it goes round."""

    sft: DialogueSft
    reward: RewardTraining
    ppo: Ppo
    init: str | None = None  # the pre-trained run
    # of (conversations, answers); also the gold score, but for the program that the experiment
    # comes with where people have ranked
    judge: RewardConfig = RewardConfig()
    labeling: LabelingConfig = LabelingConfig()
    rounds: int = 2

    def __post_init__(self) -> None:
        require_positive(self, "rounds")

    def members(self, workdir: Path) -> dict[str, Any]:
        """The steps, bound to each other."""
        policy, data = str(workdir / "sft"), self.sft.data
        step = selected(workdir / "sft", self.sft.reward)
        found: dict[str, Any] = {"sft": replace(self.sft, init=self.init)}
        asked = DialoguesConfig(
            train=data.train, mixture=data.mixture, valid=data.valid, asked=data.asked,
            valid_fraction=data.valid_fraction, between=data.between,
            per_user=self.ppo.data.per_user, common_prefix=self.ppo.data.common_prefix,
        )  # fmt: skip
        shown = together([spec for _, spec, _ in data.mixture]) or data.train
        for number in range(1, self.rounds + 1):
            labels = [str(workdir / str(n) / "labels.jsonl") for n in range(1, number + 1)]
            rankings = replace(
                self.reward.data, train=",".join(labels), valid_fraction=data.valid_fraction,
                between=data.between,
            )  # fmt: skip
            found[f"{number}/reward"] = replace(
                begun(self.reward, self.sft, workdir / "sft"), data=rankings, demonstrations=shown
            )
            found[f"{number}/ppo"] = replace(
                self.ppo, init=policy, init_step=step if number == 1 else None, data=asked,
                gold=gold_of(
                    self.judge, self.labeling.truncation, people=people(workdir, number)
                ),
                reward=replace(
                    self.ppo.reward, run=str(workdir / f"{number}/reward"), function=None
                ),
            )  # fmt: skip
            policy = str(workdir / f"{number}/ppo")
        return found

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Runs the steps that are not done, and tells what came out.

        Raises:
          ConfigError, DataError: a step cannot be done as it is set, or a name has a comma.
        """
        process = process or Process()
        require_init(self.init, "the pre-trained run")
        require(
            self.rounds == 1 or "," not in str(workdir),
            f"workdir {workdir} has a comma, which would divide the names of the labels' files: "
            "choose another",
        )
        self.judge.check()
        self.judge.check_unread("judge", "normalise")
        self.ppo.check_rates()
        check_begun(self.reward, self.sft)
        members = self.members(workdir)
        bound = {} if people(workdir, self.rounds) else {"judge": members["1/ppo"].gold}
        check_used(self, members | bound)
        with alone(workdir, process):
            begin(workdir, self, fixed(workdir, MADE_WITH))
            for name in members:
                if read_summary(workdir / name / "summary.json") is not None:
                    continue
                number, _, step = name.partition("/")
                if step == "reward":
                    self.label(workdir, int(number), self.members(workdir)[f"{number}/ppo"])
                print(f"--- {name}", flush=True)
                self.members(workdir)[name].run(workdir / name, process)  # from what SFT has chosen
            if jax.process_index() == 0:
                print(f"report: {write_conversing(workdir, self.rounds)}")

    def label(self, workdir: Path, number: int, ppo: Ppo) -> None:
        """Has the judge rank the answers of the newest policy, unless the round has its labels."""
        folder = workdir / str(number)
        out = folder / "labels.jsonl"
        if out.exists():
            return
        if not self.judge.given:
            raise ConfigError(
                f"nobody ranks answers: write {out}, or --set judge.function=module:name"
            )
        folder.mkdir(parents=True, exist_ok=True)
        config = replace(self.labeling, seed=self.labeling.seed + 1000 * number)
        mesh = make_mesh(ppo.mesh)
        with jax.set_mesh(mesh):
            source = read_source(ppo.init, mesh, ppo.init_step)
            form = ppo.data.form(source.tokenizer)
            lengths = {"prompt_length": ppo.prompt_length, "answer_length": ppo.answer_length}
            # draws of their own: those of the answers to rank are numbered up to the most of them
            keys = jax.random.split(
                jax.random.fold_in(jax.random.key(config.seed), config.answers[1])
            )
            asked = {
                part: model_written(some, form, source, key, mesh, batch=config.batch, **lengths)
                for key, (part, some) in zip(keys, to_label(config, ppo.data).items(), strict=True)
            }
            judge = text_scorer(self.judge, form, mesh)
            found = label(config, asked, form, source, judge, out, mesh, **lengths)
        print(f"--- {number}: {found['rankings']} rankings; of the pairs held out the judge itself "
              f"would be right about {found['bayes_accuracy']:.3f}", flush=True)  # fmt: skip


def people(workdir: Path, number: int) -> bool:
    """Whether labels that a round's reward model learns from are people's."""
    rounds = [workdir / str(n) for n in range(1, number + 1)]
    return any(
        (one / "labels.jsonl").exists() and not (one / "labeling.json").exists() for one in rounds
    )
