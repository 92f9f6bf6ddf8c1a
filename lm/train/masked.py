"""BERT's pre-training (Devlin et al. 2019, section 3.1): masked words and next sentences."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm.core import tree
from lm.core.config import require, require_positive
from lm.core.errors import DataError
from lm.core.mesh import local_rows, make_mesh
from lm.data.instances import Instances
from lm.data.masking import MaskedBatch
from lm.data.pairs import InstancesConfig
from lm.data.sentences import SentencesConfig, prepare_sentences
from lm.data.sources import tell_same
from lm.data.token_file import Verification
from lm.data.tokens import TextConfig
from lm.models.bert import BertConfig, init
from lm.models.layers import stream_norms
from lm.text.tokenizer import Tokenizer, TokenizerConfig
from lm.train.masked_evaluation import Evaluation
from lm.train.masked_objective import MaskedWords
from lm.train.pretrain import Reference
from lm.train.process import Process
from lm.train.supervised import Supervised, run_tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedPretrain(Supervised):
    """Learns to fill in masked words, and to tell a next sentence from a random one.

    Without `next_sentences` the second loss is left out and the rows are as they were, pairs and
    segments (table 5's "No NSP"); without `instances.pairs` rows are of one segment as well.
    """

    model: BertConfig
    steps: int
    stages: tuple[tuple[int, float], ...] = ((128, 0.9), (512, 0.1))  # length, share of the steps
    tokenizer: TokenizerConfig = TokenizerConfig(kind="wordpiece", vocab=30_522)
    data: TextConfig = TextConfig()
    sentences: SentencesConfig = SentencesConfig()
    instances: InstancesConfig = InstancesConfig()
    next_sentences: bool = True
    evaluate_batches: int = 20
    reference: Reference | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "steps", "evaluate_batches")
        shares = [share for _, share in self.stages]
        require(
            bool(shares) and min(shares) > 0 and abs(sum(shares) - 1) < 1e-6,
            f"stages {self.stages} must be (length, share) with shares that add up to 1",
        )
        require(not self.data.mixture, "BERT's instances are built of one text: set data.train")
        longest = max(length for length, _ in self.stages)
        require(
            longest <= self.model.length,
            f"stages {self.stages}: length {longest} is longer than model.length "
            f"{self.model.length}: set stages",
        )
        require(
            self.model.causal == (self.instances.objective == "next"),
            f"model.causal={self.model.causal} with instances.objective="
            f"{self.instances.objective!r}: a left-to-right model predicts the next word",
        )

    # ------------------------------------------------------------------- run

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Trains, or goes on training, in `workdir`."""
        mesh = make_mesh(self.mesh)
        self.check_mesh(mesh)
        tokenizer = run_tokenizer(workdir, self.tokenizer, self.texts, self.model.vocab)
        text = prepare_sentences(self.data, self.sentences, tokenizer, "train")
        held_out = prepare_sentences(self.data, self.sentences, tokenizer, "valid")
        tell_same(text.digest, held_out.digest)
        self.check_documents(text.documents, held_out.documents)
        rows_of = [self.rows(text, length, tokenizer) for length, _ in self.stages]
        last_length = self.stages[-1][0]
        valid = self.rows(held_out, last_length, tokenizer)
        facts: dict[str, Any] = {
            "data": [rows.digest for rows in rows_of],
            "data_valid": valid.digest,
        }
        if len(self.stages) > 1:  # which other `steps` begin elsewhere, and so read other rows
            starts = zip(self.bounds(), self.stages, strict=False)
            facts["data_stages"] = [[first, length] for first, (length, _) in starts]
        share = jax.process_index(), jax.process_count()
        with (
            self.begun(
                workdir, process, mesh, steps=self.steps, tokenizer=tokenizer, facts=facts,
                tokens_before=self.tokens_before,
                flops_per_token=lambda step: self.flops_at(self.stages[self.stage(step)[0]][0]),
            ) as (session, state, step_fn),
            Verification([text.file, held_out.file], share) as verification,
        ):  # fmt: skip
            evaluate = Evaluation(self, tokenizer, valid, mesh, session)
            session.journal.say(
                f"{tree.count(state.params):,} parameters on {mesh.size} x "
                f"{jax.devices()[0].device_kind}; {len(text.file.tokens):,} tokens in "
                f"{text.sentences:,} sentences to train on, {len(held_out.file.tokens):,} held "
                f"out; run in {workdir}"
            )
            if session.unevaluated:
                evaluate(session.first, state.params)
            rows = local_rows(mesh, self.batch)

            def place_of(step: int) -> tuple[int, int]:
                number, first = self.stage(step)
                # what is read with another batch is known of the first stage alone
                before = session.counted(first) if number else 0
                return number, (session.counted(step) - before) // self.stages[number][0]

            def origins(step: int) -> list[dict[str, Any]]:
                number, before = place_of(step)
                return rows_of[number].origins(before, self.batch)

            def batch_of(step: int) -> Any:
                verification.check()
                number, before = place_of(step)
                host = rows_of[number](before + rows.start, rows.stop - rows.start)
                return self.split(host, mesh, rows, self.batch)

            for step, batch, rate in self.batches(session, batch_of, origins):
                state, metrics = step_fn(state, batch, rate)
                state = session.after(step, state, metrics, evaluate)
            evaluate.finish(state.params)

    # ----------------------------------------------------------------- parts

    def check_documents(self, learned: int, held_out: int) -> None:
        """Raises DataError where of many documents one is held out, which makes no pair."""
        if not self.instances.pairs or held_out > 1 or learned < 2:
            return  # a text of one document is told of where its pairs are made
        if self.data.valid:
            way = f"data.valid={self.data.valid} is one document: name more files there"
        else:
            way = (
                f"of {learned + held_out} documents data.valid_fraction={self.data.valid_fraction} "
                "holds out one: raise it, or set data.valid"
            )
        raise DataError(f"a random next segment needs another document, and {way}")

    def bounds(self) -> list[int]:
        """The first step of each stage, and the number of steps."""
        shares = np.cumsum([share for _, share in self.stages])
        return [0, *(round(share * self.steps) for share in shares[:-1]), self.steps]

    def stage(self, step: int) -> tuple[int, int]:
        """The number of a step's stage, and the first step of that stage."""
        bounds = self.bounds()
        number = int(np.searchsorted(bounds, step, side="right")) - 1
        return number, bounds[number]

    def total_tokens(self) -> int:
        """Of all steps, which stages of several lengths make unequal."""
        return self.tokens_before(self.steps)

    def tokens_before(self, step: int) -> int:
        """Tokens, padding included, of all the steps before this one."""
        bounds = self.bounds()
        spans = [min(step, end) - start for start, end in zip(bounds, bounds[1:], strict=False)]
        lengths = [length for length, _ in self.stages]
        return self.batch * sum(max(0, n) * t for n, t in zip(spans, lengths, strict=True))

    def flops_per_token(self) -> float:
        """Over the whole run: of each stage by its share of the tokens."""
        tokens = [length * share for length, share in self.stages]
        flops = [self.flops_at(length) for length, _ in self.stages]
        return float(np.average(flops, weights=tokens))

    def flops_at(self, length: int) -> float:
        """Of a token of a row of `length`, whose places for words alone are scored."""
        return self.model.flops_per_token(length, self.instances.predictions(length) / length)

    def rows(self, text: Any, length: int, tokenizer: Tokenizer) -> Instances:
        return Instances(text, length, self.seed, self.instances, tokenizer)

    def texts(self) -> Iterable[str]:
        return (document.text for document in self.data.documents("train"))

    def first_params(self, key: jax.Array) -> Any:
        return init(self.model, key)

    def stream_norms(self, params: Any, rows: MaskedBatch) -> jax.Array:
        tokens, segments, valid = map(jnp.asarray, (rows.tokens, rows.segments, rows.valid))
        return stream_norms(self.model, params, tokens, segments, valid)

    def objective(self) -> MaskedWords:
        return MaskedWords(self.model, self.instances.pairs and self.next_sentences)

    def abstract_rows(self) -> MaskedBatch:
        struct, length = jax.ShapeDtypeStruct, max(length for length, _ in self.stages)
        made = self.instances.predictions(length)
        shapes = {
            "tokens": ((length,), jnp.int32), "segments": ((length,), jnp.int32),
            "valid": ((length,), jnp.bool_), "positions": ((made,), jnp.int32),
            "targets": ((made,), jnp.int32), "mask": ((made,), jnp.bool_), "next": ((), jnp.int32),
            "next_mask": ((), jnp.bool_), "rows": ((), jnp.uint32),
        }  # fmt: skip
        fields: dict[str, Any] = {
            name: struct((self.batch, *shape), dtype) for name, (shape, dtype) in shapes.items()
        }
        return MaskedBatch(**fields)
