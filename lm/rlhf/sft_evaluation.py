"""What supervised fine-tuning measures on held-out demonstrations, and which step it chooses."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from lm.core.errors import DataError
from lm.data.held_out import in_turn
from lm.decode.generate import Generator
from lm.decode.sampling import SamplingConfig
from lm.evals.perplexity import HeldOut
from lm.models.adapters import merged
from lm.rlhf.function import Scorer, finite
from lm.rlhf.scores import text_scorer
from lm.rlhf.stage import summed
from lm.text.interface import Form
from lm.train.manifest import steps_in
from lm.train.metrics import read_metrics
from lm.train.session import Session

if TYPE_CHECKING:
    from lm.rlhf.sft import Sft, SftMaterial

SAMPLED = 4  # answers that are shown at an evaluation
TAX_BATCHES = 20  # of an estimate of the loss on pre-training text


class SftEvaluation:
    """The loss on held-out demonstrations and on pre-training text, answers, and their reward."""

    def __init__(
        self, config: "Sft", material: "SftMaterial", form: Form, mesh: jax.sharding.Mesh,
        session: Session,
    ):  # fmt: skip
        self.config, self.material, self.form = config, material, form
        self.mesh, self.session = mesh, session
        self.rows = config.batch // config.microbatches
        self.total = session.asking(jax.jit(config.objective().total))
        self.room = config.decoder.length - config.loop.sample_tokens
        asked = list(dict.fromkeys(material.prompts))
        sizes = dict(zip(asked, map(len, form.encode_prompts(asked)), strict=True))
        most = config.prompt_length  # those above it are counted by what is held out
        fitting = [p for p in asked if (most is None or sizes[p] <= most) and self.ids([p])[0]]
        if config.loop.sample_tokens and (cut := sum(sizes[p] > self.room for p in fitting)):
            session.journal.say(
                f"{cut} of {len(fitting)} held-out prompts are cut to their newest {self.room} "
                f"tokens, to be answered in {config.loop.sample_tokens}"
            )
        self.prompts = in_turn(fitting)
        if config.loop.sample_tokens and not self.prompts:
            raise DataError(
                f"loop.sample_tokens {config.loop.sample_tokens} leave no room for any held-out "
                f"prompt in model.length {config.decoder.length}: set it lower; 0 answers none"
            )
        self.scorer: Scorer | None = None
        if config.reward.given:
            self.scorer = text_scorer(config.reward, form, mesh)
        before = session.workdir / "metrics.jsonl"  # of this run, where it was interrupted
        self.rewards: dict[int, float] = {
            row["step"]: row["valid_reward"]
            for row in (read_metrics(before) if session.first and before.exists() else ())
            if row["step"] <= session.first and math.isfinite(row.get("valid_reward", math.nan))
        }

    def __call__(self, step: int, params: Any) -> dict[str, float]:
        """Figures of a step. Raises DataError where a reward is not a number."""
        config, material = self.config, self.material
        loss, count = summed(self.total, params, material.held_out.rows, self.mesh, self.rows)
        figures = {"valid_loss": loss / max(count, 1.0)}
        if material.held_out_text:
            held_out = HeldOut(material.held_out_text, material.width, self.rows, self.mesh)
            some = held_out.estimate(TAX_BATCHES, config.seed)
            figures["pretraining_loss"] = held_out.loss(self.total, params, some)
        if config.loop.sample_tokens:
            self.session.journal.sample(step, self.answered(params))
        if self.scorer:
            prompts = self.prompts[: config.reward_prompts]
            written = self.written(params, prompts, 1.0)
            answers = [self.form.tokenizer.decode(row) for row in written]
            ended = [len(row) < config.loop.sample_tokens for row in written]
            asked = [self.form.decode_prompt(ids) for ids in self.ids(prompts)]  # as answered
            scores = finite(self.scorer(asked, answers, ended), "reward")
            self.rewards[step] = figures["valid_reward"] = float(np.mean(scores))
        return figures

    def ids(self, prompts: Sequence[Any]) -> list[list[int]]:
        """The newest ids of each prompt that leave room for an answer; none where none can."""
        return [self.form.cut(row, self.room) for row in self.form.encode_prompts(prompts)]

    def answers(self, params: Any, prompts: Sequence[Any], temperature: float) -> list[str]:
        written = self.written(params, prompts, temperature)
        return [self.form.tokenizer.decode(row) for row in written]

    def written(self, params: Any, prompts: Sequence[Any], temperature: float) -> list[list[int]]:
        """The ids of an answer to each prompt, without the end."""
        size = self.form.tokenizer.vocab_size
        generator = Generator(self.config.decoder, merged(params), self.form.end, size)
        sampling = SamplingConfig(temperature=temperature)
        count = self.config.loop.sample_tokens
        return generator(self.ids(prompts), count, sampling, seed=self.config.seed)

    def answered(self, params: Any) -> str:
        prompts = self.prompts[:SAMPLED]
        pairs = zip(prompts, self.answers(params, prompts, 0.7), strict=True)
        return "".join(f"{self.form.spell(prompt)}[{answer}]\n\n" for prompt, answer in pairs)

    def summary(self) -> dict[str, Any]:
        """The step, of those kept, whose answers score best: by loss the model overfits after one
        epoch (C.1)."""
        kept = set(steps_in(self.session.workdir / "checkpoints"))
        known = kept & set(self.rewards)
        if not known:
            if self.rewards:
                self.session.journal.say("no checkpoint that is kept has a reward: none is chosen")
            return {}
        best = max(sorted(known), key=lambda step: self.rewards[step])
        self.session.journal.say(
            f"step {best} answers best of those kept, by reward {self.rewards[best]:.4f}: "
            f"--set init_step={best} starts from it"
        )
        return {"selected_step": best, "selected_reward": self.rewards[best]}
