"""Every experiment resolves, dumps and has its published size; every generation's tiny trains."""

import importlib
import random
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.experiment import functions, generations, parameters
from lm.core import tree
from lm.core.config import bindings, dump, load
from lm.core.mesh import MeshConfig, make_mesh
from lm.data.batches import TokenBatch
from lm.data.masking import MaskedBatch
from lm.data.visual.rows import VisionBatch
from lm.decode.generate import Generator
from lm.decode.sampling import SamplingConfig
from lm.models.gpt import GptConfig
from lm.train.checkpoint import Checkpoints
from lm.train.optimizer import Progress
from lm.train.state import create

PUBLISHED = {  # name -> parameters; of BERT with its pooler and both heads
    "bert:base": 110_106_428,
    "bert:large": 336_226_108,
    "gpt1:base": 116_534_784,
    "gpt2:small": 124_439_808,
    "gpt2:medium": 354_823_168,
    "gpt2:large": 774_030_080,
    "gpt2:xl": 1_557_611_200,
}


def every():
    for generation in generations():
        for name, function in functions(
            importlib.import_module(f"experiments.{generation}")
        ).items():
            yield f"{generation}:{name}", function


EXPERIMENTS = dict(every())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_says_what_it_is_and_its_bindings_can_be_bound_again(name):
    function = EXPERIMENTS[name]
    assert function.__doc__ and function.__doc__.strip()
    config = function()
    again = load(dump(config), name)
    assert again == config and bindings(again) == bindings(config)
    assert callable(config.run) and hasattr(config, "lowered") == hasattr(config, "abstract_rows")


def test_the_tiny_stages_of_alignment_fit_into_the_context_of_gpt2_tiny():
    context = EXPERIMENTS["gpt2:tiny"]().model.length
    for name in ("instructgpt:pipeline", "chatgpt:pipeline"):
        stages = EXPERIMENTS[name]()
        assert max(stages.sft.length, stages.reward.length, stages.ppo.width) <= context
    assert EXPERIMENTS["chatgpt:ppo"]().width <= context


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_experiment_has_its_published_size(name):
    assert parameters(EXPERIMENTS[name]()) == PUBLISHED[name]


@pytest.mark.parametrize("size", ["base", "large"])
@pytest.mark.parametrize(
    ("stage", "learned", "rate", "batch"),
    [("connector", ("connector",), 1e-3, 256), ("instruct", ("connector", "text"), 2e-5, 128)],
)
def test_the_stages_of_llava_have_its_numbers(size, stage, learned, rate, batch):
    config = EXPERIMENTS[f"gpt4:{stage}"](size)
    optim, model = config.optim, config.model
    assert (config.learned, config.batch, config.epochs, config.steps) == (learned, batch, 1, None)
    assert (optim.schedule, optim.peak_lr, optim.weight_decay) == ("cosine", rate, 0)
    assert (model.connector, model.mask) == ("mlp", "causal")
    steps = 5_197  # of 665 thousand rows of 128; the tokens of a step do not matter
    rates = [optim.rate(Progress(n, steps, 64 * (n + 1), 64 * steps)) for n in range(steps)]
    assert np.argmax(rates) == pytest.approx(0.03 * steps, abs=1) and max(rates) <= rate
    assert rates[0] < 0.01 * rate and rates[-1] == 0


@pytest.mark.parametrize("size", ["base", "large"])
def test_both_higher_resolutions_of_paligemma_fit_and_favour_text_in_images(size):
    mesh, stage = make_mesh(MeshConfig(data=8)), EXPERIMENTS[f"gpt4:{size}"]()
    assert EXPERIMENTS["gpt4:higher"](size) == EXPERIMENTS["gpt4:higher"](size, 448)
    for image, epochs in ((448, 0.5), (896, 0.25)):
        config = EXPERIMENTS["gpt4:higher"](size, image)
        model, rows = config.model, config.abstract_rows()
        assert (model.slots, rows.tokens.shape) == (784, (256, 784 + 128))
        assert rows.images.shape == (256, 1, image, image, 3)
        assert tree.count(config.abstract(mesh).params) == model.parameters()
        assert dict(zip(config.data.sets, config.data.times, strict=True)) == {
            "flickr8k": 1, "chartqa": 3, "receipts": 3, "nlvr": 1
        }  # fmt: skip
        assert config.epochs == epochs and config.optim.peak_lr < stage.optim.peak_lr


def test_a_fine_tuning_of_no_run_yet_has_no_size():
    assert parameters(EXPERIMENTS["bert:finetune"]()) is None


def tokens_of(config, shape):
    return np.random.default_rng(0).integers(0, config.model.vocab, shape).astype(np.int32)


def rows_of(config):
    """Random rows of the shapes that a step of this experiment takes."""
    abstract = config.abstract_rows()
    if isinstance(abstract, MaskedBatch):
        spread = np.arange(abstract.positions.shape[1], dtype=np.int32)
        return MaskedBatch(
            tokens=tokens_of(config, abstract.tokens.shape),
            segments=np.zeros(abstract.segments.shape, np.int32),
            valid=np.ones(abstract.valid.shape, bool),
            positions=np.tile(spread, (config.batch, 1)),
            targets=tokens_of(config, abstract.targets.shape),
            mask=np.ones(abstract.mask.shape, bool),
            next=np.arange(config.batch, dtype=np.int32) % 2,
            next_mask=np.ones(config.batch, bool),
            rows=np.arange(config.batch, dtype=np.uint32),
        )
    if isinstance(abstract, VisionBatch):
        model, draw = config.model, np.random.default_rng(0)
        ids = draw.integers(0, 256, (config.batch, config.length + 1)).astype(np.int32)
        ids[:, : model.slots] = model.image_id
        return VisionBatch(
            tokens=ids[:, :-1],
            targets=ids[:, 1:],
            mask=np.arange(config.length)[None] >= np.full((config.batch, 1), model.slots),
            prefix=np.full(config.batch, model.slots, np.int32),
            images=draw.integers(0, 256, abstract.images.shape).astype(np.uint8),
            rows=np.arange(config.batch, dtype=np.uint32),
        )
    ids = tokens_of(config, (config.batch, config.model.length + 1))
    rows = np.arange(config.batch, dtype=np.uint32)
    return TokenBatch(ids[:, :-1], ids[:, 1:], np.ones(ids[:, 1:].shape, bool), rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.endswith(":tiny")])
def test_a_tiny_model_makes_two_steps_on_eight_devices_restores_and_samples(name, tmp_path):
    config = replace(EXPERIMENTS[name](), batch=8)
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    with jax.set_mesh(mesh):
        abstract = config.abstract(mesh)
        step_fn = config.step(mesh, abstract)
        state = create(config.initial(), abstract, config.seed)
        batch = config.split(rows_of(config), mesh, slice(0, 8), 8)
        found = []
        for _ in range(2):
            state, metrics = step_fn(state, batch, jnp.float32(1e-3))
            found.append(float(metrics.loss))
            assert metrics.applied
        assert found[1] < found[0]  # the same rows, after one step
        checkpoints = Checkpoints(tmp_path / "checkpoints")
        assert checkpoints.save(2, state, {}) and checkpoints.settle()
        restored, manifest = checkpoints.restore(abstract)
        checkpoints.close()
    assert manifest["step"] == 2 and int(restored.step) == 2
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    if isinstance(config.model, GptConfig):
        params = jax.device_put(jax.device_get(restored.params), jax.devices()[0])
        generate = Generator(config.model, params, end=0)
        chosen = random.Random(0).sample(range(1, 100), 3)
        (written,) = generate([chosen], 5, SamplingConfig(temperature=1.0), seed=0)
        assert 1 <= len(written) <= 5 and max(written) < config.model.vocab
