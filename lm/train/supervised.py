"""What every supervised run is made of: pre-training, fine-tuning, and what is built like them."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lm.core.config import require, require_positive
from lm.core.errors import ConfigError
from lm.core.mesh import MeshConfig, batch_sharding, batch_ways, place, replicated
from lm.data.batches import check_divisible
from lm.report.page import write_report
from lm.text.tokenizer import Tokenizer, TokenizerConfig, build, load
from lm.train.guard import GuardConfig
from lm.train.manifest import steps_in
from lm.train.metrics import peak_flops
from lm.train.optimizer import OptimizerConfig, Progress, rising
from lm.train.process import Process
from lm.train.session import LoopConfig, Origins, Session
from lm.train.state import TrainState, abstract_state, create, initialiser
from lm.train.step import Objective, train_step

# by name: a program, and the names of the networks that it reads, of a state or beside it
Programs = Mapping[str, tuple[jax.stages.Lowered, tuple[str, ...]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Supervised:
    """The settings of a run, and the compiled step that they mean."""

    optim: OptimizerConfig
    batch: int  # rows of a step, on all devices
    mesh: MeshConfig = MeshConfig()
    loop: LoopConfig = LoopConfig()
    guard: GuardConfig = GuardConfig()
    microbatches: int = 1  # parts that a step is computed in, one after the other
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "batch", "microbatches")
        require(0 <= self.seed < 2**32, f"seed must be from 0 to 2**32 - 1, got {self.seed}")

    def first_params(self, key: jax.Array) -> Any:
        """Initial parameters, boxed with the names of their axes."""
        raise NotImplementedError

    def objective(self) -> Objective:
        raise NotImplementedError

    def abstract_rows(self) -> Any:
        """Shapes and dtypes of the rows of a step [B ...]; of the longest ones, if they differ."""
        raise NotImplementedError

    def direction(self) -> optax.GradientTransformation:
        """Gradients to the direction of descent, of whatever is trained."""
        return self.optim.direction()

    def flops_per_token(self) -> float:
        """Operations of the model's own products for a token that is trained on; none twice."""
        raise NotImplementedError

    def stream_norms(self, params: Any, rows: Any) -> jax.Array | None:
        """Norms of the residual stream [L+1] at the rows [B ...] of a microbatch, without dropout;
        None of a model that is not looked into."""
        del params, rows
        return None

    def adding_norms(self, step_fn: Any, session: Session) -> Any:
        """The step, whose metrics have the residual-stream norms of its first microbatch, at the
        parameters after it, where it is logged."""
        if not self.loop.log_norms:
            return step_fn
        norms_of = jax.jit(
            lambda params, batch: self.stream_norms(params, jax.tree.map(lambda x: x[0], batch))
        )

        def step(state: Any, batch: Any, rate: jax.Array) -> tuple[Any, Any]:
            state, metrics = step_fn(state, batch, rate)
            if session.next_step % self.loop.log_every == 0:
                norms = norms_of(state.params, batch)
                more = {} if norms is None else {"stream": norms}
                metrics = metrics.replace(norms=metrics.norms | more)
            return state, metrics

        return step

    def initial(self) -> Any:
        return initialiser(self.first_params, self.direction(), self.guard)

    def abstract(self, mesh: jax.sharding.Mesh) -> TrainState:
        return abstract_state(self.initial(), mesh)

    def step(self, mesh: jax.sharding.Mesh, abstract: TrainState) -> Any:
        return train_step(
            self.objective(), self.direction(), abstract, mesh,
            seed=self.seed, clip=self.optim.clip, guard=self.guard,
            norms=self.loop.log_norms,
        )  # fmt: skip

    @contextmanager
    def begun(
        self, workdir: Path, process: Process | None, mesh: jax.sharding.Mesh, *,
        steps: int, facts: dict[str, Any], tokens_before: Callable[[int], int],
        tokenizer: Tokenizer | None = None,
        first: Callable[[TrainState], TrainState] | None = None,
        flops_per_token: Callable[[int], float] | None = None,
    ) -> Iterator[tuple[Session, Any, Any]]:  # fmt: skip
        """The session of a run, its first state, and its compiled step; at the end its report.

        Args:
          facts: digests of what the run learns from, by name.
          tokens_before: tokens of all the steps before one.
          tokenizer: kept with the run, and its digest with the facts.
          first: the state of a run that has no checkpoint, from its shapes; random if it is None.
          flops_per_token: of this step, where it is not what the settings make it for all.
        """
        if tokenizer:
            facts = {"tokenizer": tokenizer.digest, **facts}
        with (
            jax.set_mesh(mesh),
            Session(
                workdir, self, process or Process(), loop=self.loop, guard=self.guard,
                steps=steps, facts=facts, peak=peak_flops(mesh.size), tokens_before=tokens_before,
                flops_per_token=flops_per_token or (lambda step: self.flops_per_token()),
            ) as session,
        ):  # fmt: skip
            if tokenizer:
                session.keep(tokenizer)
            abstract = self.abstract(mesh)
            step = self.adding_norms(self.step(mesh, abstract), session)
            make = first or (lambda shapes: create(self.initial(), shapes, self.seed))
            state = session.start(abstract, lambda: make(abstract))
            if rising(self.optim, steps, session.counted(steps)):
                session.journal.say(
                    "warning: the rate still rises at the last step, for the warm-up of optim is "
                    "as long as the run or longer: shorten it, or set more steps"
                )
            yield session, state, step
        if jax.process_index() == 0:
            print(f"report: {write_report(workdir)}")

    def batches(
        self, session: Session, batch_of: Callable[[int], Any], origins: Origins
    ) -> Iterator[tuple[int, Any, jax.Array]]:
        """Of each step that is left its number, its batch and its learning rate.

        Args:
          batch_of: the batch of a step, read and `split`.
          origins: where each of its rows is from.
        """
        total = session.counted(session.total)
        for step in session.steps(origins):
            with session.goodput.spent("data"):
                batch = batch_of(step)
            progress = Progress(step, session.total, session.counted(step + 1), total)
            yield step, batch, jnp.float32(self.optim.rate(progress))

    def split(self, host: Any, mesh: jax.sharding.Mesh, rows: slice, total: int) -> Any:
        """This process's rows on the devices, as [M B/M ...]; row r is in microbatch r mod M."""
        parts = self.microbatches
        mine = jax.tree.map(
            lambda leaf: leaf.reshape(len(leaf) // parts, parts, *leaf.shape[1:]).swapaxes(0, 1),
            host,
        )
        share = slice(rows.start // parts, rows.stop // parts)
        return place(mine, mesh, share, total // parts, leading=1)

    def beside(self, mesh: jax.sharding.Mesh) -> dict[str, Any]:
        """Shapes of networks that lie in memory while the step runs, and are not of its state."""
        del mesh
        return {}

    def others(self, mesh: jax.sharding.Mesh) -> Programs:
        """Programs that every step runs beside `lowered`."""
        del mesh
        return {}

    def check_mesh(self, mesh: jax.sharding.Mesh) -> None:
        """Raises ConfigError unless the mesh divides the batch, and what else it splits."""
        check_divisible("batch", self.batch, batch_ways(mesh) * self.microbatches)

    def lowered(self, mesh: jax.sharding.Mesh) -> jax.stages.Lowered:
        """The step that `run` runs, lowered for a mesh whose devices may be absent.

        Raises:
          ConfigError: the mesh does not divide what it splits.
        """
        self.check_mesh(mesh)
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # its devices run nothing
            return self.traced(mesh).lower()

    def traced(self, mesh: jax.sharding.Mesh) -> jax.stages.Traced:
        """That step before it is made for any platform, under the mesh's abstract one."""
        abstract, parts = self.abstract(mesh), self.microbatches
        placed = batch_sharding(mesh, leading=1)

        def divided(leaf: Any) -> jax.ShapeDtypeStruct:
            shape = (parts, leaf.shape[0] // parts, *leaf.shape[1:])
            return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=placed)

        batch = jax.tree.map(divided, self.abstract_rows())
        rate = jax.ShapeDtypeStruct((), jnp.float32, sharding=replicated(mesh))
        return self.step(mesh, abstract).trace(abstract, batch, rate)


def steps_of(config: Any, rows: int, batch: int) -> int:
    """How many steps a run has: `config.steps`, or else as many as its `epochs` of `rows`, `batch`
    in a step.

    Epochs that are not its class's own, beside other steps, are said to be nothing: a saved
    config.gin has the steps of its run.
    """
    steps, epochs = config.steps, config.epochs
    counted = max(1, round(epochs * rows / batch))
    if steps is None:
        return counted
    if steps != counted and epochs != type(config).epochs and jax.process_index() == 0:
        print(
            f"steps={steps} is set, and epochs={epochs:g}, which are {counted} steps, is left out; "
            "--set steps=None goes by epochs"
        )
    return steps


def run_tokenizer(
    workdir: Path, config: TokenizerConfig, texts: Callable[[], Iterable[str]], vocab: int
) -> Tokenizer:
    """The run's own tokenizer, or at its first start the configured one, perhaps trained now.

    Raises:
      ConfigError: it has more tokens than the model's `vocab`.
    """
    if steps_in(workdir / "checkpoints"):
        tokenizer = load(workdir / "tokenizer")
    else:
        tokenizer = build(config, texts)
    if tokenizer.vocab_size > vocab:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model {vocab}; "
            f"--set model.vocab={tokenizer.vocab_size}"
        )
    return tokenizer
