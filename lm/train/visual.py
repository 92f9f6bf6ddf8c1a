"""Teaching a decoder to see: the stages of GPT-4's vision, whose recipe is not published.

Each stage is a run: `learned` says which of encoder, connector and decoder it changes, `init` which
run it goes on from (a decoder's, or another stage's, perhaps at another resolution). LLaVA-1.5 (Liu
et al. 2023) learns the connector, then all but the encoder: `gpt4:connector`, `gpt4:instruct`.
PaliGemma (Beyer et al. 2024) learns all of it, then again at 448 and 896 pixels: `gpt4:base`,
`gpt4:higher`, `gpt4:higher(image=896)`.
"""

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from lm.core import tree
from lm.core.config import require, require_positive
from lm.core.errors import CheckpointError
from lm.core.mesh import make_mesh
from lm.data.tokens import TextConfig
from lm.data.visual.ahead import prefetched
from lm.data.visual.rows import VisionBatch, VisualConfig, image_id
from lm.data.visual.unread import Unread
from lm.models import gpt_vision
from lm.models.gpt import GptConfig
from lm.models.gpt_vision import PARTS, GptVisionConfig, at_merge, widened
from lm.models.pretrained.vit import read_encoder
from lm.models.vision import VisionConfig, at_grid
from lm.text.tokenizer import Tokenizer, TokenizerConfig, load
from lm.train.checkpoint import steps_in
from lm.train.process import Process
from lm.train.saved import Saved, read_config, read_init, refuse_other
from lm.train.state import create, shardings
from lm.train.supervised import Supervised, run_tokenizer, steps_of
from lm.train.visual_evaluation import Evaluation
from lm.train.visual_material import Material
from lm.train.visual_objective import SeenAnswer

LEARNED, KEPT = "learned", "kept"


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisualTuning(Supervised):
    """Learns to answer questions about images.

    With `init`, the decoder is that of the run it names, and so is all else where that is a run of
    this kind; only `model.vision.image`, the resolution, and `model.merge`, the patches of a slot,
    are then this config's own.
    """

    model: GptVisionConfig
    data: VisualConfig = VisualConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()  # where there is no init
    init: str | None = None
    init_step: int | None = None  # its checkpoint; the newest where None
    encoder: str | None = None  # folder of a ViT, CLIP or SigLIP of theirs; where `init` has none
    learned: tuple[Literal["vision", "connector", "text"], ...] = ("vision", "connector", "text")
    length: int = 256  # tokens of a row at most, image slots included
    epochs: float = 1.0
    steps: int | None = None  # instead of epochs
    text: TextConfig | None = None  # text to read beside the images; that of `init` where None
    text_rows: int = 0  # rows of a step that are text
    text_weight: float = 1.0  # of their loss, beside that of the answers
    answer_tokens: int | None = None  # of an answer that is measured; None: of the longest truth
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
        require(self.text_weight >= 0, f"text_weight must not be negative, got {self.text_weight}")
        require(
            (self.answer_tokens or 0) < self.model.text.length - self.model.slots,
            f"answer_tokens {self.answer_tokens} leave no room for an image and a question in "
            f"model.text.length {self.model.text.length}: set fewer",
        )
        require(self.workers >= 0, f"workers must not be negative, got {self.workers}")

    # ------------------------------------------------------------------- run

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Trains, or goes on training, in `workdir`."""
        mesh = make_mesh(self.mesh)
        self.check_mesh(mesh)
        config, tokenizer, source = self.resolved(workdir, mesh)
        material = Material(config, tokenizer, mesh)
        steps = steps_of(self, material.rows.count, material.own)
        config = replace(config, steps=steps)
        tokens = self.batch * material.rows.width
        with (
            config.begun(
                workdir, process, mesh,
                steps=steps, facts={"data": material.digest}, tokenizer=tokenizer,
                first=lambda abstract: config.create(abstract, source),
                tokens_before=lambda step: step * tokens,
                flops_per_token=lambda step: config.flops_of(material.rows.width, material.images),
            ) as (session, state, step_fn),
            prefetched(material.batch, session.first, steps, self.workers) as batches,
        ):  # fmt: skip
            evaluate = Evaluation(config, material, tokenizer, mesh, session)
            session.journal.say(
                f"{tree.count(state.params):,} parameters; {material}; run in {workdir}"
            )
            if session.unevaluated:
                evaluate(session.first, state.params)
            unread = Unread()

            def batch_of(step: int) -> Any:
                del step
                host, wrong = next(batches)
                for line in unread.add(wrong, int((host.prefix > 0).sum())):
                    session.journal.say(line)
                return config.split(host, mesh, material.mine, self.batch)

            for step, batch, rate in config.batches(session, batch_of, material.origins):
                state, metrics = step_fn(state, batch, rate)
                state = session.after(step, state, metrics, evaluate)
            figures = evaluate(steps, state.params)
            made = {"rows": f"{material}{unread}", "parameters": tree.count(state.params)}
            session.finish(made | figures)

    # ----------------------------------------------------------------- parts

    def resolved(
        self, workdir: Path, mesh: jax.sharding.Mesh
    ) -> tuple["VisualTuning", Tokenizer, Saved | None]:
        """This config with the model of what it goes on from, the tokenizer, and that run.

        Raises:
          ConfigError: more tokens than the model's vocabulary, or a part that is neither learned
            nor of `init` or `encoder`.
          CheckpointError: `init` is no run of a decoder alone, or has no tokenizer.
        """
        if steps_in(workdir / "checkpoints"):
            refuse_other(workdir, VisualTuning)
            earlier = read_config(workdir)
            model = replace(self.model, image_id=earlier.model.image_id)
            if self.init or self.encoder:
                # all else is of `init`, which may be gone
                seen = replace(earlier.model.vision, image=self.model.vision.image)
                merge = self.model.merge  # 1 says nothing: another is refused, where they compare
                merge = earlier.model.merge if merge == 1 else merge
                model = replace(earlier.model, vision=seen, merge=merge)
            text = self.text or earlier.text
            return replace(self, model=model, text=text), load(workdir / "tokenizer"), None
        if self.init is None:
            self.check_parts(None)
            vocab = self.model.text.vocab
            tokenizer = run_tokenizer(workdir, self.tokenizer, self.texts, vocab)
            model = replace(self.model, image_id=image_id(tokenizer), vision=self.eye())
            return replace(self, model=model), tokenizer, None
        source = read_init(self.init, mesh, self.init_step)
        if source.tokenizer is None:
            raise CheckpointError(f"{self.init} has no tokenizer: convert it with its files")
        found, known = source.config.model, source.config
        image = image_id(source.tokenizer)
        if isinstance(found, GptVisionConfig):
            vision = replace(found.vision, image=self.model.vision.image)
            dialogue = found.dialogue or self.model.dialogue
            merge = self.model.merge
            require(
                merge % found.merge == 0,
                f"model.merge {merge}, and {found.merge} of {self.init}: set that or a multiple",
            )
            model = replace(found, vision=vision, dialogue=dialogue, merge=merge)
        elif isinstance(found, GptConfig) and not source.headed:
            decoder = replace(found, vocab=max(found.vocab, image + 1))
            model = replace(self.model, text=decoder, image_id=image, vision=self.eye())
        else:
            raise source.refused(self.init, "a decoder, such as gpt2:tiny's")
        self.check_parts(source)
        seen = isinstance(found, GptVisionConfig)
        theirs = known.text if seen else known.data
        if not seen and not source.step:  # converted weights have read none of it
            theirs = None
        text = self.text or (theirs if isinstance(theirs, TextConfig) else None)
        return replace(self, model=model, text=text), source.tokenizer, source

    def check_parts(self, source: Saved | None) -> None:
        """Raises ConfigError where a part would stay as it was drawn at random, or the encoder is
        supplied twice."""
        whole = source is not None and isinstance(source.config.model, GptVisionConfig)
        require(
            not whole or self.encoder is None,
            f"encoder {self.encoder}, and init {self.init} has one, which goes on: leave out one",
        )
        known = {"text": source is not None, "vision": whole or self.encoder is not None,
                 "connector": whole}  # fmt: skip
        ways = {"text": "a decoder's run as init", "vision": "a ViT's folder as encoder",
                "connector": "a run of gpt4:connector as init"}  # fmt: skip
        for part, way in ways.items():
            require(
                part in self.learned or known[part],
                f"learned is {self.learned} and nothing supplies the {part} part, which would stay "
                f"random: name {way}, or learn it",
            )

    def eye(self) -> VisionConfig:
        """The encoder to begin with: that of `encoder` at this resolution, or this config's."""
        if self.encoder is None:
            return self.model.vision
        own, (found, _) = self.model.vision, read_encoder(self.encoder)
        require(
            own.image % found.patch == 0,
            f"model.vision.image {own.image} is not a multiple of {found.patch}, the patch of "
            f"{self.encoder}: its own is {found.image}, {found.grid} x {found.grid} patches",
        )
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
            known = source.config.model
            params["vision"] = at_grid(params["vision"], known.vision.grid, grid)
            params["connector"] = at_merge(params["connector"], known.merge, self.model.merge)
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
        return self.flops_of(self.length, images=1)

    def flops_of(self, width: int, images: float) -> float:
        """Operations for a token of rows of so many tokens, with so many images on average."""
        return self.model.flops_per_token(width, images, self.learned)

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
