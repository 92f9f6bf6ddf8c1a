"""GPT-1 (Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training").

    python -m launch.train --experiment=gpt1:tiny --set data.train=FOLDER --workdir=runs/gpt1-tiny

The decoder of the released code (openai/finetune-transformer-lm): each sum is normalised, there is
no norm after the last block, and dropout falls on the embedding tables themselves. The released
softmax also ranges over the position rows of its one table; here it ranges over the tokens.
"""

from dataclasses import replace

from lm.data.tasks import TaskConfig
from lm.models.gpt import GptConfig
from lm.models.lstm import LstmConfig
from lm.text.tokenizer import TokenizerConfig
from lm.train.finetune import Finetune
from lm.train.optimizer import Gpt1AdamConfig
from lm.train.pretrain import Pretrain, Reference
from lm.train.session import LoopConfig

TOKENS_PER_WORD = 1.28  # of the published vocabulary, measured on English novels by us


def decoder(
    layers: int,
    width: int,
    heads: int,
    *,
    vocab: int,
    length: int,
    std: float = 0.02,
    dropout: float = 0.1,
) -> GptConfig:
    """GPT-1's block, dropout and initial values at any size."""
    return GptConfig(
        layers=layers,
        width=width,
        heads=heads,
        vocab=vocab,
        length=length,
        norm="post",
        final_norm=False,
        init="gpt1",
        std=std,
        embedding_dropout=dropout,
        attention_dropout=dropout,
        residual_dropout=dropout,
        dropped="table",
    )


def base() -> Pretrain:
    """12 layers of width 768 (section 4.1): 100 epochs of BooksCorpus, windows of 512."""
    perplexity = Reference.to("valid_perplexity", "gpt1", "bookscorpus", "perplexity", "GPT-1")
    return replace(published(decoder(12, 768, 12, vocab=40_478, length=512)), reference=perplexity)


def original() -> Pretrain:
    """GPT-1's data and rules at the size of the first Transformer's base.

    6 layers of width 512, 8 heads, 2,048 hidden units (Vaswani et al. 2017, table 3).
    """
    return published(decoder(6, 512, 8, vocab=40_478, length=512))


def lstm() -> Pretrain:
    """The paper's control under the same rules: one layer of 2,048 units (section 5).

    Its width is the transformer's (lm/models/lstm.py).
    """
    return published(LstmConfig(width=768, units=2_048, vocab=40_478, length=512))


def published(model: GptConfig | LstmConfig) -> Pretrain:
    tokens = 800_000_000 * TOKENS_PER_WORD  # of an epoch, of which there are 100 (section 4.1)
    return Pretrain(
        model=replace(model, dtype="bfloat16"),  # our choice
        optim=Gpt1AdamConfig(peak_lr=2.5e-4, warmup_steps=2_000),
        tokenizer=TokenizerConfig(kind="gpt1", path="vocab_gpt1"),
        steps=round(100 * tokens / (64 * 512)),
        batch=64,
    )


def tiny() -> Pretrain:
    """2 layers of width 128 for a laptop's CPU; budget, rate and vocabulary are our choice."""
    return Pretrain(
        model=decoder(2, 128, 2, vocab=4096, length=64),
        optim=Gpt1AdamConfig(peak_lr=2e-3, warmup_steps=200),
        tokenizer=TokenizerConfig(kind="gpt1", vocab=4096),
        steps=3_000,
        batch=32,
        loop=LoopConfig(
            evaluate_every=1_000, save_every=1_000, sample_tokens=80, sample_prompts=("it was ",)
        ),
    )


def finetune(task: str = "sst2") -> Finetune:
    """A task on top of a pre-trained GPT-1 (section 4.1), from the run in `init`.

    Rows have 512 tokens, or as many as that run's model reads.
    """
    return Finetune(
        data=TaskConfig(name=task),
        optim=Gpt1AdamConfig(peak_lr=6.25e-5, schedule="linear"),
        batch=32,
        epochs=3.0,
        lm_weight=0.5,
        loop=LoopConfig(log_every=50, evaluate_every=1_000, save_every=1_000),
    )
