"""GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners").

    python -m launch.train --experiment=gpt2:small --set data.train=FOLDER --workdir=runs/gpt2-small

Sizes, context and vocabulary are the report's (table 2) and the released models'. It publishes no
optimizer settings but the batch of 512, and that the rate was tuned for each size: the rest is
nanoGPT's recipe, said where it stands, and the rates above the small size's are our choice, GPT-3's
of the sizes of the same names (Brown et al. 2020, table 2.1).
"""

from dataclasses import replace
from typing import Literal

from lm.models.gpt import GptConfig
from lm.text.tokenizer import TokenizerConfig
from lm.train.optimizer import AdamWConfig
from lm.train.pretrain import Pretrain, Reference
from lm.train.session import LoopConfig


def nanogpt(task: str, system: str) -> Reference:
    return Reference.to("valid_loss", "nanogpt", task, "loss", system)


def train(size: str = "small") -> Pretrain:
    """One of the four sizes by name: small, medium, large, xl."""
    return {"small": small, "medium": medium, "large": large, "xl": xl}[size]()


def small() -> Pretrain:
    """12 layers of width 768 (table 2, there "117M"; counted, 124M)."""
    reference = nanogpt("openwebtext", "GPT-2 small")
    return sized(12, 768, 12, peak_lr=6e-4, remat="none", reference=reference)  # nanoGPT's rate


def medium() -> Pretrain:
    """24 layers of width 1024 (table 2, there "345M"; counted, 355M). Heads: released model."""
    return sized(24, 1024, 16, peak_lr=3e-4)


def large() -> Pretrain:
    """36 layers of width 1280 (table 2, there "762M"; counted, 774M). Heads: released model."""
    return sized(36, 1280, 20, peak_lr=2.5e-4)


def xl() -> Pretrain:
    """48 layers of width 1600 (table 2, there "1542M"; counted, 1558M). Heads: released model."""
    return sized(48, 1600, 25, peak_lr=2e-4)


def sized(
    layers: int,
    width: int,
    heads: int,
    *,
    peak_lr: float,
    remat: Literal["none", "full"] = "full",
    reference: Reference | None = None,
) -> Pretrain:
    tokens = 491_520  # a step: nanoGPT's 0.49M; the report says 512 x 1024
    return Pretrain(
        # first values are Hugging Face's and nanoGPT's, positions at 0.02 among them; for those of
        # OpenAI's trainer set model.init=openai and model.position_std=0.01
        model=GptConfig(
            layers=layers,
            width=width,
            heads=heads,
            length=1024,
            vocab=50_257,
            dtype="bfloat16",  # our choice
            remat=remat,
        ),
        optim=AdamWConfig(
            peak_lr=peak_lr,
            warmup_tokens=2_000 * tokens,  # nanoGPT, with the rest of this optimizer
            final_ratio=0.1,
            b2=0.95,
            weight_decay=0.1,
        ),
        tokenizer=TokenizerConfig(kind="gpt2", path="vocab_gpt2"),
        steps=600_000,
        batch=tokens // 1024,
        reference=reference,
    )


def tiny() -> Pretrain:
    """About two minutes on a laptop's CPU, on the text of Python's own library (our choice)."""
    steps, batch, length = 300, 16, 128
    return Pretrain(
        model=GptConfig(layers=4, width=128, heads=4, length=length, vocab=2048, unroll=4),
        optim=AdamWConfig(
            peak_lr=4e-3, warmup_tokens=30 * batch * length, final_ratio=0.05, b2=0.99
        ),
        tokenizer=TokenizerConfig(kind="sentencepiece", vocab=2048),
        steps=steps,
        batch=batch,
        loop=LoopConfig(
            evaluate_every=100,
            save_every=100,
            sample_tokens=120,
            sample_prompts=("def ", "import "),
        ),
        trigram=True,
    )


def shakespeare_char_cpu() -> Pretrain:
    """nanoGPT's character-level Shakespeare for a CPU: 4 layers of 128, 2,000 steps."""
    batch, length = 12, 64
    return Pretrain(
        model=GptConfig(layers=4, width=128, heads=4, length=length, vocab=269, unroll=4),
        optim=AdamWConfig(
            peak_lr=1e-3, warmup_tokens=100 * batch * length, final_ratio=0.1, b2=0.99
        ),
        steps=2_000,
        batch=batch,
        loop=LoopConfig(evaluate_every=500, save_every=500, sample_tokens=300),
        reference=nanogpt("shakespeare_char", "4 layers of 128"),
    )


def shakespeare_char() -> Pretrain:
    """nanoGPT's character-level Shakespeare: 6 layers of 384, 5,000 steps, for an accelerator."""
    batch, length, dropout = 64, 256, 0.2
    return replace(
        shakespeare_char_cpu(),
        model=GptConfig(
            layers=6, width=384, heads=6, length=length, vocab=269, embedding_dropout=dropout,
            attention_dropout=dropout, residual_dropout=dropout,
        ),
        optim=AdamWConfig(
            peak_lr=1e-3, warmup_tokens=100 * batch * length, final_ratio=0.1, b2=0.99
        ),
        steps=5_000,
        batch=batch,
        loop=LoopConfig(evaluate_every=250, save_every=250, sample_tokens=500),
        reference=nanogpt("shakespeare_char", "6 layers of 384"),
    )  # fmt: skip
