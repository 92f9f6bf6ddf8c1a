"""Each optimizer against its published code written out in NumPy, ten whole updates of the step."""

import math
from dataclasses import dataclass, replace

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lm.core.errors import ConfigError
from lm.core.mesh import MeshConfig, make_mesh
from lm.core.tree import named_leaves
from lm.models import bert, gpt, gpt_vision, reward
from lm.models.adapters import adapted
from lm.models.bert import BertConfig
from lm.models.gpt import GptConfig
from lm.models.gpt_vision import GptVisionConfig
from lm.models.lstm import LstmConfig
from lm.models.vision import Vision, VisionConfig
from lm.train.guard import GuardConfig
from lm.train.optimizer import (
    AdamWConfig,
    BertAdamConfig,
    Gpt1AdamConfig,
    Progress,
    RmsPropConfig,
    decayed,
    rising,
)
from lm.train.state import abstract_state, create, initialiser
from lm.train.step import train_step

STEPS = 10
SHAPES = {  # as models name them; of a stack even vectors have two axes
    "tokens/table": (7, 4),
    "stack/blocks/mlp/hidden/kernel": (2, 4, 6),
    "stack/blocks/mlp/hidden/bias": (2, 6),
    "stack/blocks/norm1/scale": (2, 4),
    "norm/scale": (4,),
    "norm/bias": (4,),
}
MATRICES = ("tokens/table", "stack/blocks/mlp/hidden/kernel")


def drawn(seed, size=1.0):
    numbers = np.random.default_rng(seed)
    return {
        name: (size * numbers.standard_normal(shape)).astype(np.float32)
        for name, shape in SHAPES.items()
    }


FIRST = drawn(0)
# the fifth is long, so that it is clipped, and the others of different lengths
GRADIENTS = [drawn(10 + step, 3.0 if step == 4 else 0.1 / (step + 1)) for step in range(STEPS)]


def nested(flat):
    tree = {}
    for name, value in flat.items():
        *folders, last = name.split("/")
        inner = tree
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[last] = jnp.asarray(value)
    return tree


@flax.struct.dataclass
class Slope:
    """A batch of one row whose loss has this gradient everywhere."""

    gradient: dict
    rows: np.ndarray


@dataclass(frozen=True)
class Linear:
    @property
    def weights(self):
        return {"loss": 1.0}

    def counts(self, batch):
        return {"loss": jnp.ones(())}

    def sums(self, params, batch, keys):
        products = jax.tree.map(lambda p, g: jnp.sum(p * g[0]), params, batch.gradient)
        return {"loss": sum(jax.tree.leaves(products))}


def ten_updates(config, rates=None):
    """Parameters after ten steps as runs make them, at the config's rates or at these."""
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    guard = GuardConfig(spike="off")
    with jax.set_mesh(mesh):
        initial = initialiser(lambda key: nested(FIRST), config.direction(), guard)
        abstract = abstract_state(initial, mesh)
        step_fn = train_step(
            Linear(), config.direction(), abstract, mesh, seed=0, clip=config.clip, guard=guard
        )
        state = create(initial, abstract, 0)
        for step, gradient in enumerate(GRADIENTS):
            leading = {name: value[None, None] for name, value in gradient.items()}
            batch = Slope(nested(leading), np.zeros((1, 1), np.uint32))
            rate = (
                config.rate(Progress(step, STEPS, step + 1, STEPS))
                if rates is None
                else rates[step]
            )
            state, _ = step_fn(state, batch, jnp.float32(rate))
    return {name: np.asarray(leaf) for name, leaf in named_leaves(state.params).items()}


def by_global_norm(gradients, most=1.0):
    """TensorFlow's clip_by_global_norm."""
    norm = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients.values()))
    return {name: g.astype(np.float64) * most / max(norm, most) for name, g in gradients.items()}


def bert_rate(step, *, peak, warmup):
    """create_optimizer of optimization.py: a line to zero, and below `warmup` one that rises."""
    return peak * step / warmup if step < warmup else peak * (1 - step / STEPS)


def bert_transcribed(*, peak, warmup, clip=True, decayed=MATRICES):
    """AdamWeightDecayOptimizer of google-research/bert: there are no terms in t."""
    params = {name: value.astype(np.float64) for name, value in FIRST.items()}
    m = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    v = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for step, gradients in enumerate(GRADIENTS):
        rate = bert_rate(step, peak=peak, warmup=warmup)
        for name, g in (by_global_norm(gradients) if clip else gradients).items():
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g * g
            update = m[name] / (np.sqrt(v[name]) + 1e-6)
            if name in decayed:
                update = update + 0.01 * params[name]
            params[name] = params[name] - rate * update
    return params


SCHEDULES = {  # opt.py: x is the share of the updates made before this one
    "cosine": lambda x, w: x / w if x <= w else 0.5 * (1 + math.cos(math.pi * x)),
    "constant": lambda x, w: x / w if x <= w else 1.0,
    "linear": lambda x, w: (x / w if x <= w else 1.0) * (1 - x),
}


def gpt1_transcribed(*, peak, warmup, schedule, decayed=MATRICES, inside=False, counted=0):
    """`adam` of finetune-transformer-lm's opt.py, with l2=0.01 and vector_l2=False."""
    params = {name: value.astype(np.float64) for name, value in FIRST.items()}
    m = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    v = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for t, gradients in enumerate(GRADIENTS):
        tt = t + 1
        correction = math.sqrt(1 - 0.999**tt) / (1 - 0.9**tt)
        rate = peak * SCHEDULES[schedule]((t + counted) / STEPS, warmup)
        for name, g in by_global_norm(gradients).items():
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g * g
            epsilon = 1e-8 * math.sqrt(1 - 0.999**tt) if inside else 1e-8
            decay = 0.01 * params[name] * (name in decayed)
            update = m[name] / (np.sqrt(v[name]) + epsilon) + decay
            params[name] = params[name] - rate * correction * update
    return params


def adamw_transcribed(*, rate, decayed=MATRICES, coupled=False):
    """Adam of Kingma and Ba (algorithm 1), with the decay of Loshchilov and Hutter beside it; with
    `coupled` the decay is part of the gradient."""
    params = {name: value.astype(np.float64) for name, value in FIRST.items()}
    m = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    v = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for t, gradients in enumerate(GRADIENTS, start=1):
        for name, g in by_global_norm(gradients).items():
            decay = 0.1 * params[name] * (name in decayed)
            g = g + decay * coupled
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.95 * v[name] + 0.05 * g * g
            update = (m[name] / (1 - 0.9**t)) / (np.sqrt(v[name] / (1 - 0.95**t)) + 1e-3)
            params[name] = params[name] - rate * (update + decay * (not coupled))
    return params


def rmsprop_transcribed(*, rates, inside=False):
    """RMSprop of PyTorch, alpha 0.99."""
    params = {name: value.astype(np.float64) for name, value in FIRST.items()}
    v = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for rate, gradients in zip(rates, GRADIENTS, strict=True):
        for name, g in by_global_norm(gradients).items():
            v[name] = 0.99 * v[name] + 0.01 * g * g
            root = np.sqrt(v[name] + 1e-3) if inside else np.sqrt(v[name]) + 1e-3
            params[name] = params[name] - rate * g / root
    return params


def furthest(found, expected):
    return max(np.abs(found[name] - expected[name]).max() for name in SHAPES)


BERT = BertAdamConfig(peak_lr=1e-3, warmup_steps=3)
GPT1 = Gpt1AdamConfig(peak_lr=1e-3, warmup_fraction=0.3)
TOLERANCE = 1e-6


def test_ten_updates_are_those_of_berts_code():
    found = ten_updates(BERT)
    assert furthest(found, bert_transcribed(peak=1e-3, warmup=3)) < TOLERANCE
    # what the tolerance tells apart
    assert furthest(found, bert_transcribed(peak=1e-3, warmup=3, clip=False)) > TOLERANCE
    every = bert_transcribed(peak=1e-3, warmup=3, decayed=tuple(SHAPES))
    assert furthest(found, every) > TOLERANCE
    assert furthest(found, bert_transcribed(peak=1e-3, warmup=3, decayed=())) > TOLERANCE
    assert furthest(found, bert_transcribed(peak=1e-3, warmup=2)) > TOLERANCE


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ten_updates_are_those_of_gpt1s_code(schedule):
    found = ten_updates(replace(GPT1, schedule=schedule))
    settings = {"peak": 1e-3, "warmup": 0.3, "schedule": schedule}
    assert furthest(found, gpt1_transcribed(**settings)) < TOLERANCE
    assert furthest(found, gpt1_transcribed(**settings, decayed=tuple(SHAPES))) > TOLERANCE
    assert furthest(found, gpt1_transcribed(**settings, counted=1)) > TOLERANCE


def test_ten_updates_are_those_of_adam_with_decoupled_decay_of_matrices():
    found = ten_updates(AdamWConfig(peak_lr=1e-3, epsilon=1e-3), [1e-3] * STEPS)
    assert furthest(found, adamw_transcribed(rate=1e-3)) < TOLERANCE
    assert furthest(found, adamw_transcribed(rate=1e-3, decayed=tuple(SHAPES))) > TOLERANCE
    assert furthest(found, adamw_transcribed(rate=1e-3, coupled=True)) > TOLERANCE


def test_ten_updates_are_those_of_rmsprop_behind_dpos_warm_up():
    found = ten_updates(RmsPropConfig(peak_lr=1e-3, warmup_steps=3, epsilon=1e-3))
    rising = [1e-3 * min(1.0, (step + 1) / 4) for step in range(STEPS)]
    assert furthest(found, rmsprop_transcribed(rates=rising)) < TOLERANCE
    assert furthest(found, rmsprop_transcribed(rates=rising, inside=True)) > TOLERANCE
    assert furthest(found, rmsprop_transcribed(rates=[1e-3] * STEPS)) > TOLERANCE


def test_a_bias_corrected_adam_passes_neither():
    adam = AdamWConfig(peak_lr=1e-3, b2=0.999, epsilon=1e-6, weight_decay=0.01)
    bert_rates = [bert_rate(step, peak=1e-3, warmup=3) for step in range(STEPS)]
    expected = bert_transcribed(peak=1e-3, warmup=3)
    assert furthest(ten_updates(BERT, bert_rates), expected) < TOLERANCE
    assert furthest(ten_updates(adam, bert_rates), expected) > 100 * TOLERANCE

    # GPT-1's differs from it by the corrected decay and the place of epsilon
    rates = [1e-3 * SCHEDULES["cosine"](step / STEPS, 0.3) for step in range(STEPS)]
    expected = gpt1_transcribed(peak=1e-3, warmup=0.3, schedule="cosine")
    assert furthest(ten_updates(GPT1, rates), expected) < TOLERANCE
    assert furthest(ten_updates(replace(adam, epsilon=1e-8), rates), expected) > TOLERANCE


def test_gpt1s_epsilon_stands_outside_the_correction():
    """Told apart by gradients as small as epsilon itself."""
    gradient, numbers = 1e-7, (0.9, 0.999, 1e-8)
    b1, b2, epsilon = numbers
    direction = replace(GPT1, weight_decay=0.0).direction()
    params = {"kernel": jnp.zeros(1)}
    update, _ = direction.update({"kernel": jnp.full(1, gradient)}, direction.init(params), params)
    m, v = (1 - b1) * gradient, (1 - b2) * gradient**2
    outside = math.sqrt(1 - b2) / (1 - b1) * m / (math.sqrt(v) + epsilon)
    inside = (m / (1 - b1)) / (math.sqrt(v / (1 - b2)) + epsilon)
    assert float(update["kernel"][0]) == pytest.approx(outside, rel=1e-4)
    assert abs(outside - inside) > 0.05 * inside


def test_berts_rate_rises_to_the_line_it_comes_down_on():
    config = BertAdamConfig(peak_lr=1e-4, warmup_steps=10_000)

    def rate(step):
        return config.rate(Progress(step, 1_000_000, 0, 1))

    assert rate(0) == 0 and rate(5_000) == pytest.approx(5e-5)
    # it does not start anew at the peak: at the end of the warm-up 1% of the line is behind it
    assert rate(9_999) == pytest.approx(0.9999e-4) and rate(10_000) == pytest.approx(0.99e-4)
    assert rate(500_000) == pytest.approx(5e-5) and rate(999_999) == pytest.approx(1e-10)
    share = BertAdamConfig(peak_lr=1.0, warmup_fraction=0.1)
    assert share.rate(Progress(5, 105, 0, 1)) == pytest.approx(5 / 10)  # int(10.5) steps of warm-up
    assert share.rate(Progress(10, 105, 0, 1)) == pytest.approx(1 - 10 / 105)


def test_gpt1s_pretraining_rate_is_the_papers():
    config = Gpt1AdamConfig(peak_lr=2.5e-4, warmup_steps=2_000)

    def rate(step):
        return config.rate(Progress(step, 100_000, 0, 1))

    assert rate(0) == 0 and rate(1_000) == pytest.approx(1.25e-4)
    assert rate(2_000) == pytest.approx(2.5e-4)
    assert rate(50_000) == pytest.approx(1.25e-4) and rate(100_000) == pytest.approx(0, abs=1e-12)


def test_a_warm_up_of_a_share_is_that_of_as_many_tokens():
    share = AdamWConfig(peak_lr=1e-3, warmup_fraction=0.03, final_ratio=0.0)
    known, none = replace(share, warmup_fraction=0.0, warmup_tokens=300), replace(
        share, warmup_fraction=0.0
    )  # fmt: skip
    at = [Progress(0, 100, tokens, 10_000) for tokens in (100, 299, 300, 301, 5_000, 10_000)]
    rates = [share.rate(progress) for progress in at]
    assert rates == [known.rate(progress) for progress in at]
    assert rates[0] == pytest.approx(1e-3 / 3) and rates[2] == 1e-3 and rates[-1] == 0
    assert none.rate(at[0]) > 0.99e-3  # the control: without it the rate begins at its height


def test_the_rate_of_gpt3_is_a_function_of_tokens():
    config = AdamWConfig(peak_lr=6e-4, warmup_tokens=375_000_000, decay_tokens=260_000_000_000)

    def rate(tokens, step=0):
        return config.rate(Progress(step, 10, tokens, 300_000_000_000))

    assert rate(0) == 0 and rate(187_500_000) == pytest.approx(3e-4)
    assert rate(375_000_000) == pytest.approx(6e-4)
    middle = (260_000_000_000 + 375_000_000) // 2
    assert rate(middle) == pytest.approx(0.55 * 6e-4)
    assert rate(260_000_000_000) == pytest.approx(6e-5)
    assert rate(300_000_000_000) == pytest.approx(6e-5)
    assert rate(middle, step=9) == rate(middle)  # of tokens alone
    linear = replace(config, schedule="linear", final_ratio=0.0)
    assert linear.rate(Progress(0, 1, middle, 1)) == pytest.approx(3e-4)
    constant = replace(config, schedule="constant")
    assert constant.rate(Progress(0, 1, 300_000_000_000, 1)) == 6e-4
    whole = replace(config, decay_tokens=None)  # the whole run
    assert whole.rate(Progress(0, 1, 300_000_000_000, 300_000_000_000)) == pytest.approx(6e-5)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AdamWConfig(peak_lr=0.0), "peak_lr must be positive, got 0.0"),
        (lambda: AdamWConfig(peak_lr=1e-3, clip=0.0), "clip must be positive, got 0.0"),
        (lambda: AdamWConfig(peak_lr=1e-3, b2=1.0), "b2 must be at least 0 and below 1, got 1.0"),
        (
            lambda: AdamWConfig(peak_lr=1e-3, warmup_tokens=9, warmup_fraction=0.1),
            "warmup_tokens 9 and warmup_fraction 0.1 are two warm-ups",
        ),
        (lambda: AdamWConfig(peak_lr=1e-3, warmup_tokens=-1), "warmup_tokens must be >= 0, got -1"),
        (
            lambda: AdamWConfig(peak_lr=1e-3, weight_decay=-0.1),
            "weight_decay must be >= 0, got -0.1",
        ),
        (
            lambda: AdamWConfig(peak_lr=1e-3, final_ratio=2.0),
            "final_ratio must be in 0..1, got 2.0",
        ),
        (
            lambda: AdamWConfig(peak_lr=1e-3, warmup_tokens=9, decay_tokens=9),
            "decay_tokens 9 must be above warmup_tokens 9",
        ),
        (lambda: BertAdamConfig(peak_lr=-1.0), "peak_lr must be positive, got -1.0"),
        (lambda: BertAdamConfig(peak_lr=1.0, warmup_steps=-5), "warmup_steps must be >= 0, got -5"),
        (
            lambda: BertAdamConfig(peak_lr=1.0, weight_decay=-0.1),
            "weight_decay must be >= 0, got -0.1",
        ),
        (
            lambda: BertAdamConfig(peak_lr=1.0, warmup_fraction=1.0),
            "warmup_fraction must be at least 0 and below 1, got 1.0",
        ),
        (lambda: Gpt1AdamConfig(peak_lr=1.0, warmup_steps=-5), "warmup_steps must be >= 0, got -5"),
        (
            lambda: Gpt1AdamConfig(peak_lr=1.0, weight_decay=-0.1),
            "weight_decay must be >= 0, got -0.1",
        ),
        (lambda: Gpt1AdamConfig(peak_lr=1.0, epsilon=0.0), "epsilon must be positive, got 0.0"),
        (
            lambda: Gpt1AdamConfig(peak_lr=1.0, b1=-0.1),
            "b1 must be at least 0 and below 1, got -0.1",
        ),
        (lambda: RmsPropConfig(peak_lr=1.0, warmup_steps=-5), "warmup_steps must be >= 0, got -5"),
        (
            lambda: RmsPropConfig(peak_lr=1.0, decay=1.0),
            "decay must be at least 0 and below 1, got 1.0",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_value(make, said):
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        make()


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (AdamWConfig(peak_lr=1.0, warmup_tokens=500), AdamWConfig(peak_lr=1.0, warmup_tokens=2000)),
        (BertAdamConfig(peak_lr=1.0), BertAdamConfig(peak_lr=1.0, warmup_steps=20)),
        (Gpt1AdamConfig(peak_lr=1.0), Gpt1AdamConfig(peak_lr=1.0, warmup_steps=20)),
        (RmsPropConfig(peak_lr=1.0, warmup_steps=5), RmsPropConfig(peak_lr=1.0, warmup_steps=20)),
    ],
)
def test_a_warm_up_longer_than_the_run_is_known_by_its_rising_rate(short, long):
    assert rising(long, 10, 1000) and not rising(short, 10, 1000)
    assert not rising(long, 1, 100)


BLOCK = {"layers": 2, "width": 16, "heads": 2}
DECODER = GptConfig(**BLOCK, vocab=20, length=16)
EYES = VisionConfig(**BLOCK, image=8, patch=4)
STEM = replace(EYES, stem="convolutions", positions="sincos")
ENCODER = BertConfig(**BLOCK, vocab=20, length=8)
RECURRENT = LstmConfig(vocab=20, length=8, width=16, units=8)
READER = GptVisionConfig(text=DECODER, vision=STEM, image_id=19)
TOKENS, IMAGES = jnp.zeros((1, 1), jnp.int32), jnp.zeros((1, 8, 8, 3))

IN_A_BLOCK = {
    f"stack/blocks/{part}"
    for part in (
        "attention/qkv/bias", "attention/output/bias", "mlp/hidden/bias", "mlp/output/bias",
        "norm1/scale", "norm1/bias", "norm2/scale", "norm2/bias",
    )
}  # fmt: skip
OF_A_STACK = IN_A_BLOCK | {"norm/scale", "norm/bias"}


def below(part, names):
    return {f"{part}/{name}" for name in names}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda key: gpt.init(DECODER, key), OF_A_STACK),
        (
            lambda key: bert.init(ENCODER, key),
            OF_A_STACK
            | {"pooler/bias", "transform/bias", "output_bias/bias", "next/bias"}
            | below("transform_norm", ("scale", "bias")),
        ),
        (
            lambda key: RECURRENT.module().init(key, TOKENS)["params"],
            {"recurrences_0/input/bias", "projection/bias"},
        ),
        (
            lambda key: reward.init(DECODER, key, 3),
            below("model", OF_A_STACK) | {"head/bias", "metadata/bias"},
        ),
        (
            lambda key: Vision(replace(EYES, class_token=True)).init(key, IMAGES)["params"],
            OF_A_STACK | below("embedding", ("pixels/bias", "positions", "class_token")),
        ),
        (
            lambda key: Vision(STEM).init(key, IMAGES)["params"],
            OF_A_STACK | {"embedding/pixels/bias"},
        ),
        (
            lambda key: gpt_vision.init(READER, key),
            below("text", OF_A_STACK)
            | below("vision", {*OF_A_STACK, "embedding/pixels/bias"})
            | {"connector/hidden/bias", "connector/output/bias"},
        ),
        (  # as the optimizer is given them: the base is none of its business
            lambda key: adapted(reward.init(DECODER, key, 3), 2, key)["lora"],
            {"head/bias", "metadata/bias"},
        ),
    ],
    ids=["gpt", "bert", "lstm", "reward", "vision", "convolutions", "gpt_vision", "adapters"],
)
def test_of_each_model_biases_norms_and_patches_positions_alone_are_not_decayed(make, expected):
    params = nn.unbox(jax.eval_shape(make, jax.random.key(0)))
    left = {name for name, decays in named_leaves(decayed(params)).items() if not decays}
    assert left == expected
    assert len(left) < len(named_leaves(params))
