"""GPT-3 (Brown et al. 2020, "Language Models are Few-Shot Learners").

    python -m launch.train --experiment=gpt3:175b --workdir=gs://bucket/175b

Sizes, rates and batches are table 2.1's, the rules those of section 2 and appendix B, counted in
tokens. The five texts (table 2.2) are yours to make, with launch.tokenize, or to name otherwise in
data.mixture. Layers alternate between dense and locally banded attention (section 2.1); the paper
prints neither their order nor the band, and not the length of each size's batch ramp: those are our
choice. Two entries of table 2.1 contradict the parameter counts of table D.1, which decides: XL has
16 heads of 128, not 24, and 13B is 5120 wide, not 5140.
"""

from dataclasses import dataclass, replace
from typing import Literal

from lm.core.mesh import MeshConfig
from lm.data.batches import BatchRamp, BatchSizes
from lm.data.puzzle_text import PuzzleText
from lm.data.tokens import TextConfig
from lm.evals.published import loss_law
from lm.models.gpt import GptConfig
from lm.text.tokenizer import TokenizerConfig
from lm.train.optimizer import AdamWConfig
from lm.train.pretrain import Pretrain, Reference
from lm.train.session import LoopConfig

LENGTH, VOCAB = 2048, 50_257
MIXTURE = (  # table 2.2, whose weights sum to 1.01; the texts are named as a user would keep them
    ("Common Crawl (filtered)", "common_crawl", 0.60),
    ("WebText2", "webtext2", 0.22),
    ("Books1", "books1", 0.08),
    ("Books2", "books2", 0.08),
    ("Wikipedia", "wikipedia", 0.03),
)
TOKENS = 300_000_000_000  # of every size
PF_DAY = 1e15 * 86_400  # FLOPs


@dataclass(frozen=True)
class Row:
    """A line of table 2.1, and the tokens over which its batch grows (4 to 12 billion)."""

    layers: int
    width: int
    heads: int
    head_size: int
    batch: int  # sequences
    peak_lr: float
    ramp: int


SIZES = {
    "small": Row(12, 768, 12, 64, 256, 6.0e-4, 4_000_000_000),
    "medium": Row(24, 1024, 16, 64, 256, 3.0e-4, 4_000_000_000),
    "large": Row(24, 1536, 16, 96, 256, 2.5e-4, 4_000_000_000),
    "xl": Row(24, 2048, 16, 128, 512, 2.0e-4, 6_000_000_000),
    "2.7b": Row(32, 2560, 32, 80, 512, 1.6e-4, 6_000_000_000),
    "6.7b": Row(32, 4096, 32, 128, 1024, 1.2e-4, 8_000_000_000),
    "13b": Row(40, 5120, 40, 128, 1024, 1.0e-4, 8_000_000_000),
    "175b": Row(96, 12_288, 96, 128, 1536, 0.6e-4, 12_000_000_000),
}


def train(size: str = "small") -> Pretrain:
    """One of the eight sizes (table 2.1): small, medium, large, xl, 2.7b, 6.7b, 13b, 175b."""
    row = SIZES[size]
    # "the modified initialization" of GPT-2 (section 2.1), in Hugging Face's and nanoGPT's reading,
    # positions at 0.02 among them; for OpenAI's see experiments/gpt2.py
    model = GptConfig(
        layers=row.layers,
        width=row.width,
        heads=row.heads,
        head_size=row.head_size,
        length=LENGTH,
        vocab=VOCAB,
        pattern=("dense", "banded"),
        band=256,
        dtype="bfloat16",  # our choice, with remat
        remat="full",
    )
    ramp = BatchRamp(start=16, tokens=row.ramp)  # from 32k tokens
    days = 6 * model.parameters() * TOKENS / PF_DAY
    factor, exponent = loss_law()
    return Pretrain(
        model=model,
        optim=AdamWConfig(
            peak_lr=row.peak_lr,
            warmup_tokens=375_000_000,
            decay_tokens=260_000_000_000,
            final_ratio=0.1,
            b1=0.9,
            b2=0.95,
            epsilon=1e-8,
            weight_decay=0.1,
            clip=1.0,
        ),
        tokenizer=TokenizerConfig(kind="gpt2", path="vocab_gpt2"),
        data=TextConfig(mixture=MIXTURE),
        steps=BatchSizes(row.batch, LENGTH, ramp).steps_to(TOKENS),
        batch=row.batch,
        ramp=ramp,
        reference=Reference(
            name="valid_loss",
            value=round(factor * days**-exponent, 3),
            source=f"figure 3.1's fit {factor} C^-{exponent} at this size's compute, on its own "
            "text",
        ),
    )


@dataclass(frozen=True)
class Placement:
    """How 175B lies on a slice of TPUs."""

    fsdp: int
    tensor: int
    batch: int = 1536
    remat: Literal["full", "qkv", "products"] = "full"
    stream: Literal["width", "length"] = "width"
    vocabulary_parts: int = 1


PODS = {  # of those tried, what its compiler bounds best: results/pods.md
    "v5p:8x8x16": Placement(256, 4, remat="products"),
    "v5p:8x8x8": Placement(128, 4, remat="qkv"),
    "v6e:16x16": Placement(64, 4, batch=768),
    "v5e:16x16": Placement(16, 16, batch=128),
    "tpu7x:8x8x8": Placement(512, 2, remat="products"),
}


def pod(chips: str = "v5p:8x8x16") -> Pretrain:
    """175B on a slice of TPUs: v5p:8x8x16, v5p:8x8x8, v6e:16x16, v5e:16x16 or tpu7x:8x8x8.

    Two departures, both in results/pods.md. Where the batch of 1536 does not fit, it is the largest
    that does, 768 rows (1.57M tokens) on v6e:16x16 and 128 (0.26M) on v5e:16x16, at the rate that
    table 2.1 has for 3.2M and in one microbatch. And the first steps have a row for each part of
    the mesh, 524k, 262k, 131k, 33k and 1M tokens in the order above, where the paper begins at 32k:
    fewer rows would be filled up, and a step take the same time.
    """
    place, whole = PODS[chips], train("175b")
    assert isinstance(whole.model, GptConfig)
    ramp = BatchRamp(start=place.fsdp, tokens=SIZES["175b"].ramp)  # a row for each part
    return replace(
        whole,
        model=replace(whole.model, remat=place.remat, stream=place.stream, narrow_products=True),
        mesh=MeshConfig(data=1, fsdp=place.fsdp, tensor=place.tensor),
        vocabulary_parts=place.vocabulary_parts,
        batch=place.batch,
        ramp=ramp,
        steps=BatchSizes(place.batch, LENGTH, ramp).steps_to(TOKENS),
    )


def tiny() -> Pretrain:
    """Every rule in minutes on a laptop's CPU, on Python's own library (our choice)."""
    batch, length, tokens = 16, 128, 300_000
    ramp = BatchRamp(start=4, tokens=tokens // 8, sizes=4)  # each takes seconds to compile
    return Pretrain(
        model=GptConfig(
            layers=4, width=128, heads=4, length=length, vocab=2048, pattern=("dense", "banded"),
            band=length // 8, unroll=2,
        ),
        optim=AdamWConfig(
            peak_lr=4e-3, warmup_tokens=tokens // 10, decay_tokens=tokens * 26 // 30, b2=0.95
        ),
        tokenizer=TokenizerConfig(kind="sentencepiece", vocab=2048),
        data=TextConfig(
            mixture=(("modules", "stdlib:*.py", 0.6), ("packages", "stdlib:*/**/*.py", 0.4))
        ),
        steps=BatchSizes(batch, length, ramp).steps_to(tokens),
        batch=batch,
        ramp=ramp,
        loop=LoopConfig(
            evaluate_every=100,
            save_every=100,
            sample_tokens=120,
            sample_prompts=("def ", "import "),
        ),
        trigram=True,
    )  # fmt: skip


LADDER = {  # layers, width, heads, rate: our choice
    "0.01m": (2, 16, 2, 8e-3),
    "0.04m": (2, 32, 2, 6e-3),
    "0.13m": (2, 64, 2, 5e-3),
    "0.26m": (2, 96, 3, 4e-3),
    "0.45m": (2, 128, 4, 3e-3),
    "0.85m": (4, 128, 4, 3e-3),
    "2.7m": (6, 192, 6, 1.5e-3),
    "10m": (8, 320, 10, 1e-3),
    "32m": (10, 512, 16, 7e-4),
}


def ladder(size: str = "0.13m") -> Pretrain:
    """Learns in context from small tasks: 0.01m, 0.04m, 0.13m, 0.26m, 0.45m, 0.85m, 2.7m, 10m, 32m.

    Layers alternate as GPT-3's do, here with the banded one first: it gathers an example, and the
    dense one looks for it.
    """
    layers, width, heads, rate = LADDER[size]
    steps, batch, length = 2_000, 16, 128
    return Pretrain(
        model=GptConfig(
            layers=layers, width=width, heads=heads, length=length, vocab=269,
            pattern=("banded", "dense"), band=8, unroll=layers,
            std=0.12, token_std=0.2, position_std=0.2, positions="sinusoid",  # for small widths
        ),
        optim=AdamWConfig(
            peak_lr=rate, warmup_tokens=50 * batch * length, b2=0.99, weight_decay=0.02
        ),
        steps=steps,
        batch=batch,
        data=PuzzleText(),
        loop=LoopConfig(log_every=50, evaluate_every=100_000, save_every=1_000, keep=1),
        evaluate_batches=10,
    )  # fmt: skip
