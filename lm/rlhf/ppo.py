"""Reinforcement learning from a reward (Ouyang et al. 2022, section 3.5 and appendix C.4).

One update, as `Ppo.run` does it:

    rollout     the policy answers a batch of prompts
    scores      the reward model, or any function, judges the answers
    experience  log-probabilities anew, KL to the reference, values, advantages
    update      minibatches of PPO's clipped losses, and of pre-training text (PPO-ptx)

Policy, value function, reference and reward model are four parameter trees.
"""

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lm.core import tree
from lm.core.config import require, require_positive
from lm.core.errors import ConfigError, GuardStop
from lm.core.mesh import batch_sharding, batch_ways, make_mesh, replicated
from lm.data.batches import TokenBatch, check_divisible
from lm.data.prompts import RowsConfig
from lm.data.tokens import TextConfig
from lm.models import gpt, reward
from lm.models.adapters import adapted, learned_alone, merged, with_base
from lm.models.gpt import GptConfig
from lm.report.page import write_report
from lm.rlhf.assessment import PpoEvaluation
from lm.rlhf.clock import Clock
from lm.rlhf.controller import KlConfig
from lm.rlhf.diagnosis import check_rollout, troubles
from lm.rlhf.experience import AdvantageConfig, Experience, assess
from lm.rlhf.material import PpoMaterial
from lm.rlhf.rollout import Prompts, Rollout, roll_out
from lm.rlhf.scores import RewardConfig, RolloutScorer
from lm.rlhf.source import Source, read_source, require_shape, started
from lm.rlhf.stage import tell
from lm.rlhf.update import PpoState, UpdateConfig, Updater
from lm.text.tokenizer import Tokenizer
from lm.train.guard import GuardState
from lm.train.metrics import peak_flops, read_metrics
from lm.train.optimizer import AdamWConfig
from lm.train.process import Process
from lm.train.session import Session
from lm.train.state import create, shardings
from lm.train.step import StepMetrics
from lm.train.supervised import Supervised

DRIFT = {"float32": 1e-4, "bfloat16": 2e-2}  # nats a token: the largest, and the mean difference


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ppo(Supervised):
    """Teaches a policy what a reward prefers, near to where it began."""

    data: RowsConfig = RowsConfig()  # prompts
    init: str | None = None  # the run to start from: the policy, and for ever the reference
    init_step: int | None = None
    reward: RewardConfig = RewardConfig()
    gold: RewardConfig = RewardConfig()  # what the reward stands for, where that is known
    model: GptConfig | None = None  # that of `init`, once the run has begun
    value_model: GptConfig | None = None  # that of the reward model, or of the policy, likewise
    text: TextConfig | None = None  # pre-training text, for PPO-ptx and to measure the tax
    steps: int = 500  # updates: 256k episodes of 512
    prompt_length: int = 1024  # tokens at most
    answer_length: int = 1024
    temperature: float = 1.0
    kl: KlConfig = KlConfig()
    advantages: AdvantageConfig = AdvantageConfig()
    update: UpdateConfig = UpdateConfig()
    value_optim: AdamWConfig = AdamWConfig(peak_lr=9e-6, weight_decay=0.0)
    warmup: int = 10  # updates over which rates rise from a tenth (appendix C.4)
    linear_decay: bool = False  # of the rates to 0 (lm-human-preferences)
    lora_rank: int = 0  # of adapters of policy and value function; 0: all of both is learned
    drift: float | None = None  # nats a token that drawn and scored log-probabilities may differ by
    evaluate_prompts: int = 64
    best_of: int = 16  # answers to a prompt, of which the best are the baseline

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(
            self, "steps", "prompt_length", "answer_length", "temperature", "drift",
            "evaluate_prompts", "best_of",
        )  # fmt: skip
        require(
            self.batch % self.update.minibatches == 0,
            f"batch {self.batch} is not divisible by update.minibatches {self.update.minibatches}",
        )

    # ------------------------------------------------------------------- run

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Trains, or goes on training, in `workdir`."""
        process = process or Process()
        mesh = make_mesh(self.mesh)
        check_divisible("batch", self.batch, batch_ways(mesh) * self.update.minibatches)
        before = started(workdir)
        source = read_source(self.init, mesh, self.init_step)  # the reference, in any case
        score = RolloutScorer(self.reward, source.tokenizer, mesh)
        config = self.resolved(before[0] if before else source, score.model)
        material = PpoMaterial(
            config.data, source.tokenizer, batch=self.batch, prompt_length=self.prompt_length,
            width=config.width, text=config.text, seed=self.seed,
            text_rows=self.update.text_rows if self.update.gamma else 0,
        )  # fmt: skip
        facts = {
            "tokenizer": source.tokenizer.digest, "data": material.digest,
            "init": source.identity, "reward": score.identity,
        }  # fmt: skip
        with (
            jax.set_mesh(mesh),
            Session(
                workdir, config, process, loop=self.loop, guard=self.guard, steps=self.steps,
                facts=facts, flops_per_token=config.policy_model.flops_per_token(config.width),
                peak=peak_flops(mesh.size),
            ) as session,
        ):  # fmt: skip
            if session.main:
                source.tokenizer.save(workdir / "tokenizer")
            abstract = config.abstract(mesh)
            state = session.start(abstract, lambda: config.create(abstract, source, score.params))
            reference = source.language_model()
            update = config.compiled(mesh, abstract)
            evaluate = PpoEvaluation(config, material, reference, score, mesh, session)
            session.journal.say(f"{tree.count(state.policy):,} parameters; {material}; {workdir}")
            if session.first == 0:
                tell(session, 0, 0, evaluate(0, state.params))

            each = self.batch * config.width
            tokens = session.first * each
            for step in session.steps():
                clock = Clock()
                rollout = config.rolled_out(state.policy, material.prompts(step, mesh), step,
                                            source.tokenizer)  # fmt: skip
                clock.lap("rollout", rollout)
                scores = score(rollout)
                experience, figures = assess(
                    config.policy_model, config.critic_model, config.advantages, state.policy,
                    reference, state.value, rollout, scores, state.beta,
                    temperature=self.temperature, parts=self.update.minibatches,
                )  # fmt: skip
                clock.lap("score", experience)
                figures = {name: float(value) for name, value in figures.items()}
                config.check(figures, step, state, session)
                state, metrics = update(
                    state, experience, material.text_rows(step, mesh), jnp.float32(figures["kl"]),
                    config.rates(step), jax.random.fold_in(jax.random.key(self.seed), step),
                )  # fmt: skip
                clock.lap("update", metrics)
                tokens += each
                told = config.metrics(metrics, figures | clock.told(each))
                state = session.after(step, state, told, tokens)
                if (step + 1) % self.loop.evaluate_every == 0 and step + 1 < self.steps:
                    tell(session, step + 1, tokens, evaluate(step + 1, state.params))
            summary = evaluate.finish(state.params)
            tell(session, self.steps, tokens, summary.pop("figures"))
            wrong = troubles(read_metrics(workdir / "metrics.jsonl"))
            session.journal.say("".join(f"in trouble: {what}\n" for what in wrong))
            session.finish(
                {"steps": self.steps, "tokens": tokens, "episodes": self.steps * self.batch}
                | {"parameters": tree.count(state.policy), **summary, "troubles": wrong}
            )
        if jax.process_index() == 0:
            print(f"report: {write_report(workdir)}")

    def rolled_out(self, policy: Any, some: Prompts, step: int, tokenizer: Tokenizer) -> Rollout:
        """Answers of a policy; `step` numbers the draws."""
        return roll_out(
            self.policy_model, policy, some,
            jax.random.fold_in(jax.random.key(self.seed + 1), step),
            count=self.answer_length, end=tokenizer.end, temperature=self.temperature,
        )  # fmt: skip

    def check(
        self, figures: dict[str, float], step: int, state: PpoState, session: Session
    ) -> None:
        """Stops the run, its state saved, where nothing could be learned from a rollout.

        Raises:
          GuardStop: see `check_rollout`.
        """
        exact = self.policy_model.dtype == "float32"
        tolerance = self.drift or DRIFT[self.policy_model.dtype]
        try:
            check_rollout(figures, tolerance=tolerance, exact=exact, kl_stop=self.kl.stop)
        except GuardStop as stop:
            wrong = troubles(read_metrics(session.workdir / "metrics.jsonl"))
            if step > session.first:
                session.save(step, state)
                session.checkpoints.settle()
            if session.main:
                session.journal.flush()
                write_report(session.workdir)
            raise GuardStop("; ".join([f"update {step}: {stop}", *wrong])) from None

    def rates(self, step: int) -> tuple[jax.Array, jax.Array]:
        """Learning rates of policy and value function: constant after a rise from one tenth."""
        shape = min(1.0, 0.1 + 0.9 * step / self.warmup) if self.warmup else 1.0
        if self.linear_decay:
            shape *= 1 - step / self.steps
        return jnp.float32(self.optim.peak_lr * shape), jnp.float32(
            self.value_optim.peak_lr * shape
        )

    def metrics(self, found: Any, figures: dict[str, float]) -> StepMetrics:
        measured = {"clipped": found.clipped, "first_ratio": found.first_ratio,
                    "step_kl": found.step_kl}  # fmt: skip
        parts = {"policy": found.policy_loss, "value": found.value_loss}
        if self.update.gamma:
            parts["text"] = found.text_loss
        return StepMetrics(
            loss=found.policy_loss, tokens=jnp.zeros(()), grad_norm=found.grad_norm,
            applied=found.finite, finite=found.finite, spike=found.spike,
            lr=self.optim.peak_lr, parts=parts, figures=figures | measured,
        )  # fmt: skip

    # ----------------------------------------------------------------- parts

    @property
    def policy_model(self) -> GptConfig:
        if self.model is None:
            raise ConfigError("init is not set: --set init=RUN names the run to start from")
        return self.model

    @property
    def critic_model(self) -> GptConfig:
        return self.value_model or self.policy_model

    @property
    def width(self) -> int:
        """Tokens of a prompt and its answer at most."""
        return self.prompt_length + self.answer_length

    def resolved(self, source: Any, reward_model: GptConfig | None) -> "Ppo":
        """With the models of the runs that it starts from.

        Raises:
          ConfigError: prompt and answer are longer than a model's context.
        """
        require_shape(self.model, source.model, self.init)
        model = self.model or source.model
        critic = self.value_model or reward_model or model
        require_shape(self.value_model, reward_model or model, self.reward.run or self.init)
        for name, one in (("model", model), ("value_model", critic)):
            require(
                self.width <= one.length,
                f"prompt_length {self.prompt_length} + answer_length {self.answer_length} is more "
                f"than {name}.length {one.length}: set one of them lower",
            )
        require(
            "fixed" not in model.pattern,
            "a fixed pattern counts its blocks from the first token, which padding moves: "
            "rollouts have prompts of unequal length",
        )
        return replace(self, model=model, value_model=critic, text=self.text or source.text)

    def boxed(self, key: jax.Array) -> PpoState:
        """A first state of random parameters, boxed with the names of their axes."""
        policy = adapted(gpt.init(self.policy_model, key), self.lora_rank, key)
        value = adapted(reward.init(self.critic_model, key), self.lora_rank, key)
        policy_optimizer, value_optimizer = self.optimizers()
        return PpoState(
            step=jnp.zeros((), jnp.int32), policy=policy, value=value,
            average=jax.tree.map(jnp.copy, policy),
            policy_moments=policy_optimizer.init(policy),
            value_moments=value_optimizer.init(value),
            beta=jnp.float32(self.kl.beta), guard=GuardState.empty(self.guard),
        )  # fmt: skip

    def initial(self) -> Any:
        return self.boxed

    def optimizers(self) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
        """Of policy and value function."""
        both = self.optim.direction(), self.value_optim.direction()
        return learned_alone(both[0], self.lora_rank), learned_alone(both[1], self.lora_rank)

    def create(self, abstract: Any, source: Source, reward_params: Any) -> PpoState:
        """Policy and average are the other run's model; the value function begins as the reward
        model (appendix C.4), or without one as the policy with a head of zeros."""
        state: Any = create(self.initial(), abstract, self.seed)
        model = source.language_model()
        policy = with_base(state.policy, model)
        if reward_params is not None:
            value = reward_params
        else:
            head = merged(state.value)["head"]
            value = {"model": model, "head": jax.tree.map(jnp.zeros_like, head)}
        value = with_base(state.value, value)
        copied = jax.tree.map(jnp.copy, {"policy": policy, "average": policy, "value": value})
        placed = {name: jax.device_put(params, shardings(getattr(abstract, name)))
                  for name, params in copied.items()}  # fmt: skip
        return state.replace(**placed)

    def compiled(self, mesh: jax.sharding.Mesh, abstract: Any) -> Any:
        """The program of an update; the state is donated. It comes out as it went in, so that what
        reads it is compiled once."""
        policy_optimizer, value_optimizer = self.optimizers()
        updater = Updater(
            policy_config=self.policy_model, value_config=self.critic_model, config=self.update,
            advantages=self.advantages, kl=self.kl, guard=self.guard,
            policy_optimizer=policy_optimizer, value_optimizer=value_optimizer,
            policy_clip=self.optim.clip, value_clip=self.value_optim.clip,
            temperature=self.temperature, mesh=mesh,
        )  # fmt: skip
        return jax.jit(
            updater, donate_argnums=0, out_shardings=(shardings(abstract), replicated(mesh))
        )

    def lowered(self, mesh: jax.sharding.Mesh) -> jax.stages.Lowered:
        """The update that `run` runs, lowered for a mesh whose devices may be absent."""
        with jax.set_mesh(mesh):
            rows, answers = batch_sharding(mesh), (self.batch, self.answer_length)

            def of(shape: tuple[int, ...], dtype: Any) -> Any:
                return jax.ShapeDtypeStruct(shape, dtype, sharding=rows)

            scalar = jax.ShapeDtypeStruct((), jnp.float32, sharding=replicated(mesh))
            experience = Experience(
                tokens=of((self.batch, self.width), jnp.int32), start=of((self.batch,), jnp.int32),
                mask=of(answers, jnp.bool_),
                **{name: of(answers, jnp.float32)
                   for name in ("logp", "values", "rewards", "advantages", "returns")},
            )  # fmt: skip
            text = None
            if self.update.gamma:
                shape = (self.batch, self.update.text_rows, self.width)
                fields: dict[str, Any] = {"tokens": of(shape, jnp.int32),
                                          "targets": of(shape, jnp.int32),
                                          "mask": of(shape, jnp.bool_),
                                          "rows": of(shape[:2], jnp.uint32)}  # fmt: skip
                text = TokenBatch(**fields)
            key = jax.eval_shape(lambda: jax.random.key(0))
            abstract = self.abstract(mesh)
            update = self.compiled(mesh, abstract)
            return update.lower(abstract, experience, text, scalar, (scalar, scalar), key)
