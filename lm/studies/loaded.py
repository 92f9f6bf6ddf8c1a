"""A finished or running run, for a program or a notebook."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lm.core import tree
from lm.core.errors import CheckpointError, ConfigError, DataError
from lm.core.mesh import one_device
from lm.core.paths import run_path
from lm.decode.generate import Generator, check_ids
from lm.decode.images import ImageGenerator
from lm.evals.scorer import Scorer
from lm.models.adapters import ADAPTERS, merged
from lm.models.gpt import GptConfig
from lm.models.gpt_vision import GptVisionConfig
from lm.models.layers import by_layer
from lm.rlhf.dpo import Dpo
from lm.rlhf.ppo import Ppo
from lm.rlhf.seeing import SeeingPpo
from lm.rlhf.sft import Sft
from lm.text.tokenizer import Tokenizer
from lm.train.pretrain import Pretrain
from lm.train.saved import read_run
from lm.train.visual import VisualTuning


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What a run directory holds."""

    config: Any  # the experiment, whose `model` is a language model's
    params: Any
    tokenizer: Tokenizer | None
    step: int
    mesh: jax.sharding.Mesh | None = None  # that `params` are on; None: one device
    digest: str = ""  # of the checkpoint
    counted: int | None = None  # tokens up to it; older checkpoints have not

    @property
    def in_turns(self) -> bool:
        """Whether it was trained on conversations, as ids of who speaks and where a turn ends."""
        if self.tokenizer is None or not isinstance(self.config, Sft | Dpo | Ppo):
            return False
        return self.config.data.form(self.tokenizer).in_turns

    def __repr__(self) -> str:
        return shown(self)

    def logits(self, ids: Any) -> np.ndarray:
        """Float32 scores of the token after each. [T V] from [T] ids, or [B T V] from [B T].

        Raises:
          DataError: more ids than the model's context, or one that its vocabulary lacks.
        """
        return self.on_batch(ids, "__call__")

    def hidden(self, ids: Any) -> np.ndarray:
        """Hidden states after the last block and norm. [T D] or [B T D]"""
        return self.on_batch(ids, "hidden")

    def hidden_states(self, ids: Any) -> np.ndarray:
        """The residual stream before each block and after the last one, before the final norm.
        [L+1 T D] from [T] ids, or [L+1 B T D]"""
        return self.inside(ids).hidden

    def attention(self, ids: Any) -> np.ndarray:
        """Attention weights of every layer and head. [L N T T] from [T] ids, or [L B N T T]"""
        return self.inside(ids).attention

    def inside(self, ids: Any) -> Any:
        """`hidden_states` and `attention` together, as `lm.models.layers.Layers` of arrays."""
        model, params = self.decoder
        if not isinstance(model, GptConfig):
            raise ConfigError(f"a {type(model).__name__} has no layers of attention")
        tokens = checked(model, ids)
        found = inside(model, params, jnp.atleast_2d(tokens))
        return jax.tree.map(
            lambda leaf: np.asarray(leaf if tokens.ndim == 2 else leaf[:, 0]), found
        )

    def on_batch(self, ids: Any, method: str) -> np.ndarray:
        model, params = self.decoder
        tokens = checked(model, ids)
        out = applied(model, method, params, jnp.atleast_2d(tokens))
        return np.asarray(out if tokens.ndim == 2 else out[0])

    @property
    def decoder(self) -> tuple[Any, Any]:
        """Config and parameters of what reads text: of a model that sees its decoder, which reads
        it as any other."""
        if self.sees:
            return self.config.model.text, self.params["text"]
        return self.config.model, self.params

    def generator(self) -> Generator:
        model, tokenizer = self.config.model, self.tokenizer
        if not isinstance(model, GptConfig):
            raise ConfigError(f"a {type(model).__name__} has no cache to write text with")
        if tokenizer is None:
            return Generator(model, self.params, None)
        return Generator(model, self.params, tokenizer.end, tokenizer.vocab_size)

    @property
    def sees(self) -> bool:
        """Whether its prompts may hold images."""
        return isinstance(self.config.model, GptVisionConfig)

    def image_generator(self) -> ImageGenerator:
        """What continues prompts with images. Raises ConfigError for a model that sees none."""
        model = self.config.model
        if not isinstance(model, GptVisionConfig):
            raise ConfigError(f"a {type(model).__name__} sees no images: name a run of gpt4")
        if self.tokenizer is None:
            return ImageGenerator(model, self.params, None)
        return ImageGenerator(model, self.params, self.tokenizer.end, self.tokenizer.vocab_size)

    @property
    def tokens(self) -> int | None:
        """That it was pre-trained on up to this step; None where that was not here."""
        if not isinstance(self.config, Pretrain) or not self.step:
            return None
        if self.counted is None:
            return self.config.sizes().tokens_before(self.step)
        return self.counted

    def texts(self) -> Iterator[str]:
        """What it was pre-trained on, as it is now.

        Raises:
          DataError: the text is not there, or not known.
        """
        if isinstance(self.config, Pretrain):
            if self.tokens is None:  # what its config names is to go on with
                raise DataError("the weights do not say what they were pre-trained on")
            yield from self.config.texts()
        elif self.config.text is None:
            raise DataError(f"{self.config.init} does not say what it was pre-trained on")
        else:
            yield from (document.text for document in self.config.text.documents("train"))

    def scorer(self) -> Scorer:
        """What evaluation asks for: likelihoods of texts, and answers."""
        model, params = self.decoder
        if not isinstance(model, GptConfig):
            raise ConfigError(f"a {type(model).__name__} scores no texts: name a GPT's run")
        if self.tokenizer is None:
            raise DataError("a run without a tokenizer scores no texts; convert it with one")
        return Scorer(model, params, self.tokenizer, self.mesh or one_device())


def shown(run: Any) -> str:
    """A line on what was loaded, without its arrays."""
    experiment, model = type(run.config).__name__, type(run.config.model).__name__
    count = tree.count(run.params)
    return (
        f"<{type(run).__name__}: {experiment} of a {model}, {count:,} parameters, step {run.step}>"
    )


def checked(model: Any, ids: Any) -> np.ndarray:
    """Ids as int32.

    Raises:
      DataError: more ids than the model's context, or one that its vocabulary lacks.
    """
    tokens = np.asarray(ids)
    check_ids(tokens, model.vocab)
    if tokens.shape[-1] > model.length:
        raise DataError(
            f"{tokens.shape[-1]} ids are more than the model's context of {model.length}; "
            "cut them from the left"
        )
    return tokens.astype(np.int32)


@partial(jax.jit, static_argnums=(0, 1))
def applied(config: Any, method: str, params: Any, tokens: jax.Array) -> jax.Array:
    return config.module().apply({"params": params}, tokens, method=method)[0]


inside = jax.jit(by_layer, static_argnums=0)


def load_run(run: Path, step: int | None = None, mesh: jax.sharding.Mesh | None = None) -> Loaded:
    """The newest usable checkpoint of a language model's run, on a mesh or on one device.

    Raises:
      CheckpointError: no run, no checkpoint, or none that is whole.
    """
    mesh = mesh or one_device()
    saved = read_run(run, mesh, step)
    if not isinstance(saved.config, Pretrain | Sft | Dpo | Ppo | VisualTuning):
        raise CheckpointError(f"{run} holds a {type(saved.config).__name__}, not a language model")
    params = jax.jit(merged)(saved.params) if ADAPTERS in saved.params else saved.params
    if isinstance(saved.config, SeeingPpo):  # the policy is the decoder of a model that sees
        seer = read_run(run_path(str(saved.config.init)), mesh, saved.config.init_step)
        whole = {**seer.params, "text": params}
        return Loaded(seer.config, whole, saved.tokenizer, saved.step, mesh, saved.digest)
    return Loaded(
        saved.config, params, saved.tokenizer, saved.step, mesh, saved.digest, saved.tokens
    )
