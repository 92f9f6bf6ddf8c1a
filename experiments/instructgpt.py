"""InstructGPT (Ouyang et al. 2022, "Training language models to follow instructions").

    python -m launch.train --experiment=instructgpt:sft --set init=runs/gpt2-tiny \
        --set data.train=demonstrations.jsonl --workdir=runs/sft
    python -m launch.train --experiment=instructgpt:reward --set init=runs/sft \
        --set data.train=comparisons.jsonl --workdir=runs/reward
"""

from lm.rlhf.reward import RewardTraining
from lm.rlhf.sft import Sft
from lm.train.optimizer import AdamWConfig
from lm.train.session import LoopConfig

SIZES = ("tiny", "1.3b", "6b", "175b")


def sft(size: str = "tiny") -> Sft:
    """Step 1: supervised fine-tuning on demonstrations; the paper's numbers, or a CPU's."""
    if size == "tiny":
        return Sft(
            optim=AdamWConfig(peak_lr=1e-3, weight_decay=0.0),
            batch=16,
            epochs=3.0,
            length=128,
            residual_dropout=0.0,
            loop=LoopConfig(evaluate_every=100, save_every=100, sample_tokens=48),
        )
    rates = {"1.3b": 9.65e-6, "6b": 9.65e-6, "175b": 5.03e-6}  # appendix C.1
    return Sft(
        optim=AdamWConfig(peak_lr=rates[size], weight_decay=0.0),
        batch=8 if size == "175b" else 32,
        epochs=16.0,
        length=2048,
    )


def reward(size: str = "tiny") -> RewardTraining:
    """Step 2: the reward model, from rankings of 2 to 9 answers; the paper has one, of 6B."""
    if size == "tiny":
        return RewardTraining(
            optim=AdamWConfig(peak_lr=1e-3, weight_decay=0.0),
            batch=8,
            length=128,
            loop=LoopConfig(evaluate_every=100, save_every=100),
        )
    return RewardTraining(
        optim=AdamWConfig(peak_lr=9e-6, weight_decay=0.0),  # appendix C.2
        batch=64,  # prompts: up to 2,304 comparisons
        length=2048,
    )
