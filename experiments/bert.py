"""BERT (Devlin et al. 2019, "Pre-training of Deep Bidirectional Transformers").

    python -m launch.train --experiment=bert:tiny --set data.train=FOLDER --workdir=runs/bert-tiny
    python -m launch.train --experiment='bert:finetune(task="sst2")' --set data.root=FOLDER \
        --set init=runs/bert-tiny --workdir=runs/bert-sst2

Base and Large are the paper's (section 3); the small ones are the repository's README (Turc et al.
2019). Optimizer, stages and data are appendix A.2 and the released code.
"""

from dataclasses import replace
from typing import Literal

from lm.data.tasks import TaskConfig
from lm.data.tokens import TextConfig
from lm.models.bert import BertConfig
from lm.text.tokenizer import TokenizerConfig
from lm.train.finetune import Finetune
from lm.train.masked import MaskedPretrain
from lm.train.optimizer import BertAdamConfig
from lm.train.pretrain import Reference
from lm.train.session import LoopConfig


def sized(
    layers: int, width: int, heads: int, dtype: Literal["float32", "bfloat16"] = "bfloat16"
) -> MaskedPretrain:
    return MaskedPretrain(
        # activations in bfloat16 are our choice
        model=BertConfig(layers=layers, width=width, heads=heads, vocab=30_522, dtype=dtype),
        optim=BertAdamConfig(peak_lr=1e-4, warmup_steps=10_000),
        steps=1_000_000,
        batch=256,
        stages=((128, 0.9), (512, 0.1)),
        tokenizer=TokenizerConfig(kind="wordpiece", vocab=30_522),
    )


def perplexity(system: str) -> Reference:
    """Of masked words, held out (table 6)."""
    return Reference.to("valid_perplexity", "bert", "masked_words", "perplexity", system)


def base() -> MaskedPretrain:
    """12 layers of width 768 (section 3: 110M parameters)."""
    return replace(sized(12, 768, 12), reference=perplexity("BERT Base"))


def large() -> MaskedPretrain:
    """24 layers of width 1024 (section 3: 340M parameters; counted, 336M)."""
    return replace(sized(24, 1024, 16), reference=perplexity("BERT Large"))


def medium() -> MaskedPretrain:
    """8 layers of width 512 (google-research/bert README)."""
    return sized(8, 512, 8)


def small() -> MaskedPretrain:
    """4 layers of width 512 (google-research/bert README)."""
    return sized(4, 512, 8)


def mini() -> MaskedPretrain:
    """4 layers of width 256 (google-research/bert README)."""
    return sized(4, 256, 4, dtype="float32")


def tiny() -> MaskedPretrain:
    """2 layers of width 128 (google-research/bert README), in minutes on a laptop's CPU.

    Budget, rate, vocabulary, two short stages, no dropout and wider initial kernels are our choice:
    with the published 0.02 of a width of 768, attention at 128 goes unheard for thousands of steps.
    """
    return MaskedPretrain(
        model=BertConfig(
            layers=2,
            width=128,
            heads=2,
            vocab=4096,
            length=128,
            std=0.08,
            attention_dropout=0.0,
            residual_dropout=0.0,
            embedding_dropout=0.0,
        ),
        optim=BertAdamConfig(peak_lr=5e-4, warmup_steps=200),
        steps=4_000,
        batch=32,
        stages=((64, 0.9), (128, 0.1)),
        tokenizer=TokenizerConfig(kind="wordpiece", vocab=4096),
        data=TextConfig(valid_fraction=0.05),
        loop=LoopConfig(evaluate_every=1_000, save_every=1_000),
    )


def finetune(task: str = "sst2") -> Finetune:
    """A task on top of a pre-trained BERT, from the run in `init`.

    Batches, epochs and rates of SQuAD and SWAG are those of sections 4.2 to 4.4; for other tasks
    the paper chooses the rate on dev among 5e-5, 4e-5, 3e-5 and 2e-5 (sweeps:bert_rates), and the
    first of them stands here. Rows are the released code's: 384 tokens of spans and 128 of the
    rest, or as many as that run's model reads.
    """
    return Finetune(
        data=TaskConfig(name=task),
        optim=BertAdamConfig(peak_lr=2e-5 if task == "swag" else 5e-5),
        batch={"squad": 32, "squad2": 48, "swag": 16}.get(task, 32),
        epochs=2.0 if task == "squad2" else 3.0,
        loop=LoopConfig(log_every=50, evaluate_every=1_000, save_every=1_000),
    )
