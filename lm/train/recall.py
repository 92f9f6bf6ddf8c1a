"""Learning associative recall: what a pattern of attention can carry from how far."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm.core import tree
from lm.core.config import require, require_positive
from lm.core.mesh import local_rows, make_mesh, place
from lm.data.batches import TokenBatch
from lm.data.recall import HELD_OUT, RecallConfig, RecallRows
from lm.losses.language import masked_sum, token_losses
from lm.models.gpt import GptConfig, forward
from lm.models.layers import stream_norms
from lm.train.pretrain import NextToken
from lm.train.process import Process
from lm.train.supervised import Supervised


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recall(Supervised):
    """Learns to answer questions about facts that stand earlier in the row."""

    model: GptConfig
    steps: int
    data: RecallConfig = RecallConfig()
    evaluate_batches: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "steps", "evaluate_batches")
        require(
            self.model.vocab == self.data.vocab,
            f"model.vocab is {self.model.vocab}, the task has {self.data.vocab} tokens; "
            f"--set model.vocab={self.data.vocab}",
        )

    # ------------------------------------------------------------------- run

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Trains, or goes on training, in `workdir`."""
        mesh = make_mesh(self.mesh)
        self.check_mesh(mesh)
        made = RecallRows(self.data, self.model.length, self.seed)
        per_step = self.batch * self.model.length
        with self.begun(
            workdir, process, mesh, steps=self.steps, facts={},
            tokens_before=lambda step: step * per_step,
        ) as (session, state, step_fn):  # fmt: skip
            session.journal.say(
                f"{tree.count(state.params):,} parameters on {mesh.size} x "
                f"{jax.devices()[0].device_kind}; run in {workdir}"
            )
            rows = local_rows(mesh, self.batch)

            def evaluate(step: int, params: Any) -> dict[str, float]:
                figures = self.held_out(params, mesh)
                session.tell(
                    step, figures,
                    f"held out: {figures['valid_loss']:.4f} nats a question, "
                    f"{figures['valid_accuracy']:.1%} right",
                )  # fmt: skip
                return figures

            if session.first and session.unevaluated:
                evaluate(session.first, state.params)

            def origins(step: int) -> list[dict[str, Any]]:
                first = session.counted(step) // self.model.length
                return [{"row": first + row} for row in range(self.batch)]

            def batch_of(step: int) -> Any:
                first = session.counted(step) // self.model.length
                host = made(first + rows.start, rows.stop - rows.start)
                return self.split(host, mesh, rows, self.batch)

            for step, batch, rate in self.batches(session, batch_of, origins):
                state, metrics = step_fn(state, batch, rate)
                state = session.after(step, state, metrics, evaluate)
            figures = evaluate(self.steps, state.params)
            session.finish({"parameters": tree.count(state.params), **figures})

    def held_out(self, params: Any, mesh: jax.sharding.Mesh) -> dict[str, float]:
        """Loss and share of right answers over questions that no run has seen."""
        made = RecallRows(self.data, self.model.length, HELD_OUT)
        rows, totals = local_rows(mesh, self.batch), np.zeros(3)
        for number in range(self.evaluate_batches):
            host = made(number * self.batch + rows.start, rows.stop - rows.start)
            batch = place(host, mesh, rows, self.batch)
            totals += np.array(jax.device_get(answered(self.model, params, batch)))
        loss, right, count = totals.tolist()
        return {"valid_loss": loss / count, "valid_accuracy": right / count}

    # ----------------------------------------------------------------- parts

    def first_params(self, key: jax.Array) -> Any:
        return self.model.module().init(key, jnp.zeros((1, 1), jnp.int32))["params"]

    def stream_norms(self, params: Any, rows: TokenBatch) -> jax.Array:
        return stream_norms(self.model, params, jnp.asarray(rows.tokens))

    def objective(self) -> NextToken:
        return NextToken(self.model)

    def flops_per_token(self) -> float:
        return self.model.flops_per_token(self.model.length)

    def abstract_rows(self) -> TokenBatch:
        return TokenBatch.abstract(self.batch, self.model.length)


@jax.jit(static_argnums=0)
def answered(
    model: GptConfig, params: Any, batch: TokenBatch
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Over the questions of a batch: sum of losses, number of right answers, number of all."""
    logits, _ = forward(model, params, jnp.asarray(batch.tokens))
    right = jnp.argmax(logits, axis=-1) == batch.targets
    mask = jnp.asarray(batch.mask)
    return (
        masked_sum(token_losses(logits, batch.targets), mask),
        jnp.sum(right & mask),
        jnp.sum(mask),
    )
