"""InstructGPT (Ouyang et al. 2022, "Training language models to follow instructions").

    python -m launch.train --experiment=instructgpt:sft --set init=runs/gpt2-tiny \
        --set data.train=demonstrations.jsonl --workdir=runs/sft
    python -m launch.train --experiment=instructgpt:reward --set init=runs/sft \
        --set data.train=comparisons.jsonl --workdir=runs/reward
    python -m launch.train --experiment=instructgpt:ppo_ptx --set init=runs/sft \
        --set reward.run=runs/reward --set data.train=prompts.jsonl --workdir=runs/ppo

or all of it, a program ranking in place of people:

    python -m launch.train --experiment=instructgpt:pipeline --set init=runs/gpt2-tiny \
        --set demonstrations=demonstrations.jsonl --workdir=runs/instructgpt
"""

from dataclasses import replace

from experiments import gpt3
from lm.data.comparisons import ComparisonsConfig
from lm.data.prompts import RowsConfig
from lm.data.tokens import TextConfig
from lm.models.gpt import GptConfig
from lm.rlhf.controller import KlConfig
from lm.rlhf.dpo import Dpo
from lm.rlhf.experience import AdvantageConfig
from lm.rlhf.labeling import LabelingConfig
from lm.rlhf.ppo import Ppo
from lm.rlhf.reward import RewardTraining
from lm.rlhf.scores import RewardConfig
from lm.rlhf.sft import Sft
from lm.rlhf.truncation import TruncationConfig
from lm.rlhf.update import UpdateConfig
from lm.studies.alignment import Alignment
from lm.studies.ancestor import Ancestor
from lm.studies.several import TOY
from lm.train.optimizer import AdamWConfig, Gpt1AdamConfig, RmsPropConfig
from lm.train.session import LoopConfig

PER_USER = 200  # prompts (section 3.2)
# How long a common prefix is was not printed: so many characters are our choice. Labelers' prompts
# of few shots share examples on purpose: --set data.common_prefix=None keeps them.
COMMON_PREFIX = 256
PROMPT_LENGTH = 1024  # tokens; longer prompts are left out of every step (appendix C)
GPT3 = {"1.3b": "xl", "6b": "6.7b", "175b": "175b"}  # the paper's names, and GPT-3's


def decoder(size: str) -> GptConfig:
    """The architecture of GPT-3 (section 3.5); a tiny stage takes that of its `init`."""
    model = gpt3.train(GPT3[size]).model
    assert isinstance(model, GptConfig)
    return model


def named(text: str | None) -> TextConfig | None:
    """Pre-training text by name; that of the run to start from where there is none."""
    return None if text is None else TextConfig(train=text)


def sft(size: str = "tiny", text: str | None = None) -> Sft:
    """Step 1: supervised fine-tuning on demonstrations; the paper's numbers, or a CPU's."""
    if size == "tiny":
        return Sft(
            text=named(text),
            optim=AdamWConfig(peak_lr=1e-3, weight_decay=0.0),
            batch=16,
            epochs=3.0,
            length=128,
            residual_dropout=0.0,
            loop=LoopConfig(evaluate_every=100, save_every=100, sample_tokens=48),
        )
    rates = {"1.3b": 9.65e-6, "6b": 9.65e-6, "175b": 5.03e-6}  # appendix C.1
    epoch = 1600 if size == "175b" else 400  # steps, of the paper's 12,725 demonstrations
    return Sft(
        data=RowsConfig(per_user=PER_USER, common_prefix=COMMON_PREFIX),
        text=named(text),
        model=decoder(size),
        optim=AdamWConfig(peak_lr=rates[size], weight_decay=0.0),
        batch=8 if size == "175b" else 32,
        epochs=16.0,
        length=2048,
        prompt_length=PROMPT_LENGTH,
        residual_dropout=0.2,
        # with a reward model, loop.keep=17 lets it choose among all epochs
        loop=LoopConfig(evaluate_every=epoch, save_every=epoch, sample_tokens=256),
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
        data=ComparisonsConfig(per_user=PER_USER, common_prefix=COMMON_PREFIX),
        model=decoder("6b"),
        optim=AdamWConfig(peak_lr=9e-6, weight_decay=0.0),  # appendix C.2
        batch=64,  # prompts: up to 2,304 comparisons
        length=2048,
        prompt_length=PROMPT_LENGTH,
    )


def dpo(size: str = "tiny") -> Dpo:
    """Rankings without a reward model (Rafailov et al. 2023), in place of steps 2 and 3."""
    loop = LoopConfig(evaluate_every=100, save_every=100)
    if size == "tiny":
        optim = AdamWConfig(peak_lr=2e-4, weight_decay=0.0)
        return Dpo(optim=optim, batch=8, length=128, loop=loop)
    return Dpo(
        data=reward(size).data,
        model=decoder(size),
        # that paper's appendix B, with beta 0.1; the norm is its code's
        optim=RmsPropConfig(peak_lr=1e-6, warmup_steps=150, clip=10.0),
        batch=64,
        length=2048,
        prompt_length=PROMPT_LENGTH,
        loop=loop,
    )


def ppo(size: str = "tiny", text: str | None = None) -> Ppo:
    """Step 3: PPO against the reward model of step 2, from the model of step 1."""
    if size == "tiny":
        return Ppo(
            text=named(text),
            optim=AdamWConfig(peak_lr=2e-4, weight_decay=0.0),
            value_optim=AdamWConfig(peak_lr=5e-4, weight_decay=0.0),
            batch=32,
            steps=100,
            prompt_length=64,
            answer_length=64,
            advantages=AdvantageConfig(missing_end=1.0),
            update=UpdateConfig(minibatches=4, average=0.9),
            loop=LoopConfig(log_every=1, evaluate_every=25, save_every=25),
        )
    value_rate = 5e-6 if size == "175b" else 9e-6  # appendix C.4
    return Ppo(
        data=RowsConfig(per_user=PER_USER, common_prefix=COMMON_PREFIX),  # customers' alone
        text=named(text),
        model=decoder(size),
        value_model=decoder("6b"),  # of every policy, as the reward model
        # swept from 2.55e-6 to 2.55e-5 and not printed; above 8.05e-6 diverged without ptx
        optim=AdamWConfig(peak_lr=5e-6, weight_decay=0.0),
        value_optim=AdamWConfig(peak_lr=value_rate, weight_decay=0.0),
        batch=512,
        steps=500,  # 256k episodes
        prompt_length=PROMPT_LENGTH,
        answer_length=1024,
        kl=KlConfig(beta=0.02),
        loop=LoopConfig(log_every=1, evaluate_every=50, save_every=50),
    )


def ppo_ptx(size: str = "tiny", text: str | None = None) -> Ppo:
    """Step 3 with the gradient of pre-training text beside PPO's, which keeps what was learned."""
    config = ppo(size, text)
    # the paper's gamma leaves nothing of PPO's gain in a batch of 32 short answers
    gamma, text_rows = (1.0, 2) if size == "tiny" else (27.8, 8)
    return replace(config, update=replace(config.update, gamma=gamma, text_rows=text_rows))


def sentiment() -> Ancestor:
    """Books gone on with warmly and happily, in miniature (Ziegler et al. 2019, section 3.1).

    The mechanics are those of lm-human-preferences: a classifier chooses, `--set judge.run=RUN` of
    a fine-tuning on SST-2 (theirs: of product reviews). In brackets their own numbers, where a tiny
    model bears others.
    """
    # (1e-5); TensorFlow's Adam, as GPT-1's
    adam = Gpt1AdamConfig(peak_lr=2e-4, epsilon=1e-5, weight_decay=0.0, clip=None)
    return Ancestor(
        labeling=LabelingConfig(prompts=2048, answers=(4, 4)),  # (5,000 to 60,000 labels)
        reward=RewardTraining(
            # (5e-5); the same Adam, from the whole rate down to a last small part
            optim=Gpt1AdamConfig(
                peak_lr=1e-3,
                warmup_fraction=0.0,
                schedule="linear",
                epsilon=1e-5,
                weight_decay=0.0,
                clip=None,
            ),
            batch=32,
            length=64,
            loss="choice",
            end_token=False,
            normalise=256,
            loop=LoopConfig(evaluate_every=100, save_every=100),
        ),
        ppo=Ppo(
            optim=adam,
            value_optim=adam,
            value_from="trunk",
            batch=64,  # (512)
            steps=40,  # (some 400 to 4,000)
            prompt_length=32,  # (64)
            answer_length=24,
            temperature=0.7,
            fixed_length=True,
            reward=RewardConfig(truncation=TruncationConfig(mark=".", after=16), normalise=256),
            kl=KlConfig(beta=0.1, target=6.0, horizon=10_000),  # (0.15)
            advantages=AdvantageConfig(whitening="minibatch"),
            update=UpdateConfig(minibatches=1, inner_epochs=4, value_weight=0.1, average=0.0),
            warmup=0,
            linear_decay=True,
            loop=LoopConfig(log_every=1, evaluate_every=50, save_every=50),
        ),
    )


def descriptiveness() -> Ancestor:
    """The same for what describes best (section 3.2.1).

    A program counts words of the senses where the paper has people.
    """
    return replace(sentiment(), judge=RewardConfig(function="lm.rlhf.gold:descriptive"))


def pipeline(size: str = "tiny") -> Alignment:
    """All three steps in order from a pre-trained run, with one report; resumes at any point."""
    start = sft(size)
    if size != "tiny":  # appendix C.4: 2 epochs, with 10% of pre-training data
        rates = {"1.3b": 5e-6, "6b": 1.04e-5, "175b": 2.45e-6}
        start = replace(
            start, epochs=2.0, pretraining_share=0.1,
            optim=replace(start.optim, peak_lr=rates[size]),
        )  # fmt: skip
    return Alignment(
        sft=start,
        reward=reward(size),
        ppo=ppo(size),
        ppo_ptx=ppo_ptx(size),
        judge=RewardConfig(function=TOY),
    )
