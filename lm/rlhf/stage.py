"""The stages of alignment that learn from rows people wrote or ranked: one loop for all of them.

A stage begins with another run's model, `init`, and is otherwise a supervised run like any other:
`Sft`, `RewardTraining` and `Dpo` say what their rows are, what is descended and what is measured.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
import optax

from lm.core import tree
from lm.core.config import require, require_at_least_zero, require_positive
from lm.core.mesh import local_rows, make_mesh
from lm.data.prompts import RowsConfig
from lm.data.tokens import TextConfig
from lm.evals.tasks import of_batches
from lm.models.adapters import BASE, adapted, learned_alone, with_base
from lm.models.gpt import GptConfig
from lm.rlhf.source import Source, knowing, read_source, started
from lm.text.interface import Form
from lm.text.tokenizer import Tokenizer
from lm.train.beginning import require_same
from lm.train.manifest import steps_in
from lm.train.process import Process
from lm.train.saved import require_init
from lm.train.session import Session
from lm.train.state import create, initialiser, shardings
from lm.train.supervised import Supervised, steps_of


class Material(Protocol):
    """What a stage learns from and is measured on."""

    count: int  # rows an epoch
    width: int  # tokens of a row, over all its answers
    digest: str  # identity of the files

    def __str__(self) -> str:
        """What was kept, and what was left out."""

    def rows(self, first: int, count: int) -> Any:
        """So many rows of the run, on the host."""

    def origins(self, first: int, count: int) -> list[dict[str, Any]]:
        """Where each of those rows is from."""


class Evaluation(Protocol):
    """What is measured on the way and at the end."""

    def __call__(self, step: int, params: Any) -> dict[str, float]:
        """Figures by name, after so many steps."""

    def summary(self) -> dict[str, Any]:
        """What else belongs into the summary of the run, once it has ended."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage(Supervised):
    """A model of another run, taught by rows."""

    data: RowsConfig = RowsConfig()
    init: str | None = None  # the run to start from
    init_step: int | None = None  # its checkpoint; the newest where None
    model: GptConfig | None = None  # that of `init`, once the run has begun
    text: TextConfig | None = None  # what it was pre-trained on, likewise
    length: int = 256  # tokens of a row at most
    prompt_length: int | None = None  # of its prompt: rows of a longer one are left out
    epochs: float = 1.0
    steps: int | None = None  # instead of epochs
    lora_rank: int = 0  # of adapters, which then are all that is learned; 0: everything is

    completes = False  # whether `completed` does something

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "length", "prompt_length", "epochs", "steps")
        require_at_least_zero(self, "lora_rank")

    # ------------------------------------------------------------------- run

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Trains, or goes on training, in `workdir`."""
        process = process or Process()
        mesh = make_mesh(self.mesh)
        self.check_mesh(mesh)
        before = started(workdir, type(self))
        source = None
        if self.needs_source(before):
            source = self.source(mesh)
        if before is not None:
            earlier, tokenizer = before
        else:
            assert source is not None
            earlier, tokenizer = source, source.tokenizer
        form = self.form(tokenizer, source)
        config = self.resolved(earlier)
        material = config.material(form, source, mesh)
        steps = steps_of(self, material.count, self.batch)
        if before is not None:
            self.check_end(workdir, before[0].steps, steps, process)
        config = replace(config, steps=steps)
        tokens = self.batch * material.width
        with config.begun(
            workdir, process, mesh,
            steps=steps, facts={"data": material.digest} | config.facts(source),
            tokenizer=tokenizer,
            first=lambda abstract: config.prepared(config.create(abstract, source), material, mesh),
            tokens_before=lambda step: step * tokens,
        ) as (session, state, step_fn):  # fmt: skip
            session.journal.say(
                f"{tree.count(state.params):,} parameters; {material}; run in {workdir}"
            )
            measured = config.evaluation(material, form, mesh, session)

            def evaluate(step: int, params: Any) -> dict[str, float]:
                figures = measured(step, params)
                session.tell(step, figures)
                return figures

            if session.unevaluated:
                evaluate(session.first, state.params)

            def complete(state: Any) -> Any:
                return state.replace(params=config.completed(state.params, material, mesh))

            mine = local_rows(mesh, self.batch)

            def rows_before(step: int) -> int:
                return session.counted(step) // material.width

            def origins(step: int) -> list[dict[str, Any]]:
                return material.origins(rows_before(step), self.batch)

            def batch_of(step: int) -> Any:
                rows = material.rows(rows_before(step), self.batch)
                host = jax.tree.map(lambda leaf: leaf[mine], rows)
                return config.split(host, mesh, mine, self.batch)

            for step, batch, rate in config.batches(session, batch_of, origins):
                state, metrics = step_fn(state, batch, rate)
                state = session.after(step, state, metrics, evaluate, complete)
            figures = evaluate(steps, state.params)
            session.settle()  # the summary may choose among the checkpoints
            made = {"rows": str(material), "parameters": tree.count(state.params)}
            session.finish(made | figures | measured.summary())

    # ----------------------------------------------------------------- parts

    @property
    def decoder(self) -> GptConfig:
        return require_init(self.model)

    def flops_per_token(self) -> float:
        return self.decoder.flops_per_token(self.length, rank=self.lora_rank)

    def needs_source(self, before: Any) -> bool:
        """Whether the run to start from is read: once it has begun, a run stands on its own."""
        return before is None

    def facts(self, source: Source | None) -> dict[str, Any]:
        """Digests of what else is read at every start, and must be the same at each."""
        del source
        return {}

    def source(self, mesh: jax.sharding.Mesh) -> Source:
        """The run to start from."""
        return knowing(read_source(self.init, mesh, self.init_step), self.data)

    def form(self, tokenizer: Tokenizer, source: Source | None) -> Form:
        """How prompts and answers become ids."""
        del source
        return self.data.form(tokenizer)

    def resolved(self, source: Any) -> Any:
        """With model and text of `source`: a Source, or this run's own earlier config.

        Raises:
          ConfigError: a model that computes another thing, or rows longer than its context.
        """
        if self.model:
            way_out = "--set model=None takes that one (in a pipeline sft.model=None)"
            require_same(self.model, source.model, str(self.init), way_out)
        model = self.model or source.model
        require(
            self.length <= model.length,
            f"length {self.length} is longer than model.length {model.length}: set length",
        )
        return replace(self, model=model, text=self.text or source.text)

    def create(self, abstract: Any, source: Source | None) -> Any:
        """The first state: random, and over it what comes from the other run."""
        assert source is not None
        state: Any = create(self.initial(), abstract, self.seed)
        fresh = state.params[BASE] if self.lora_rank else state.params
        adopted = with_base(state.params, self.adopted(fresh, source))
        return state.replace(params=jax.device_put(adopted, shardings(abstract.params)))

    def initial(self) -> Any:
        def first(key: jax.Array) -> Any:
            return adapted(self.first_params(key), self.lora_rank, key)

        return initialiser(first, self.direction(), self.guard)

    def direction(self) -> optax.GradientTransformation:
        return learned_alone(super().direction(), self.lora_rank)

    def material(self, form: Form, source: Source | None, mesh: Any) -> Material:
        raise NotImplementedError

    def adopted(self, fresh: Any, source: Source) -> Any:
        """Fresh parameters with those of the other run over them."""
        raise NotImplementedError

    def prepared(self, state: Any, material: Any, mesh: jax.sharding.Mesh) -> Any:
        """What is done to the first state before the first step."""
        del material, mesh
        return state

    def completed(self, params: Any, material: Any, mesh: jax.sharding.Mesh) -> Any:
        """What is done to the parameters after the last step."""
        del material, mesh
        return params

    def check_end(self, workdir: Path, planned: int, steps: int, process: Process) -> None:
        """Raises ConfigError where no step is left of a run that had more steps before it: the
        parameters of its checkpoint were not completed, and would end the run as they are."""
        first = process.restore_step
        if first is None:
            first = max(steps_in(workdir / "checkpoints"))
        require(
            not self.completes or not first == steps < planned,
            f"{workdir} is at step {first} of {planned}, and only a last step completes what is "
            f"learned: set steps above {first}, or go back further by --restore_step",
        )

    def evaluation(
        self, material: Any, form: Form, mesh: jax.sharding.Mesh, session: Session
    ) -> Evaluation:
        raise NotImplementedError


def summed(
    sums: Callable[[Any, Any], Any], params: Any, whole: Any, mesh: jax.sharding.Mesh, rows: int
) -> Any:
    """`sums(params, batch)`, a tree of scalars, added up over all rows, `rows` at a time."""
    return added(of_batches(sums, params, whole, mesh, rows))


def added(parts: Sequence[Any]) -> Any:
    """The sums of trees of scalars."""
    return jax.tree.map(lambda *leaves: float(np.sum(leaves, dtype=np.float64)), *parts)
