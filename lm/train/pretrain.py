"""Language-model pre-training: the experiment behind GPT-1, GPT-2 and GPT-3."""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from lm.core import tree
from lm.core.config import require, require_positive
from lm.core.errors import DataError
from lm.core.mesh import SEQUENCE, TENSOR, batch_ways, check_divides, local_rows, make_mesh
from lm.data.batches import BatchRamp, BatchSizes, TokenBatch
from lm.data.mixture import Mixture, told
from lm.data.token_file import Verification
from lm.data.tokens import TextConfig, prepare
from lm.decode.generate import check_prompts
from lm.evals.perplexity import HeldOut
from lm.evals.published import one
from lm.losses.language import masked_sum, token_losses
from lm.models.gpt import GptConfig
from lm.models.layers import stream_norms
from lm.models.lstm import LstmConfig
from lm.nn.dropout import DropoutKeys
from lm.text.tokenizer import Tokenizer, TokenizerConfig
from lm.train.beginning import read_beginning, with_params
from lm.train.manifest import steps_in
from lm.train.pretrain_evaluation import Evaluation
from lm.train.process import Process
from lm.train.supervised import Supervised, run_tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    """A published figure that a run is compared with."""

    name: str  # of the figure in the run's summary
    value: float
    source: str

    @classmethod
    def to(cls, name: str, family: str, task: str, metric: str, system: str) -> "Reference":
        """The one of lm/evals/published.json, beside the figure `name` of a run."""
        row = one(family, task, metric, system)
        return cls(name=name, value=row["value"], source=row["source"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrain(Supervised):
    """Learns to predict the next token of a text."""

    model: GptConfig | LstmConfig
    steps: int
    tokenizer: TokenizerConfig = TokenizerConfig()
    data: TextConfig = TextConfig()
    ramp: BatchRamp | None = None
    evaluate_batches: int = 20  # of an estimate during the run; at the end every token counts once
    vocabulary_parts: int = 1  # that the loss takes one after another: less memory, more work
    init: str | None = None  # the run whose parameters and tokenizer this one begins with
    trigram: bool = False  # measure an interpolated byte trigram of the training text beside it
    reference: Reference | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "steps", "evaluate_batches", "vocabulary_parts")
        require(
            isinstance(self.model, GptConfig) or self.loop.sample_tokens == 0,
            "only GPT models write samples: set loop.sample_tokens=0",
        )
        require(
            isinstance(self.model, GptConfig) or self.vocabulary_parts == 1,
            f"vocabulary_parts={self.vocabulary_parts} is of GPT models alone: set it to 1",
        )

    # ------------------------------------------------------------------- run

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Trains, or goes on training, in `workdir`."""
        mesh = make_mesh(self.mesh)
        self.check_mesh(mesh)
        sizes, ways = self.sizes(), batch_ways(mesh) * self.microbatches
        first = None
        if self.init is None or steps_in(workdir / "checkpoints"):
            tokenizer = run_tokenizer(workdir, self.tokenizer, self.texts, self.model.vocab)
        else:
            params, tokenizer = read_beginning(self.init, self.model, Pretrain, mesh)
            first = partial(with_params, self, params=params)
        self.check_samples(tokenizer)
        sources, valid = prepare(self.data, tokenizer)
        text = Mixture(sources, self.model.length, self.seed)
        HeldOut(valid, self.model.length, self.batch, mesh).windows(self.seed)  # is long enough
        facts: dict[str, Any] = {"data": text.digest, "data_valid": valid.digest}
        if self.ramp:
            facts["data_ramp"] = [list(stage) for stage in sizes.stages]

        files = [*(source.file for source in sources), valid]
        with (
            self.begun(
                workdir,
                process,
                mesh,
                steps=self.steps,
                tokenizer=tokenizer,
                facts=facts,
                first=first,
                tokens_before=sizes.tokens_before,
            ) as (session, state, step_fn),
            Verification(files, (jax.process_index(), jax.process_count())) as verification,
        ):
            evaluate = Evaluation(self, tokenizer, valid, mesh, session)

            def rows_before(step: int) -> int:
                return session.counted(step) // self.model.length

            mixture = text.table(rows_before(self.steps))
            session.journal.say(
                f"{tree.count(state.params):,} parameters on {mesh.size} x "
                f"{jax.devices()[0].device_kind}; {text.tokens:,} tokens to train on, "
                f"{len(valid.tokens):,} held out; run in {workdir}"
            )
            if mixture:
                session.journal.say(f"what the whole run reads:\n{told(mixture)}")
            if padded := [size for _, _, size in sizes.stages if size % ways]:
                session.journal.say(
                    f"batches of {', '.join(map(str, padded))} rows take the time of the next "
                    f"multiple of {ways} (data axes x microbatches)"
                )
            if session.unevaluated:
                evaluate(session.first, state.params)

            def origins(step: int) -> list[dict[str, Any]]:
                return text.origins(rows_before(step), sizes.rows(step))

            def batch_of(step: int) -> Any:
                verification.check()
                size = sizes.rows(step)
                filled = size + -size % ways  # by rows that do not count
                rows = local_rows(mesh, filled)
                host = text(rows_before(step) + rows.start, rows.stop - rows.start)
                if filled > size:
                    host = host.counting(size - rows.start)
                return self.split(host, mesh, rows, filled)

            for step, batch, rate in self.batches(session, batch_of, origins):
                state, metrics = step_fn(state, batch, rate)
                state = session.after(step, state, metrics, evaluate)
            evaluate.finish(state.params, mixture, sources)

    # ----------------------------------------------------------------- parts

    def total_tokens(self) -> int:
        """Of all steps, which a ramp of the batch makes unequal."""
        return self.sizes().tokens_before(self.steps)

    def sizes(self) -> BatchSizes:
        return BatchSizes(self.batch, self.model.length, self.ramp)

    def check_mesh(self, mesh: jax.sharding.Mesh) -> None:
        super().check_mesh(mesh)
        if isinstance(self.model, GptConfig):
            hidden = self.model.hidden_width
            check_divides(mesh, TENSOR, heads=self.model.heads, hidden=hidden)
        check_divides(mesh, SEQUENCE, length=self.model.length)

    def check_samples(self, tokenizer: Tokenizer) -> None:
        """Raises DataError where a prompt of the samples cannot be continued."""
        if self.loop.sample_tokens:
            prompts = [tokenizer.encode(prompt) for prompt in self.loop.sample_prompts]
            try:
                check_prompts(prompts, self.model.length)
            except DataError as error:
                raise DataError(f"loop.sample_prompts: {error}") from None

    def stream_norms(self, params: Any, rows: TokenBatch) -> jax.Array | None:
        if isinstance(self.model, LstmConfig):
            return None
        return stream_norms(self.model, params, jnp.asarray(rows.tokens))

    def texts(self) -> Iterator[str]:
        return (document.text for document in self.data.documents("train"))

    def first_params(self, key: jax.Array) -> Any:
        return self.model.module().init(key, jnp.zeros((1, 1), jnp.int32))["params"]

    def objective(self) -> "NextToken":
        return NextToken(self.model, parts=self.vocabulary_parts)

    def flops_per_token(self) -> float:
        return self.model.flops_per_token(self.model.length)

    def abstract_rows(self) -> TokenBatch:
        return TokenBatch.abstract(self.batch, self.model.length)


@dataclasses.dataclass(frozen=True)
class NextToken:
    """Cross-entropy of each real target, averaged over all of them."""

    model: GptConfig | LstmConfig
    weights: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"tokens": 1.0})
    parts: int = 1  # of the vocabulary, one after another

    def counts(self, batch: TokenBatch) -> dict[str, jax.Array]:
        return {"tokens": jnp.sum(jnp.asarray(batch.mask), dtype=jnp.float32)}

    def sums(
        self, params: Any, batch: TokenBatch, keys: DropoutKeys | None = None
    ) -> dict[str, jax.Array]:
        return {"tokens": masked_sum(self.losses(params, batch, keys), batch.mask)}

    def losses(self, params: Any, batch: TokenBatch, keys: DropoutKeys | None) -> jax.Array:
        """Of each target. [B T]"""
        module = self.model.module()
        tokens, targets = jnp.asarray(batch.tokens), jnp.asarray(batch.targets)
        if isinstance(self.model, GptConfig):
            losses: Any = module.apply(
                {"params": params}, tokens, targets, keys, self.parts, method="losses"
            )
            return losses
        logits: Any = module.apply({"params": params}, tokens, keys=keys)
        return token_losses(logits[0], targets)

    def total(self, params: Any, batch: TokenBatch) -> tuple[jax.Array, jax.Array]:
        """Sum of the losses without dropout, and their number."""
        return self.sums(params, batch)["tokens"], self.counts(batch)["tokens"]
