"""What pre-training measures on held-out text and writes, on the way and at the end."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax

from lm.core import tree
from lm.core.errors import DataError
from lm.data.batches import TokenBatch
from lm.data.mixture import told
from lm.data.token_file import TokenFile
from lm.data.tokens import Source, TextConfig
from lm.decode.generate import Generator
from lm.decode.sampling import SamplingConfig
from lm.evals.perplexity import HeldOut
from lm.metrics.perplexity import perplexity
from lm.metrics.trigram import WittenBell
from lm.models.gpt import GptConfig
from lm.report.record import WHOLE
from lm.text.tokenizer import Tokenizer
from lm.train.session import Session

if TYPE_CHECKING:
    from lm.train.pretrain import Pretrain


class Evaluation:
    """What a pre-training run measures and writes on the way and at the end."""

    def __init__(
        self, config: "Pretrain", tokenizer: Tokenizer, valid: TokenFile, mesh: jax.sharding.Mesh,
        session: Session,
    ):  # fmt: skip
        self.config, self.tokenizer, self.session = config, tokenizer, session
        rows = config.batch // config.microbatches
        self.held_out = HeldOut(valid, config.model.length, rows, mesh)
        self.loss = session.asking(jax.jit(config.objective().total))

    def __call__(self, step: int, params: Any) -> None:
        """An estimate of the held-out loss, and samples."""
        self.tell(step, self.figures(params, self.estimates()), params)

    def estimates(self) -> Iterator[TokenBatch]:
        return self.held_out.estimate(self.config.evaluate_batches, self.config.seed)

    def figures(self, params: Any, batches: Iterator[TokenBatch]) -> dict[str, float]:
        """Nats a token, and bits a byte."""
        loss = self.held_out.loss(self.loss, params, batches)
        return {"valid_loss": loss, "valid_bits_per_byte": self.held_out.bits_per_byte(loss)}

    def tell(self, step: int, figures: dict[str, float], params: Any) -> None:
        self.session.tell(step, figures, f"held out: {told_loss(figures)}")
        if self.config.loop.sample_tokens:
            written = self.samples(params)
            self.session.journal.sample(step, written)
            if step in (0, self.config.steps):
                self.session.journal.say(f"--- written at step {step} ---\n{written}---")

    def samples(self, params: Any) -> str:
        loop = self.config.loop
        prompts = [self.tokenizer.encode(prompt) for prompt in loop.sample_prompts]
        model = self.config.model
        assert isinstance(model, GptConfig)  # Pretrain asks for no samples of others
        generator = Generator(model, params, self.tokenizer.end, self.tokenizer.vocab_size)
        sampling = SamplingConfig(temperature=0.8, top_k=min(200, model.vocab))
        # prompts of unequal length are read one by one where padding would move blocks
        batches = [[prompt] for prompt in prompts] if model.counts_blocks else [prompts]
        rows = [
            row
            for some in batches
            for row in generator(some, loop.sample_tokens, sampling, seed=self.config.seed)
        ]
        texts = zip(loop.sample_prompts, rows, strict=True)
        return "".join(prompt + self.tokenizer.decode(row) + "\n" for prompt, row in texts)

    def by_source(self, params: Any, sources: Sequence[Source]) -> dict[str, float]:
        """The loss on all that is held out of each text of a mixture, by which its weight is
        judged; nothing of one that has no held-out part of its own."""
        parts = {
            source.name: dataclasses.replace(self.held_out, file=source.held_out)
            for source in sources
            if source.held_out and len(source.held_out.tokens) > 1
        }
        return {name: part.loss(self.loss, params, part.whole()) for name, part in parts.items()}

    def finish(
        self, params: Any, mixture: Sequence[dict[str, Any]], sources: Sequence[Source]
    ) -> None:
        """Both losses, the trigram beside them, what was read, and the summary of the run."""
        config = self.config
        estimate = self.figures(params, self.estimates())
        figures = self.figures(params, self.held_out.whole())
        each = self.by_source(params, sources)
        figures |= {f"valid_loss/{name}": loss for name, loss in each.items()}
        whole = {WHOLE + name: value for name, value in figures.items()}
        self.tell(config.steps, estimate | whole, params)
        summary: dict[str, Any] = {
            "parameters": tree.count(params),
            "valid_loss_estimate": estimate["valid_loss"],
            "valid_perplexity": perplexity(figures["valid_loss"]),
            **figures,
        }
        self.session.journal.say(
            f"all that is held out: {told_loss(figures)}; the curve's last point, of "
            f"{config.evaluate_batches} batches: {estimate['valid_loss']:.4f}"
        )
        if config.trigram and jax.process_index() == 0:
            summary |= beside_trigram(config.data, figures["valid_bits_per_byte"])
        if mixture:
            read = [
                row | ({"valid_loss": each[row["source"]]} if row["source"] in each else {})
                for row in mixture
            ]
            summary["mixture"] = read
            self.session.journal.say(f"what was read:\n{told(read)}")
        if config.reference:
            summary["reference"] = [dataclasses.asdict(config.reference)]
        self.session.finish(summary)


def beside_trigram(data: TextConfig, model: float) -> dict[str, float]:
    """The byte trigram's bits a byte, told beside the model's; nothing where there is none, as of
    tokens that do not give their text back."""
    trigram = WittenBell()
    try:
        trigram.fit(document.text.encode() for document in data.documents("train"))
        bits = trigram.bits_per_byte(d.text.encode() for d in data.documents("valid"))
    except DataError as error:  # at the end of a run, which is whole without it
        print(f"no byte trigram beside it: {error}")
        return {}
    side = "below" if model < bits else "above"
    print(f"byte trigram (Witten-Bell) of the whole training text: {bits:.4f} bits a byte; "
          f"this model: {model:.4f}, {abs(bits - model):.4f} {side}")  # fmt: skip
    return {"trigram_bits_per_byte": bits}


def told_loss(figures: Mapping[str, float]) -> str:
    loss, bits = figures["valid_loss"], figures["valid_bits_per_byte"]
    return f"{loss:.4f} nats a token, {bits:.4f} bits a byte"
