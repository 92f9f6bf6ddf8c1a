"""Teaching a decoder to see: the stages of GPT-4's vision, whose recipe is not published.

Each stage is a run: `learned` says which of encoder, connector and decoder it changes, `init` which
run it goes on from (a decoder's, or another stage's, perhaps at another resolution). LLaVA-1.5 (Liu
et al. 2023) learns the connector, then all but the encoder; PaliGemma (Beyer et al. 2024) all of
it, then again at 448 and 896 pixels.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lm.core import tree
from lm.core.config import require, require_positive
from lm.core.errors import CheckpointError, ConfigError
from lm.core.mesh import batch_ways, local_rows, make_mesh, place
from lm.core.paths import run_path
from lm.data.batches import TokenBatch, check_divisible
from lm.data.mixture import Mixture
from lm.data.tokens import TextConfig, prepare
from lm.data.visual.rows import VisionBatch, VisualConfig, VisualRows, prefetched
from lm.decode.images import ImageGenerator
from lm.evals.gallery import write_gallery
from lm.evals.perplexity import HeldOut
from lm.evals.visual import answer
from lm.losses.language import masked_sum, token_losses
from lm.models import gpt_vision
from lm.models.gpt import GptConfig
from lm.models.gpt_vision import PARTS, GptVisionConfig
from lm.models.pretrained.vit import read_encoder
from lm.models.vision import VisionConfig
from lm.nn.dropout import DropoutKeys
from lm.nn.patches import resized
from lm.report.page import write_report
from lm.text.tokenizer import Tokenizer, TokenizerConfig, load
from lm.train.checkpoint import steps_in
from lm.train.metrics import peak_flops
from lm.train.optimizer import Progress
from lm.train.pretrain import NextToken
from lm.train.process import Process
from lm.train.saved import Saved, read_config, read_run
from lm.train.session import Session
from lm.train.state import create, shardings
from lm.train.supervised import Supervised, run_tokenizer

LEARNED, KEPT = "learned", "kept"
TEXT_BATCHES = 20  # of an estimate of the loss on text
SHOWN = 8  # answers that are written into the samples


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisualTuning(Supervised):
    """Learns to answer questions about images.

    With `init`, the decoder is that of the run it names, and so is all else where that is a run of
    this kind; only `model.vision.image`, the resolution, is then this config's own.
    """

    model: GptVisionConfig
    data: VisualConfig = VisualConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()  # where there is no init
    init: str | None = None
    init_step: int | None = None  # its checkpoint; the newest where None
    encoder: str | None = None  # folder of a ViT of Hugging Face's; where `init` has none
    learned: tuple[Literal["vision", "connector", "text"], ...] = ("vision", "connector", "text")
    length: int = 256  # tokens of a row at most, image slots included
    epochs: float = 1.0
    steps: int | None = None  # instead of epochs
    text: TextConfig | None = None  # text to read beside the images; that of `init` where None
    text_rows: int = 0  # rows of a step that are text
    text_weight: float = 1.0  # of their loss, beside that of the answers
    answer_tokens: int = 16  # of an answer, where it is measured
    workers: int = 0  # processes that decode images; 0: threads

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "length", "epochs", "steps", "answer_tokens")
        require(len(self.learned) > 0, "learned is empty: nothing would be learned")
        require(
            0 <= self.text_rows < self.batch,
            f"text_rows {self.text_rows} must be below batch {self.batch}",
        )
        require(
            self.length <= self.model.text.length,
            f"length {self.length} is longer than model.text.length {self.model.text.length}",
        )
        require(
            self.model.slots < self.length,
            f"an image takes {self.model.slots} places of rows of {self.length}: set length",
        )
        require(self.workers >= 0, f"workers must not be negative, got {self.workers}")

    # ------------------------------------------------------------------- run

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Trains, or goes on training, in `workdir`."""
        process = process or Process()
        mesh = make_mesh(self.mesh)
        check_divisible("batch", self.batch, batch_ways(mesh) * self.microbatches)
        config, tokenizer, source = self.resolved(workdir, mesh)
        material = Material(config, tokenizer, mesh)
        steps = self.steps or max(1, round(self.epochs * material.rows.count / material.own))
        config = replace(config, steps=steps)
        tokens = self.batch * material.rows.width
        with (
            jax.set_mesh(mesh),
            Session(
                workdir, config, process, loop=self.loop, guard=self.guard, steps=steps,
                facts={"tokenizer": tokenizer.digest, "data": material.digest},
                flops_per_token=config.flops_per_token(),
                peak=peak_flops(mesh.size),
            ) as session,
        ):  # fmt: skip
            if session.main:
                tokenizer.save(workdir / "tokenizer")
            abstract = config.abstract(mesh)
            step_fn = config.step(mesh, abstract)
            state = session.start(abstract, lambda: config.create(abstract, source))
            evaluate = Evaluation(config, material, tokenizer, mesh, session)
            session.journal.say(
                f"{tree.count(state.params):,} parameters; {material}; run in {workdir}"
            )
            if session.first == 0:
                evaluate(0, 0, state.params)
            unread = 0
            batches = prefetched(material.batch, session.first, steps, self.workers)
            for step in session.steps():
                with session.goodput.spent("data"):
                    host, wrong = next(batches)
                for problem in wrong[: max(0, 3 - unread)]:
                    session.journal.say(f"warning: left out: {problem}")
                unread += len(wrong)
                batch = config.split(host, mesh, material.mine, self.batch)
                done = (step + 1) * tokens
                rate = self.optim.rate(Progress(step, steps, done, steps * tokens))
                state, metrics = step_fn(state, batch, jnp.float32(rate))
                state = session.after(step, state, metrics, done)
                if (step + 1) % self.loop.evaluate_every == 0 and step + 1 < steps:
                    evaluate(step + 1, done, state.params)
            figures = evaluate(steps, steps * tokens, state.params)
            session.finish(
                {"steps": steps, "tokens": steps * tokens, "rows": str(material)}
                | {"unreadable_images": unread, "parameters": tree.count(state.params), **figures}
            )
        if jax.process_index() == 0:
            print(f"report: {write_report(workdir)}")

    # ----------------------------------------------------------------- parts

    def resolved(
        self, workdir: Path, mesh: jax.sharding.Mesh
    ) -> tuple["VisualTuning", Tokenizer, Saved | None]:
        """This config with the model of what it goes on from, the tokenizer, and that run.

        Raises:
          ConfigError: more tokens than the model's vocabulary.
          CheckpointError: `init` is no run of a decoder.
        """
        if steps_in(workdir / "checkpoints"):
            earlier = read_config(workdir)
            if not isinstance(earlier, VisualTuning):
                raise ConfigError(f"{workdir} holds a {type(earlier).__name__}: choose another")
            model = replace(self.model, image_id=earlier.model.image_id)
            if self.init or self.encoder:
                model = earlier.model
            text = self.text or earlier.text
            return replace(self, model=model, text=text), load(workdir / "tokenizer"), None
        if self.init is None:
            vocab = self.model.text.vocab
            tokenizer = run_tokenizer(workdir, self.tokenizer, self.texts, vocab)
            model = replace(self.model, image_id=image_id(tokenizer), vision=self.eye())
            return replace(self, model=model), tokenizer, None
        source = read_run(run_path(self.init), mesh, self.init_step)
        if source.tokenizer is None:
            raise CheckpointError(f"{self.init} has no tokenizer: convert it with its files")
        found, known = source.config.model, source.config
        image = image_id(source.tokenizer)
        if isinstance(found, GptVisionConfig):
            vision = replace(found.vision, image=self.model.vision.image)
            model = replace(found, vision=vision)
        elif isinstance(found, GptConfig):
            decoder = replace(found, vocab=max(found.vocab, image + 1))
            model = replace(self.model, text=decoder, image_id=image, vision=self.eye())
        else:
            raise CheckpointError(f"{self.init} is not a decoder's run: {type(known).__name__}")
        theirs = known.text if isinstance(found, GptVisionConfig) else known.data
        text = self.text or (theirs if isinstance(theirs, TextConfig) else None)
        return replace(self, model=model, text=text), source.tokenizer, source

    def eye(self) -> VisionConfig:
        """The encoder to begin with: that of `encoder` at this resolution, or this config's."""
        if self.encoder is None:
            return self.model.vision
        own, (found, _) = self.model.vision, read_encoder(self.encoder)
        return replace(found, image=own.image, dtype=own.dtype, remat=own.remat, unroll=own.unroll)

    def texts(self) -> list[str]:
        """What a tokenizer of the run's own is trained on."""
        found = self.data.examples("train")
        return [one.question + "\n" + one.answers[0] for one in found]

    def create(self, abstract: Any, source: Saved | None) -> Any:
        """The first state: random, and over it what `init` has learned."""
        state: Any = create(self.initial(), abstract, self.seed)
        params, grid = dict(state.params), self.model.vision.grid
        if self.encoder is not None:
            found, eye = read_encoder(self.encoder)
            params["vision"] = at_grid(eye, found.grid, grid)
        if source is not None and isinstance(source.config.model, GptVisionConfig):
            params = dict(source.params)
            params["vision"] = at_grid(params["vision"], source.config.model.vision.grid, grid)
        elif source is not None:
            params["text"] = widened(source.params, self.model.text.vocab)
        return state.replace(params=jax.device_put(params, shardings(abstract.params)))

    def first_params(self, key: jax.Array) -> Any:
        return gpt_vision.init(self.model, key)

    def objective(self) -> "SeenAnswer":
        return SeenAnswer(self.model, self.learned, self.text_weight if self.text_rows else 0.0)

    def direction(self) -> optax.GradientTransformation:
        """Moments are kept of what is learned, and nothing else is changed."""
        direction = super().direction()
        if set(self.learned) == set(PARTS):
            return direction

        def labels(params: Any) -> Any:
            def label(name: str) -> str:
                return LEARNED if name in self.learned else KEPT

            return {name: jax.tree.map(lambda _: label(name), params[name]) for name in params}  # noqa: B023

        return optax.multi_transform({LEARNED: direction, KEPT: optax.set_to_zero()}, labels)

    def flops_per_token(self) -> float:
        return self.model.flops_per_token(self.length)

    def abstract_rows(self) -> VisionBatch:
        shape, struct, side = (self.batch, self.length), jax.ShapeDtypeStruct, self.model.vision
        fields: dict[str, Any] = {
            "tokens": struct(shape, jnp.int32),
            "targets": struct(shape, jnp.int32),
            "mask": struct(shape, jnp.bool_),
            "prefix": struct(shape[:1], jnp.int32),
            "images": struct((self.batch, 1, side.image, side.image, 3), jnp.uint8),
            "rows": struct(shape[:1], jnp.uint32),
        }
        return VisionBatch(**fields)


@dataclasses.dataclass(frozen=True)
class SeenAnswer:
    """Cross-entropy of each token of the answers, and beside it of rows that are text alone."""

    model: GptVisionConfig
    learned: tuple[str, ...]
    text_weight: float

    @property
    def weights(self) -> Mapping[str, float]:
        return {"answers": 1.0} | ({"text": self.text_weight} if self.text_weight else {})

    def counts(self, batch: VisionBatch) -> dict[str, jax.Array]:
        masks = self.masks(batch)
        return {name: jnp.sum(masks[name], dtype=jnp.float32) for name in self.weights}

    def masks(self, batch: VisionBatch) -> dict[str, jax.Array]:
        """A row without a prompt is text."""
        mask, text = jnp.asarray(batch.mask), (jnp.asarray(batch.prefix) == 0)[..., None]
        return {"answers": mask & ~text, "text": mask & text}

    def sums(
        self, params: Any, batch: VisionBatch, keys: DropoutKeys | None = None
    ) -> dict[str, jax.Array]:
        params = {
            name: leaf if name in self.learned else jax.lax.stop_gradient(leaf)
            for name, leaf in params.items()
        }
        logits: Any = self.model.module().apply(
            {"params": params}, jnp.asarray(batch.tokens), jnp.asarray(batch.images),
            jnp.asarray(batch.prefix), keys,
        )  # fmt: skip
        losses, masks = token_losses(logits, batch.targets), self.masks(batch)
        return {name: masked_sum(losses, masks[name]) for name in self.weights}

    def total(self, params: Any, batch: VisionBatch) -> tuple[jax.Array, jax.Array]:
        """Sum of the losses of answers without dropout, and their number."""
        return self.sums(params, batch)["answers"], self.counts(batch)["answers"]


class Material:
    """Examples to learn from and to measure on, and text beside them."""

    def __init__(self, config: VisualTuning, tokenizer: Tokenizer, mesh: jax.sharding.Mesh):
        model = config.model
        self.batch_size, self.mine = config.batch, local_rows(mesh, config.batch)
        self.own = config.batch - config.text_rows

        def rows_of(examples: Any) -> VisualRows:
            return VisualRows(
                examples, tokenizer, image_id=model.image_id, slots=model.slots,
                side=model.vision.image, length=config.length, seed=config.seed,
            )  # fmt: skip

        self.rows = rows_of(config.data.examples("train"))
        valid = config.data.examples("valid")
        self.held_out, self.valid = rows_of(valid), valid
        self.digest = self.rows.digest
        self.text: Mixture | None = None
        self.held_out_text: Any = None
        if config.text_rows and config.text is None:
            raise ConfigError("text_rows: no text is known; --set text.train=FOLDER names some")
        if config.text is not None:
            sources, self.held_out_text = prepare(config.text, tokenizer)
            if config.text_rows:
                self.text = Mixture(sources, self.rows.width, config.seed)
                self.digest += self.text.digest[:16]

    def __str__(self) -> str:
        left = f", {self.rows.long} too long and left out" if self.rows.long else ""
        mixed = f"; {self.batch_size - self.own} rows of a step are text" if self.text else ""
        return f"{self.rows.count} examples{left}; held out: {len(self.valid)}{mixed}"

    def batch(self, step: int) -> tuple[VisionBatch, list[str]]:
        """This process's rows of a step, text last; and what is wrong with images left out."""
        mine, own = self.mine, self.own
        seen = slice(min(mine.start, own), min(mine.stop, own))
        found, wrong = self.rows.batch(step * own, own, seen)
        if self.text is not None:
            read = slice(max(mine.start, own) - own, max(mine.stop, own) - own)
            rows = self.text(step * (self.batch_size - own) + read.start, read.stop - read.start)
            found = jax.tree.map(
                lambda *parts: np.concatenate(parts), found, unseen(rows, found.images.shape[1:])
            )
        first = step * self.batch_size
        numbers = np.arange(first + mine.start, first + mine.stop).astype(np.uint32)
        return dataclasses.replace(found, rows=numbers), wrong


def unseen(text: TokenBatch, images: tuple[int, ...]) -> VisionBatch:
    """Rows of text with room for images [I R R 3], all black, and no prompt."""
    count = len(text.tokens)
    return VisionBatch(
        tokens=text.tokens, targets=text.targets, mask=text.mask,
        prefix=np.zeros(count, np.int32), images=np.zeros((count, *images), np.uint8),
        rows=text.rows,
    )  # fmt: skip


class Evaluation:
    """The loss on held-out answers, how many are right when written, and the loss on text."""

    def __init__(
        self, config: VisualTuning, material: Material, tokenizer: Tokenizer,
        mesh: jax.sharding.Mesh, session: Session,
    ):  # fmt: skip
        self.config, self.material, self.tokenizer = config, material, tokenizer
        self.mesh, self.session = mesh, session
        self.total = jax.jit(config.objective().total)
        self.text_total = jax.jit(NextToken(config.model.text).total)

    def __call__(self, step: int, tokens: int, params: Any) -> dict[str, float]:
        config, material = self.config, self.material
        figures = {"valid_loss": self.loss(params)}
        if material.held_out_text is not None:
            rows = config.batch // config.microbatches
            held_out = HeldOut(material.held_out_text, material.rows.width, rows, self.mesh)
            some = held_out.estimate(TEXT_BATCHES, config.seed)
            figures["text_loss"] = held_out.loss(self.text_total, params["text"], some)
        if jax.process_count() == 1:  # answers are written by one process
            generator = ImageGenerator(config.model, params, self.tokenizer.end)
            found = answer(generator, self.tokenizer, material.valid, config.answer_tokens)
            figures["valid_accuracy"] = found.accuracy
            if step == config.steps:
                write_gallery(self.session.workdir, config.model, params, self.tokenizer, found)
            pairs = list(zip(found.examples, found.answers, strict=True))[:SHOWN]
            told = [f"{one.question} {said!r} ({one.answers[0]})\n" for one, said in pairs]
            self.session.journal.sample(step, "".join(told))
        self.session.drain()
        told_figures = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        self.session.journal.evaluation(
            {"step": step, "tokens": tokens, **figures}, f"step {step}  {told_figures}"
        )
        return figures

    def loss(self, params: Any) -> float:
        """Nats a token of the held-out answers."""
        rows, held_out = self.config.batch, self.material.held_out
        mine, found = self.material.mine, []
        for first in range(0, held_out.count, rows):
            index = np.minimum(np.arange(first, first + rows), held_out.count - 1)
            batch, _ = held_out.take(index[mine], first + mine.start, held_out.bucket(index))
            batch.mask[np.arange(first, first + rows)[mine] >= held_out.count] = False
            found.append(self.total(params, place(batch, self.mesh, mine, rows)))
        sums = np.array(jax.device_get(found), np.float64)
        return float(sums[:, 0].sum() / max(1.0, sums[:, 1].sum()))


def image_id(tokenizer: Tokenizer) -> int:
    """The id of an image's slots: the vocabulary's own, or the one after its last."""
    return tokenizer.specials.get("image", tokenizer.vocab_size)


def at_grid(params: Any, old: int, new: int) -> Any:
    """An encoder's parameters for another resolution, its learned positions interpolated."""
    embedding = params["embedding"]
    if old == new or "positions" not in embedding:
        return params
    positions = resized(jnp.asarray(embedding["positions"]), old, new)
    return {**params, "embedding": {**embedding, "positions": positions}}


def widened(params: Any, vocab: int) -> Any:
    """Parameters of a decoder with a row for each id that its vocabulary lacks: the mean of the
    others, as a row of zeros would be likelier than any of a model whose logits are negative."""
    table = jnp.asarray(params["tokens"]["table"])
    more = jnp.repeat(jnp.mean(table, axis=0, keepdims=True), vocab - table.shape[0], axis=0)
    return {**params, "tokens": {"table": jnp.concatenate([table, more])}}
