"""What a run of PPO is made of: its settings, its first state, and the program of its update."""

import dataclasses
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from lm.core.config import require, require_at_least_zero, require_positive
from lm.core.mesh import batch_sharding, batch_ways, replicated
from lm.data.batches import TokenBatch, check_divisible
from lm.data.prompts import RowsConfig
from lm.data.tokens import TextConfig
from lm.models import gpt, reward
from lm.models.adapters import adapted, learned_alone, merged, with_base
from lm.models.gpt import GptConfig
from lm.rlhf.controller import KlConfig
from lm.rlhf.experience import AdvantageConfig, Experience
from lm.rlhf.programs import before_update
from lm.rlhf.rates import constant
from lm.rlhf.rollout import Prompts
from lm.rlhf.scores import RewardConfig
from lm.rlhf.source import Source
from lm.rlhf.state import PpoState
from lm.rlhf.update import UpdateConfig, Updater
from lm.text.interface import Form
from lm.train.beginning import require_same
from lm.train.guard import GuardState
from lm.train.optimizer import AdamWConfig, OptimizerConfig
from lm.train.saved import require_init
from lm.train.state import abstract_state, create, shardings
from lm.train.supervised import Programs, Supervised


@dataclasses.dataclass(frozen=True, kw_only=True)
class PpoSetting(Supervised):
    """The numbers of PPO; the defaults are the paper's where it prints them."""

    data: RowsConfig = RowsConfig()  # prompts
    init: str | None = None  # the run to start from: the policy, and for ever the reference
    init_step: int | None = None
    reward: RewardConfig = RewardConfig()
    gold: RewardConfig = RewardConfig()  # what the reward stands for, where that is known
    second: RewardConfig = RewardConfig()  # another, that no label was made by
    model: GptConfig | None = None  # that of `init`, once the run has begun
    value_model: GptConfig | None = None  # that of the reward model, or of the policy, likewise
    # what the value function begins as: the reward model; the policy, with a head of zeros; or for
    # ever such a head on the policy's own trunk, update.value_weight of its loss reaching it
    # (lm-human-preferences)
    value_from: Literal["reward", "policy", "trunk"] = "reward"
    text: TextConfig | None = None  # pre-training text, for PPO-ptx and to measure the tax
    steps: int = 500  # updates: 256k episodes of 512
    prompt_length: int = 1024  # tokens at most
    answer_length: int = 1024
    temperature: float = 1.0
    # in which answers are drawn, one after the other: the same answers, and keys and values of as
    # much fewer rows at once
    rollout_parts: int = 1
    fixed_length: bool = False  # no token ends an answer (lm-human-preferences)
    kl: KlConfig = KlConfig()
    advantages: AdvantageConfig = AdvantageConfig()
    update: UpdateConfig = UpdateConfig()
    value_optim: OptimizerConfig = AdamWConfig(peak_lr=9e-6, weight_decay=0.0)
    # The rates are constant but for these, whatever an optimizer's own schedule is by default.
    warmup: int = 10  # updates over which the policy's rises from a tenth (appendix C.4)
    linear_decay: bool = False  # of both to 0 (lm-human-preferences)
    lora_rank: int = 0  # of adapters of policy and value function; 0: all of both is learned
    drift: float | None = None  # nats a token that drawn and scored log-probabilities may differ by
    evaluate_prompts: int = 64
    evaluate_draws: int = 1  # answers to each of them: one alone is noise on a curve
    best_of: int = 16  # answers to a prompt, of which the best are the baseline

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(
            self, "steps", "prompt_length", "answer_length", "temperature", "drift",
            "evaluate_prompts", "evaluate_draws", "best_of", "rollout_parts",
        )  # fmt: skip
        self.gold.check_unread("gold", "normalise")
        self.second.check_unread("second", "normalise")
        require_at_least_zero(self, "warmup", "lora_rank")
        require(
            self.guard.spike != "skip",
            "guard.spike=skip leaves out a step, and an update of PPO is several: log or off",
        )
        require(
            self.value_from != "trunk" or not self.lora_rank,
            f"lora_rank {self.lora_rank}: adapters and value_from='trunk' do not go together",
        )
        require(
            self.kl.target is None or self.batch < 5 * self.kl.horizon,
            f"batch {self.batch} must be below 5 x kl.horizon {self.kl.horizon}: an update changes "
            "kl.beta by up to 0.2 x batch / horizon of it, below 0; set a longer kl.horizon",
        )
        for name, parts in (
            ("update.minibatches", self.update.minibatches),
            ("update.minibatches x microbatches", self.parts),
            ("rollout_parts", self.rollout_parts),
        ):
            require(
                self.batch % parts == 0, f"batch {self.batch} is not divisible by {name} {parts}"
            )

    def check_rates(self) -> None:
        """Raises ConfigError where an optimizer has a schedule, which would do nothing."""
        constant("optim", self.optim)
        constant("value_optim", self.value_optim)

    def check_batch(self, mesh: jax.sharding.Mesh) -> None:
        """Raises ConfigError unless the mesh splits what is computed at once of a batch."""
        for parts in (self.parts, self.rollout_parts):
            check_divisible("batch", self.batch, batch_ways(mesh) * parts)

    def rates(self, step: int) -> tuple[jax.Array, jax.Array]:
        """Learning rates of policy and value function: the first rises from one tenth, the second
        is fixed (appendix C.4)."""
        rise = min(1.0, 0.1 + 0.9 * step / self.warmup) if self.warmup else 1.0
        left = 1 - step / self.steps if self.linear_decay else 1.0
        policy, value = self.optim.peak_lr * rise * left, self.value_optim.peak_lr * left
        return jnp.float32(policy), jnp.float32(value)

    @property
    def parts(self) -> int:
        """Parts in which the models read a batch, one after the other."""
        return self.update.minibatches * self.microbatches

    @property
    def at_once(self) -> int:
        """Rows that models read at a time."""
        return self.batch // self.parts

    @property
    def drawn_at_once(self) -> int:
        """Rows whose answers are drawn at a time."""
        return self.batch // self.rollout_parts

    @property
    def policy_model(self) -> GptConfig:
        return require_init(self.model)

    @property
    def critic_model(self) -> GptConfig:
        own = self.value_from != "trunk"
        return (self.value_model if own else None) or self.policy_model

    def end(self, form: Form) -> int:
        """The token that ends an answer; of answers of fixed length one that is never drawn."""
        return -1 if self.fixed_length else form.end

    @property
    def width(self) -> int:
        """Tokens of a prompt and its answer at most."""
        return self.prompt_length + self.answer_length

    @property
    def text_rows(self) -> int:
        """Rows of pre-training text that are learned beside each prompt."""
        return self.update.text_rows if self.update.gamma else 0

    def abstract_rows(self) -> Prompts:
        """Prompts of an update, as wide as with their answers."""
        struct = jax.ShapeDtypeStruct
        return Prompts(
            tokens=struct((self.batch, self.width), jnp.int32),
            start=struct((self.batch,), jnp.int32),
            mask=struct((self.batch,), jnp.bool_),
            rows=struct((self.batch,), jnp.uint32),
        )

    def flops_per_token(self) -> float:
        """Of an update, for each token of a prompt and its answer: both models are trained on them,
        the policy's output layer on those of answers, and the policy on `text_rows` times as many
        of pre-training text. Rollouts are left out."""
        config, model = self.update, self.policy_model
        answered = self.answer_length / self.width
        each = model.flops_per_token(self.width, answered, rank=self.lora_rank)
        if config.gamma:
            each += config.text_rows * model.flops_per_token(self.width, rank=self.lora_rank)
        if self.value_from != "trunk":
            each += self.critic_model.flops_per_token(self.width, scored=0.0, rank=self.lora_rank)
        return config.inner_epochs * each

    def resolved(self, source: Any, reward_model: GptConfig | None) -> Any:
        """With the models of the runs that it starts from, and optimizers that say of their rates
        what is done.

        Raises:
          ConfigError: a model that computes another thing than its run's, or prompt and answer
            longer than a model's context.
        """
        model = self.model or source.model
        reward_model = reward_model if self.value_from == "reward" else None
        given = self.value_model if self.value_from != "trunk" else None
        critic = given or reward_model or model
        begun = self.reward.run if reward_model else self.init
        for name, ours, theirs, run in (
            ("model", self.model, source.model, self.init),
            ("value_model", given, reward_model or model, begun),
        ):
            if ours:
                way_out = f"--set {name}=None takes that one (in a pipeline ppo.{name}=None)"
                require_same(ours, theirs, str(run), way_out, name=name)
        for name, one in (("model", model), ("value_model", critic)):
            require(
                self.width <= one.length,
                f"prompt_length {self.prompt_length} + answer_length {self.answer_length} is more "
                f"than {name}.length {one.length}: set one of them lower",
            )
        require(
            not model.counts_blocks,
            "a fixed pattern counts its blocks from the first token, which padding moves: "
            "rollouts have prompts of unequal length",
        )
        return replace(
            self, model=model, value_model=critic, text=self.text or source.text,
            optim=constant("optim", self.optim),
            value_optim=constant("value_optim", self.value_optim),
        )  # fmt: skip

    def boxed(self, key: jax.Array) -> PpoState:
        """A first state of random parameters, boxed with the names of their axes."""
        policy = adapted(gpt.init(self.policy_model, key), self.lora_rank, key)
        value = adapted(reward.init(self.critic_model, key), self.lora_rank, key)
        if self.value_from == "trunk":
            value = {"head": value["head"]}
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
        model (appendix C.4), or as `value_from` says, with a head of zeros."""
        state: Any = create(self.initial(), abstract, self.seed)
        model = source.language_model()
        policy = with_base(state.policy, model)
        if reward_params is not None and self.value_from == "reward":
            value = reward_params
        else:
            value = {"head": jax.tree.map(jnp.zeros_like, merged(state.value)["head"])}
            if self.value_from != "trunk":
                value["model"] = model
        value = with_base(state.value, value)
        copied = jax.tree.map(jnp.copy, {"policy": policy, "average": policy, "value": value})
        placed = {name: jax.device_put(params, shardings(getattr(abstract, name)))
                  for name, params in copied.items()}  # fmt: skip
        return state.replace(**placed)

    def compiled(self, mesh: jax.sharding.Mesh, abstract: Any, vocab: int | None = None) -> Any:
        """The program of an update of answers in `vocab` ids; the state is donated. It comes out as
        it went in, so that what reads it is compiled once."""
        policy_optimizer, value_optimizer = self.optimizers()
        updater = Updater(
            policy_config=self.policy_model, value_config=self.critic_model, config=self.update,
            advantages=self.advantages, kl=self.kl, guard=self.guard,
            policy_optimizer=policy_optimizer, value_optimizer=value_optimizer,
            policy_clip=self.optim.clip, value_clip=self.value_optim.clip,
            temperature=self.temperature, mesh=mesh, microbatches=self.microbatches,
            vocab=vocab,
        )  # fmt: skip
        return jax.jit(
            updater, donate_argnums=0, out_shardings=(shardings(abstract), replicated(mesh))
        )

    def beside(self, mesh: jax.sharding.Mesh) -> dict[str, Any]:
        """The reference, of the policy's shape, and the reward model, of the value function's."""
        return {
            "reference": abstract_state(partial(gpt.init, self.policy_model), mesh),
            "reward": abstract_state(partial(reward.init, self.critic_model), mesh),
        }

    def others(self, mesh: jax.sharding.Mesh) -> Programs:
        """Rollout, scores and experience, with the networks that each reads."""
        return before_update(self, mesh)

    def lowered(self, mesh: jax.sharding.Mesh) -> jax.stages.Lowered:
        """The update that `run` runs, lowered for a mesh whose devices may be absent.

        Raises:
          ConfigError: the mesh does not split the batch.
        """
        self.check_batch(mesh)
        with jax.set_mesh(mesh):
            experience = Experience.abstract(
                self.batch, self.width, self.answer_length, self.abstract_rows().sight
            )
            text: Any = None
            if self.update.gamma:
                text = TokenBatch.abstract(self.update.text_rows, self.width)  # of an answer
                text = jax.tree.map(lambda leaf: leaf.update(shape=(self.batch, *leaf.shape)), text)
            rows = batch_sharding(mesh)
            batch = jax.tree.map(lambda leaf: leaf.update(sharding=rows), (experience, text))
            scalar = jax.ShapeDtypeStruct((), jnp.float32, sharding=replicated(mesh))
            key = jax.eval_shape(lambda: jax.random.key(0))
            abstract = self.abstract(mesh)
            update = self.compiled(mesh, abstract)
            return update.lower(abstract, *batch, scalar, (scalar, scalar), key)
