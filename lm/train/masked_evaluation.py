"""What BERT's pre-training measures on held-out text, on the way and at the end."""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lm.core import tree
from lm.core.mesh import fetch, place_whole
from lm.data.instances import Instances
from lm.data.masking import MaskedBatch
from lm.losses.language import masked_sum, mean, token_losses
from lm.metrics.perplexity import perplexity
from lm.report.record import WHOLE
from lm.text.tokenizer import Tokenizer
from lm.train.masked_objective import MaskedWords
from lm.train.session import Session

if TYPE_CHECKING:
    from lm.train.masked import MaskedPretrain


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
        self, config: "MaskedPretrain", tokenizer: Tokenizer, valid: Instances,
        mesh: jax.sharding.Mesh, session: Session,
    ):  # fmt: skip
        self.config, self.tokenizer, self.valid = config, tokenizer, valid
        self.mesh, self.session = mesh, session
        self.rows = config.batch // config.microbatches
        self.measure = session.asking(jax.jit(partial(measure, config.objective())))
        self.guess = jax.jit(partial(guess, config.objective(), tokenizer.vocab_size))

    def estimates(self) -> Iterator[MaskedBatch]:
        for number in range(self.config.evaluate_batches):
            yield self.valid(number * self.rows, self.rows)

    def figures(self, params: Any, batches: Iterator[MaskedBatch]) -> dict[str, float]:
        """Losses in nats, accuracies, and the entropy of the same words as a unigram has them."""
        seen = np.zeros(self.config.model.vocab, np.int64)
        total: Any = None
        for batch in batches:
            sums = self.measure(params, place_whole(batch, self.mesh))
            total = sums if total is None else jax.tree.map(jnp.add, total, sums)
            seen += np.bincount(batch.targets[batch.mask], minlength=len(seen))
        got = jax.device_get(total)
        shares = seen[seen > 0] / max(1, seen.sum())
        figures = {
            "valid_loss": float(mean(got.loss, got.words)),
            "valid_accuracy": float(mean(got.right, got.words)),
            "unigram_entropy": float(-(shares * np.log(shares)).sum()),
        }
        if self.config.objective().pairs:
            figures["next_loss"] = float(mean(got.next_loss, got.pairs))
            figures["next_accuracy"] = float(mean(got.next_right, got.pairs))
            figures["next_random"] = float(mean(got.random, got.pairs))
        return figures

    def __call__(self, step: int, params: Any) -> None:
        self.tell(step, self.figures(params, self.estimates()), params)

    def tell(self, step: int, figures: dict[str, float], params: Any) -> None:
        self.session.tell(step, figures, f"held out: {told(figures)}")
        self.session.journal.sample(step, self.guesses(params))

    def guesses(self, params: Any, rows: int = 4) -> str:
        """Some held-out rows, their masked words as [guess|truth]."""
        batch = self.valid(0, self.rows)
        guessed = fetch(self.guess(params, batch))
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

    def finish(self, params: Any) -> None:
        """The figures over every held-out row, and the summary of the run."""
        config = self.config
        figures = self.figures(params, self.valid.in_order(self.rows))
        whole = {WHOLE + name: value for name, value in figures.items()}
        self.tell(config.steps, self.figures(params, self.estimates()) | whole, params)
        self.session.journal.say(f"all that is held out: {told(figures)}")
        summary: dict[str, Any] = {
            "parameters": tree.count(params),
            "valid_perplexity": perplexity(figures["valid_loss"]),
            **figures,
        }
        if config.reference:
            summary["reference"] = [dataclasses.asdict(config.reference)]
        self.session.finish(summary)


def told(figures: Mapping[str, float]) -> str:
    text = (
        f"{figures['valid_loss']:.4f} nats a word (unigram {figures['unigram_entropy']:.4f}), "
        f"{figures['valid_accuracy']:.1%} right"
    )
    if "next_accuracy" in figures:
        text += (
            f"; next sentence {figures['next_accuracy']:.1%} right "
            f"({figures['next_random']:.1%} are random)"
        )
    return text


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
