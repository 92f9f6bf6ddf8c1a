"""GPT-4 (OpenAI 2023, "GPT-4 Technical Report"), a decoder that reads images and text.

    python -m launch.train --experiment=gpt4:tiny --set data.root=DATA --workdir=runs/gpt4-tiny
    python -m launch.sample --workdir=runs/gpt4-tiny --image=a.png --prompt="is it red?"

and then, which answers are right, and PPO for them:

    python -m launch.train --experiment=gpt4:reward --set init=runs/gpt4-tiny \
        --set data.images.root=DATA --workdir=runs/gpt4-reward
    python -m launch.train --experiment=gpt4:ppo --set init=runs/gpt4-tiny \
        --set reward.function=None --set reward.run=runs/gpt4-reward --set images.root=DATA \
        --workdir=runs/gpt4-ppo

The report gives no size, architecture or data: every number here is ours, or that of one of the two
recipes which are documented, LLaVA-1.5 (Liu et al. 2023) and PaliGemma (Beyer et al. 2024).
"""

from dataclasses import replace
from typing import Any, Literal

from experiments import gpt2, gpt3, instructgpt
from lm.data.visual import VisualConfig
from lm.models.gpt import GptConfig
from lm.models.gpt_vision import GptVisionConfig
from lm.models.vision import VisionConfig
from lm.rlhf.controller import KlConfig
from lm.rlhf.scores import RewardConfig
from lm.rlhf.seeing import SeeingPpo
from lm.rlhf.seeing_reward import SeeingReward, SeenComparisons
from lm.rlhf.update import UpdateConfig
from lm.text.tokenizer import TokenizerConfig
from lm.train.optimizer import AdamWConfig
from lm.train.session import LoopConfig
from lm.train.visual import VisualTuning

SMALL_IMAGE = 12  # the image's id among the specials of a vocabulary of our own
GPT2_IMAGE = 50_257  # the id after GPT-2's last
WARMUP = 50 * 32 * 32  # tokens, of the small models
CHARTS_WARMUP = 250 * 32 * 144


def tiny() -> VisualTuning:
    """225 thousand parameters that learn easy-VQA on a laptop's CPU, from nothing (our choice)."""
    data = VisualConfig(sets=("easy_vqa", "easy_captions"), times=(1, 10), shift=8)
    return small(data, vocab=400, steps=18_000)


def strings() -> VisualTuning:
    """The same, to write down strings of eight letters; a letter is as wide as a patch.

    Letters are tokens, as bytes are: pieces of several letters, in strings drawn at random, are not
    learned, nor is anything in one seed of three behind a warm-up of a few steps (results/gpt4.md).
    """
    data = VisualConfig(sets=("strings",))
    config = wide(small(data, vocab=269, steps=4_000, patch=8, length=96, warmup=250 * 32 * 96))
    return replace(config, tokenizer=TokenizerConfig(kind="bytes", vocab=269))


def screens() -> VisualTuning:
    """The same, to read screenshots and sum them up, from a run of `strings` (`init`).

    From nothing it reads words that are one of a few, and no code of four letters in 4,000 steps;
    a run that knows letters reads both (results/gpt4.md). All of each is written down too.
    """
    return of_letters(VisualConfig(sets=("screens", "screen_texts"), times=(1, 12)))


def tables() -> VisualTuning:
    """The same, to write down the tables of charts, half of the rows, and to answer questions.

    It is where `charts` goes on from (`init`): a table is begun with at once, and which number
    belongs to which letter is what a question waits for.
    """
    data = VisualConfig(sets=("charts", "chart_tables"), times=(1, 4))
    return replace(of_letters(data, warmup=CHARTS_WARMUP), steps=4_000)


def charts() -> VisualTuning:
    """The same, to answer questions over charts, one row in five a table, from a run of `tables`.

    From nothing it may take thousands of steps to begin, by its seed. With patches of 16 and pieces
    of words it reads a third of the values in 12,000: results/gpt4.md.
    """
    data = VisualConfig(sets=("charts", "chart_tables"))
    return replace(of_letters(data, warmup=CHARTS_WARMUP), steps=4_000)


def oddities() -> VisualTuning:
    """The same, to say what is odd in a scene of like shapes, and what the others are."""
    return wide(small(VisualConfig(sets=("oddities",)), vocab=320, steps=6_000))


def of_letters(data: VisualConfig, warmup: int = WARMUP) -> VisualTuning:
    """With patches as wide as a letter, and letters as tokens."""
    config = wide(small(data, vocab=269, steps=8_000, patch=8, length=144, warmup=warmup))
    tokenizer = TokenizerConfig(kind="bytes", vocab=269)
    return replace(config, tokenizer=tokenizer, optim=replace(config.optim, peak_lr=1.5e-3))


def wide(config: VisualTuning) -> VisualTuning:
    """The same with the connector's kernel by fan-in too, and tokens and positions as large."""
    text = replace(config.model.text, std=0.125, token_std=0.1, position_std=0.1)
    return replace(config, model=replace(config.model, text=text))


def talks() -> VisualTuning:
    """Conversations about easy-VQA's images, from a run of `tiny` (`init`).

    A follow-up is about earlier images, as in the conversations of LLaVA's second stage. Questions
    without a conversation stay among the rows: otherwise they are forgotten (results/gpt4.md).
    """
    data = VisualConfig(sets=("easy_talks", "easy_vqa", "easy_captions"), times=(2, 1, 2), shift=8)
    config = small(data, vocab=400, steps=4_000, length=96)
    model = replace(config.model, dialogue=True)
    return replace(config, model=model, optim=replace(config.optim, peak_lr=1e-3))


def reward(size: str = "tiny") -> SeeingReward:
    """A reward model: which answer is right, to easy-VQA's questions or to those of a larger size.

    From a run of that size (`init`) on the questions in `data.images.root`. Beyond tiny the rate is
    InstructGPT's.
    """
    if size != "tiny":
        seen = by_size(size)
        return SeeingReward(
            data=SeenComparisons(images=seen.data), model=seen.model.text, sees=seen.model,
            optim=AdamWConfig(peak_lr=9e-6, weight_decay=0.0), batch=64, length=seen.length,
        )  # fmt: skip
    return SeeingReward(
        data=SeenComparisons(images=VisualConfig(valid_limit=500)),
        optim=AdamWConfig(peak_lr=5e-4, weight_decay=0.0),
        batch=32,
        steps=600,
        length=64,
        loop=LoopConfig(evaluate_every=100, save_every=100),
    )


def ppo(size: str = "tiny", text: str | None = None) -> SeeingPpo:
    """PPO on easy-VQA's questions, or on those of a larger size: 1 for a right answer.

    From a run of that size (`init`) that is not yet sure, on the questions in `images.root`. With
    `--set reward.function=None --set reward.run=RUN` a reward model of `reward` says what is right.
    Beyond tiny batch, steps and rates are InstructGPT's. The tax is measured on the text of `init`,
    or on that of these files; with `--set update.gamma=27.8` it is learned too (PPO-ptx).
    """
    right, known = RewardConfig(function="lm.rlhf.seeing:right"), instructgpt.named(text)
    if size != "tiny":
        seen, answer = by_size(size), 64
        return SeeingPpo(
            images=seen.data, reward=right, gold=right, model=seen.model.text, sees=seen.model,
            optim=AdamWConfig(peak_lr=5e-6, weight_decay=0.0), batch=512,
            prompt_length=seen.length - answer, answer_length=answer, kl=KlConfig(beta=0.02),
            loop=LoopConfig(log_every=1, evaluate_every=50, save_every=50), text=known,
        )  # fmt: skip
    return SeeingPpo(
        images=VisualConfig(valid_limit=200),
        text=known,
        reward=right,
        gold=right,
        optim=AdamWConfig(peak_lr=3e-4, weight_decay=0.0),
        value_optim=AdamWConfig(peak_lr=3e-4, weight_decay=0.0),
        batch=64, steps=100, prompt_length=32, answer_length=4, best_of=4,
        kl=KlConfig(beta=0.02), update=UpdateConfig(minibatches=4, average=0.9),
        evaluate_prompts=200,
        loop=LoopConfig(log_every=5, evaluate_every=50, save_every=50),
    )  # fmt: skip


def small(
    data: VisualConfig, *, vocab: int, steps: int, patch: int = 16, length: int = 64,
    warmup: int = WARMUP,
) -> VisualTuning:  # fmt: skip
    """A model for one ability; its words are those of the questions and answers.

    Kernels by fan-in and waves for positions: with GPT-2's 0.02, meant for widths near 768, what a
    patch shows hides where it is, and queries and keys begin too small to look anywhere.
    """
    blocks: dict[str, Any] = {"width": 64, "heads": 2, "init": "openai"}
    return VisualTuning(
        model=GptVisionConfig(
            text=GptConfig(
                layers=2, length=192, vocab=vocab, unroll=2, positions="sinusoid", **blocks
            ),
            vision=VisionConfig(
                image=64, patch=patch, stem="convolutions", centred=True, layers=1,
                positions="sincos", **blocks,
            ),
            image_id=SMALL_IMAGE,
            mask="prefix",
        ),
        tokenizer=TokenizerConfig(kind="sentencepiece", vocab=vocab),
        data=data,
        optim=AdamWConfig(
            peak_lr=2e-3, warmup_tokens=warmup, final_ratio=0.05, b2=0.99, weight_decay=0.05
        ),
        length=length,
        batch=32,
        steps=steps,
        loop=LoopConfig(log_every=50, evaluate_every=500, save_every=500),
    )  # fmt: skip


def base() -> VisualTuning:
    """GPT-2's decoder of 124M and a ViT-B/16 at 224 pixels, whole, by PaliGemma's recipe."""
    return sized(gpt2.small().model, layers=12, width=768, heads=12)


def large() -> VisualTuning:
    """GPT-3 XL's decoder of 1.3B and an encoder of ViT-L's shape at 224 pixels."""
    return sized(gpt3.train("xl").model, layers=24, width=1024, heads=16)


def sized(
    decoder: object, *, layers: int, width: int, heads: int, image: int = 224
) -> VisualTuning:
    assert isinstance(decoder, GptConfig)
    text = replace(
        decoder, vocab=GPT2_IMAGE + 1, dtype="bfloat16", remat="full", pattern=("dense",)
    )
    vision = VisionConfig(
        image=image, patch=16, layers=layers, width=width, heads=heads, epsilon=1e-6,
        dtype="bfloat16", remat="full",
    )  # fmt: skip
    return VisualTuning(
        model=GptVisionConfig(
            text=text, vision=vision, image_id=GPT2_IMAGE, connector="linear", mask="prefix"
        ),
        tokenizer=TokenizerConfig(kind="gpt2", path="vocab_gpt2"),
        data=VisualConfig(sets=("flickr8k", "chartqa", "receipts", "nlvr")),
        optim=AdamWConfig(peak_lr=1e-5, b2=0.999, weight_decay=1e-6),
        length=vision.patches + 128,  # PaliGemma: images, then 128 tokens of text
        batch=256,
        workers=8,
    )


def connector(size: str = "tiny") -> VisualTuning:
    """LLaVA-1.5's first stage: the connector alone, between the decoder of `init` and an `encoder`.

    Theirs is a folder of CLIP ViT-L/14 at 336, with size="base", `model.vision.image` 336 and a
    `length` of 704: its 576 slots and the 128 tokens that `base` has beside its own.

    256 rows a step (of `tiny` its own 32) for an epoch (of `tiny` its own steps).
    """
    return llava(size, ("connector",), peak_lr=1e-3, batch=256)


def instruct(size: str = "tiny") -> VisualTuning:
    """LLaVA-1.5's second stage: connector and decoder, from a run of `connector` (`init`).

    128 rows a step (of `tiny` its own 32) for an epoch (of `tiny` its own steps).
    """
    return llava(size, ("connector", "text"), peak_lr=2e-5, batch=128)


def llava(
    size: str, learned: tuple[Literal["vision", "connector", "text"], ...], *, peak_lr: float,
    batch: int,
) -> VisualTuning:  # fmt: skip
    """A stage of LLaVA-1.5's: two layers of a connector, a causal mask, a cosine to zero after 3 %
    of warm-up, no decay. The second beta, unnamed there, is PyTorch's."""
    config = by_size(size)
    return replace(
        config,
        model=replace(config.model, connector="mlp", mask="causal"),
        learned=learned,
        optim=AdamWConfig(
            peak_lr=peak_lr, warmup_fraction=0.03, final_ratio=0.0, b2=0.999, weight_decay=0.0
        ),
        batch=config.batch if size == "tiny" else batch,
    )


def tune(size: str = "tiny", text: str | None = None) -> VisualTuning:
    """All parts on questions, beside text rows so that the decoder stays as good at text.

    The text is that of `init`, or that of these files.
    """
    config = by_size(size)
    return replace(config, text=instructgpt.named(text), text_rows=config.batch // 4)


def higher(size: str = "tiny", image: int | None = None) -> VisualTuning:
    """A stage's run (`init`) at twice the resolution: what small text and charts need.

    Of PaliGemma's two short runs this is that at 448; that at 896 (`image`) goes on from it. Beyond
    tiny the sets with text in their images come three times as often, for half an epoch, and at 896
    for a quarter, at half the rate. That is our choice, and a slot of four patches at 896: an image
    takes 784 places at both, where GPT-2's 1,024 positions have no room for 3,136.
    """
    config = by_size(size)
    image = image or 2 * config.model.vision.image
    vision, merge = replace(config.model.vision, image=image), max(1, image // 448)
    model = replace(config.model, vision=vision, merge=merge)
    length = config.length + model.slots - config.model.slots
    config = replace(config, model=model, length=length)
    if size == "tiny":
        return config
    times = tuple(3 if name in ("chartqa", "receipts") else 1 for name in config.data.sets)
    return replace(
        config,
        data=replace(config.data, times=times),
        optim=replace(config.optim, peak_lr=config.optim.peak_lr / 2),
        epochs=0.5 / merge,
    )


def by_size(size: str) -> VisualTuning:
    return {"tiny": tiny, "base": base, "large": large}[size]()
