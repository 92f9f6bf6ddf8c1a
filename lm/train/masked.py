"""BERT's pre-training (Devlin et al. 2019, section 3.1): masked words and next sentences."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lm.core import tree
from lm.core.config import require, require_positive
from lm.core.mesh import batch_ways, local_rows, make_mesh, place
from lm.data.batches import check_divisible
from lm.data.instances import Instances
from lm.data.masking import MaskedBatch
from lm.data.pairs import InstancesConfig
from lm.data.sentences import SentencesConfig, prepare_sentences
from lm.data.tokens import TextConfig
from lm.losses.language import masked_sum, mean, token_losses
from lm.models.bert import BertConfig, init
from lm.nn.dropout import DropoutKeys
from lm.report.page import write_report
from lm.text.tokenizer import Tokenizer, TokenizerConfig
from lm.train.optimizer import Progress
from lm.train.pretrain import Reference
from lm.train.process import Process
from lm.train.session import Session
from lm.train.supervised import Supervised, run_tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedPretrain(Supervised):
    """Learns to fill in masked words, and to tell a next sentence from a random one."""

    model: BertConfig
    steps: int
    stages: tuple[tuple[int, float], ...] = ((128, 0.9), (512, 0.1))  # length, share of the steps
    tokenizer: TokenizerConfig = TokenizerConfig(kind="wordpiece", vocab=30_522)
    data: TextConfig = TextConfig()
    sentences: SentencesConfig = SentencesConfig()
    instances: InstancesConfig = InstancesConfig()
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
            f"a stage of length {longest} is longer than model.length {self.model.length}",
        )
        require(
            self.model.causal == (self.instances.objective == "next"),
            f"model.causal={self.model.causal} with instances.objective="
            f"{self.instances.objective!r}: a left-to-right model predicts the next word",
        )

    # ------------------------------------------------------------------- run

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Trains, or goes on training, in `workdir`."""
        process = process or Process()
        mesh = make_mesh(self.mesh)
        check_divisible("batch", self.batch, batch_ways(mesh) * self.microbatches)
        tokenizer = run_tokenizer(workdir, self.tokenizer, self.texts, self.model.vocab)
        text = prepare_sentences(self.data, self.sentences, tokenizer, "train")
        held_out = prepare_sentences(self.data, self.sentences, tokenizer, "valid")
        rows_of = [self.rows(text, length, tokenizer) for length, _ in self.stages]
        last_length = self.stages[-1][0]
        valid = self.rows(held_out, last_length, tokenizer)
        facts = {"data": [rows.digest for rows in rows_of], "data_valid": valid.digest}
        total_tokens = self.tokens_before(self.steps)
        with self.begun(
            workdir, process, mesh, steps=self.steps, tokenizer=tokenizer, facts=facts
        ) as (session, state, step_fn):
            evaluate = Evaluation(self, tokenizer, valid, mesh, session)
            session.journal.say(
                f"{tree.count(state.params):,} parameters on {mesh.size} x "
                f"{jax.devices()[0].device_kind}; {len(text.file.tokens):,} tokens in "
                f"{text.sentences:,} sentences to train on, {len(held_out.file.tokens):,} held "
                f"out; run in {workdir}"
            )
            if session.first == 0:
                evaluate.at(0, 0, state.params)
            rows = local_rows(mesh, self.batch)
            for step in session.steps():
                number, first = self.stage(step)
                before = (step - first) * self.batch
                with session.goodput.spent("data"):
                    host = rows_of[number](before + rows.start, rows.stop - rows.start)
                    batch = self.split(host, mesh, rows, self.batch)
                tokens = self.tokens_before(step + 1)
                rate = self.optim.rate(Progress(step, self.steps, tokens, total_tokens))
                state, metrics = step_fn(state, batch, jnp.float32(rate))
                state = session.after(step, state, metrics, tokens)
                if (step + 1) % self.loop.evaluate_every == 0 and step + 1 < self.steps:
                    evaluate.at(step + 1, tokens, state.params)
            evaluate.finish(total_tokens, state.params)
        if jax.process_index() == 0:
            print(f"report: {write_report(workdir)}")

    # ----------------------------------------------------------------- parts

    def bounds(self) -> list[int]:
        """The first step of each stage, and the number of steps."""
        shares = np.cumsum([share for _, share in self.stages])
        return [0, *(round(share * self.steps) for share in shares[:-1]), self.steps]

    def stage(self, step: int) -> tuple[int, int]:
        """The number of a step's stage, and the first step of that stage."""
        bounds = self.bounds()
        number = int(np.searchsorted(bounds, step, side="right")) - 1
        return number, bounds[number]

    def tokens_before(self, step: int) -> int:
        """Tokens, padding included, of all the steps before this one."""
        bounds = self.bounds()
        spans = [min(step, end) - start for start, end in zip(bounds, bounds[1:], strict=False)]
        lengths = [length for length, _ in self.stages]
        return self.batch * sum(max(0, n) * t for n, t in zip(spans, lengths, strict=True))

    def flops_per_token(self) -> float:
        """Over the whole run: of each stage by its share of the tokens."""
        tokens = [length * share for length, share in self.stages]
        flops = [self.model.flops_per_token(length) for length, _ in self.stages]
        return float(np.average(flops, weights=tokens))

    def rows(self, text: Any, length: int, tokenizer: Tokenizer) -> Instances:
        return Instances(text, length, self.seed, self.instances, tokenizer)

    def texts(self) -> Iterable[str]:
        return (document.text for document in self.data.documents("train"))

    def first_params(self, key: jax.Array) -> Any:
        return init(self.model, key)

    def objective(self) -> "MaskedWords":
        return MaskedWords(self.model, self.instances.pairs)

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


@dataclasses.dataclass(frozen=True)
class MaskedWords:
    """Mean loss of the masked words, and with `pairs` mean loss of the next sentence beside it."""

    model: BertConfig
    pairs: bool

    @property
    def weights(self) -> Mapping[str, float]:
        return {"words": 1.0, "next": 1.0} if self.pairs else {"words": 1.0}

    def counts(self, batch: MaskedBatch) -> dict[str, jax.Array]:
        masks = {"words": batch.mask, "next": batch.next_mask}
        return {n: jnp.sum(jnp.asarray(masks[n]), dtype=jnp.float32) for n in self.weights}

    def sums(
        self, params: Any, batch: MaskedBatch, keys: DropoutKeys | None = None
    ) -> dict[str, jax.Array]:
        words, follows = self.scores(params, batch, keys)
        losses = {
            "words": masked_sum(token_losses(words, batch.targets), batch.mask),
            "next": masked_sum(token_losses(follows, batch.next), batch.next_mask),
        }
        return {name: losses[name] for name in self.weights}

    def scores(
        self, params: Any, batch: MaskedBatch, keys: DropoutKeys | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Scores of the masked words [B P V] and of the next sentence [B 2]."""
        out: Any = self.model.module().apply(
            {"params": params}, batch.tokens, batch.segments, batch.valid, keys, batch.positions
        )
        return out


@flax.struct.dataclass
class Sums:
    """What held-out rows add up to."""

    words: jax.Array  # words that count
    loss: jax.Array  # of the words
    right: jax.Array
    pairs: jax.Array
    next_loss: jax.Array
    next_right: jax.Array
    random: jax.Array  # pairs whose second text is a random one


class Evaluation:
    """What a run measures on held-out text, and what it guesses there."""

    def __init__(
        self, config: MaskedPretrain, tokenizer: Tokenizer, valid: Instances,
        mesh: jax.sharding.Mesh, session: Session,
    ):  # fmt: skip
        self.config, self.tokenizer, self.valid = config, tokenizer, valid
        self.mesh, self.session = mesh, session
        self.rows = config.batch // config.microbatches
        self.measure = jax.jit(partial(measure, config.objective()))
        self.guess = jax.jit(partial(guess, config.objective(), tokenizer.vocab_size))

    def estimates(self) -> Iterator[MaskedBatch]:
        for number in range(self.config.evaluate_batches):
            yield self.valid(number * self.rows, self.rows)

    def figures(self, params: Any, batches: Iterator[MaskedBatch]) -> dict[str, float]:
        """Losses in nats, accuracies, and the entropy of the same words as a unigram has them."""
        rows = local_rows(self.mesh, self.rows)
        seen = np.zeros(self.config.model.vocab, np.int64)
        total: Any = None
        for batch in batches:
            mine = jax.tree.map(lambda leaf: leaf[rows], batch)
            sums = self.measure(params, place(mine, self.mesh, rows, self.rows))
            total = sums if total is None else jax.tree.map(jnp.add, total, sums)
            seen += np.bincount(batch.targets[batch.mask], minlength=len(seen))
        got = jax.device_get(total)
        shares = seen[seen > 0] / max(1, seen.sum())
        figures = {
            "valid_loss": float(mean(got.loss, got.words)),
            "valid_accuracy": float(mean(got.right, got.words)),
            "unigram_entropy": float(-(shares * np.log(shares)).sum()),
        }
        if self.config.instances.pairs:
            figures["next_loss"] = float(mean(got.next_loss, got.pairs))
            figures["next_accuracy"] = float(mean(got.next_right, got.pairs))
            figures["next_random"] = float(mean(got.random, got.pairs))
        return figures

    def at(self, step: int, tokens: int, params: Any) -> None:
        self.tell(step, tokens, self.figures(params, self.estimates()), params)

    def tell(self, step: int, tokens: int, figures: dict[str, float], params: Any) -> None:
        text = (
            f"step {step}  held out: {figures['valid_loss']:.4f} nats a word (unigram "
            f"{figures['unigram_entropy']:.4f}), {figures['valid_accuracy']:.1%} right"
        )
        if "next_accuracy" in figures:
            text += (
                f"; next sentence {figures['next_accuracy']:.1%} right "
                f"({figures['next_random']:.1%} are random)"
            )
        self.session.drain()
        self.session.journal.evaluation({"step": step, "tokens": tokens, **figures}, text)
        self.session.journal.sample(step, self.guesses(params))

    def guesses(self, params: Any, rows: int = 4) -> str:
        """Some held-out rows, their masked words as [guess|truth]."""
        batch = self.valid(0, self.rows)
        guessed = np.asarray(self.guess(params, batch))
        texts = []
        for row in range(min(rows, self.rows)):
            tokens = batch.tokens[row].tolist()
            words = [self.tokenizer.decode([token]) for token in tokens]
            told = zip(batch.positions[row], guessed[row], batch.targets[row], strict=True)
            for (position, guess, truth), counts in zip(told, batch.mask[row], strict=True):
                if counts:
                    a, b = (self.tokenizer.decode([int(token)]) for token in (guess, truth))
                    words[position] = f"[{a}|{b}]"
            texts.append(" ".join(word for word in words if word))
        return "\n\n".join(texts) + "\n"

    def finish(self, tokens: int, params: Any) -> None:
        """The figures over every held-out row, and the summary of the run."""
        config = self.config
        figures = self.figures(params, self.valid.in_order(self.rows))
        self.tell(config.steps, tokens, figures, params)
        summary: dict[str, Any] = {
            "steps": config.steps,
            "tokens": tokens,
            "parameters": tree.count(params),
            "valid_perplexity": math.exp(figures["valid_loss"]),
            **figures,
        }
        if config.reference:
            summary["reference"] = [dataclasses.asdict(config.reference)]
        self.session.finish(summary)


def measure(objective: MaskedWords, params: Any, batch: MaskedBatch) -> Sums:
    words, follows = objective.scores(params, batch)
    right = (jnp.argmax(words, -1) == batch.targets) & batch.mask
    next_right = (jnp.argmax(follows, -1) == batch.next) & batch.next_mask
    return Sums(
        words=jnp.sum(batch.mask),
        loss=masked_sum(token_losses(words, batch.targets), batch.mask),
        right=jnp.sum(right),
        pairs=jnp.sum(batch.next_mask),
        next_loss=masked_sum(token_losses(follows, batch.next), batch.next_mask),
        next_right=jnp.sum(next_right),
        random=jnp.sum((batch.next == 1) & batch.next_mask),
    )


def guess(objective: MaskedWords, vocab: int, params: Any, batch: MaskedBatch) -> jax.Array:
    """The likeliest of the tokenizer's words at each masked position. [B P]

    The model may have more rows than that, which are never a target: see `run_tokenizer`.
    """
    return jnp.argmax(objective.scores(params, batch)[0][..., :vocab], axis=-1)
