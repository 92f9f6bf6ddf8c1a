"""Studies over several runs: each member is an ordinary run directory.

    python -m launch.train --experiment=sweeps:pretraining --set corpus=novels --set root=data \
        --workdir=runs/pretraining

Sizes, budgets and rates are our choice: the published comparisons at a scale of minutes on a CPU.
For an accelerator: --set bert.steps=100000 --set bert.batch=256 --set bert.model.width=256, and so
on for gpt1 and lstm. The file is long because it is a list: a function for each study, which is no
more than its settings.
"""

from dataclasses import replace
from typing import Any

from experiments import chatgpt, gpt2, gpt3, instructgpt
from experiments.bert import finetune
from experiments.gpt1 import decoder
from lm.data.programs import ProgramText
from lm.data.recall import RecallConfig
from lm.data.sentences import SentencesConfig
from lm.data.tokens import TextConfig
from lm.models.bert import BertConfig
from lm.models.gpt import GptConfig
from lm.models.lstm import LstmConfig
from lm.nn.config import LayerPattern
from lm.rlhf.controller import KlConfig
from lm.rlhf.ppo import Ppo
from lm.rlhf.scores import RewardConfig
from lm.studies.capacity import Capacity
from lm.studies.forecast import Forecast
from lm.studies.gold import GoldStudy
from lm.studies.grid import Experiment, Grid
from lm.studies.overoptimization import Overoptimization
from lm.studies.smalltalk import SmalltalkStudy
from lm.studies.sparse_critique import SparseCritique
from lm.studies.transfer import Transfer
from lm.text.tokenizer import TokenizerConfig
from lm.train.finetune import Finetune
from lm.train.masked import MaskedPretrain
from lm.train.optimizer import AdamWConfig, BertAdamConfig, Gpt1AdamConfig
from lm.train.pretrain import Pretrain
from lm.train.recall import Recall
from lm.train.session import LoopConfig

LAYERS, WIDTH, HEADS, LENGTH, VOCAB = 3, 128, 4, 64, 2048
STEPS, BATCH = 2_000, 32  # 4.1M tokens for every model
STD = 0.08  # of kernels: 0.02 is for width 768, and at 128 leaves attention unheard for long
CORPUS = TextConfig(train="novels", valid_fraction=0.05)
WORDS = TokenizerConfig(kind="wordpiece", vocab=VOCAB)  # one vocabulary for all of them
LOOP = LoopConfig(log_every=50, evaluate_every=500, save_every=500)
TINY = gpt2.tiny()


def bert() -> MaskedPretrain:
    """BERT as the studies pre-train it."""
    return MaskedPretrain(
        model=BertConfig(
            layers=LAYERS, width=WIDTH, heads=HEADS, vocab=VOCAB, length=LENGTH, std=STD,
            attention_dropout=0.0, residual_dropout=0.0, embedding_dropout=0.0,
        ),
        optim=BertAdamConfig(peak_lr=5e-4, warmup_steps=200),
        steps=STEPS, batch=BATCH, stages=((LENGTH, 1.0),), tokenizer=WORDS, data=CORPUS, loop=LOOP,
        sentences=SentencesConfig(chapters=True),
    )  # fmt: skip


def gpt1() -> Pretrain:
    """GPT-1 as the studies pre-train it."""
    return Pretrain(
        model=replace(
            decoder(LAYERS, WIDTH, HEADS, vocab=VOCAB, length=LENGTH, std=STD, dropout=0.0),
            token_std=STD, position_std=STD,
        ),
        optim=Gpt1AdamConfig(peak_lr=2e-3, warmup_steps=200),
        steps=4 * STEPS, batch=BATCH // 4, tokenizer=WORDS, data=CORPUS, loop=LOOP,
    )  # fmt: skip


def lstm() -> Pretrain:
    """The LSTM control, of about as many parameters."""
    return Pretrain(
        model=LstmConfig(vocab=VOCAB, length=LENGTH, width=WIDTH, units=352, dropout=0.0, std=STD),
        optim=Gpt1AdamConfig(peak_lr=2e-3, warmup_steps=200),
        steps=4 * STEPS, batch=BATCH // 4, tokenizer=WORDS, data=CORPUS, loop=LOOP,
    )  # fmt: skip


def transfer(title: str, cases: tuple, tasks: tuple, variants: tuple = ()) -> Transfer:
    loop = LoopConfig(log_every=100, evaluate_every=100_000, save_every=100_000, keep=1)
    return Transfer(
        title=title,
        bert=bert(),
        gpt1=gpt1(),
        lstm=lstm(),
        bert_tuning=Finetune(
            optim=BertAdamConfig(peak_lr=1e-4), batch=16, epochs=3.0, length=LENGTH, stride=24,
            question=24, loop=loop,
        ),
        gpt1_tuning=Finetune(
            optim=Gpt1AdamConfig(peak_lr=1e-3, schedule="linear", warmup_fraction=0.1), batch=16,
            epochs=3.0, length=LENGTH, lm_weight=0.5, loop=loop,
        ),
        cases=cases,
        tasks=tasks,
        variants=variants,
    )  # fmt: skip


TASKS = (
    ("sst2", "data.limit=4000 length=32"),
    ("cola", "length=32"),
    ("mrpc", ""),
)


# GPT-2's block, first values, and nanoGPT's decay and b2 of small batches; the report has neither
GPT2 = (
    "model.norm=pre model.final_norm=True model.init=hf model.dropped=sum "
    "optim.weight_decay=0.1 optim.b2=0.99"
)


def pretraining() -> Transfer:
    """BERT, GPT-1 and GPT-2 on one corpus and token budget, pre-trained against from scratch (N1).

    GPT-2 has GPT-1's rate and schedule here, and is fine-tuned as GPT-1 is.
    """
    cases = (
        ("BERT", "bert", ""),
        ("BERT from scratch", "bert", "scratch=True"),
        ("GPT-1", "gpt1", ""),
        ("GPT-1 from scratch", "gpt1", "scratch=True"),
        ("GPT-2", "gpt2", ""),
        ("GPT-2 from scratch", "gpt2", "scratch=True"),
    )
    variants = (("gpt2", "gpt1", GPT2),)
    return transfer("Pre-trained against from scratch", cases, TASKS, variants)


def grid(
    experiment: Experiment = TINY,
    over: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("batch", (16, 32)), ("optim.peak_lr", (1e-3, 3e-3)),
    ),
    seeds: tuple[int, ...] = (0,),
) -> Grid:  # fmt: skip
    """Any experiment over any values of its bindings, of which one figure picks the best.

    --experiment='sweeps:grid(experiment="gpt2:tiny", over=(("optim.peak_lr", (1e-3, 3e-3)),))', and
    --set base.data.train=TEXT for what all have. The figure is the held-out loss, or a task's own
    metric; another one by --set metric=valid_reward --set best=highest.
    """
    return Grid(base=experiment, over=over, seeds=seeds)


def bert_rates(task: str = "sst2") -> Grid:
    """BERT's four rates, of which dev picks one (appendix A.3).

    --set base.init=RUN --set base.data.root=DATA, and for its epochs
    --set 'over=(("optim.peak_lr",(5e-5,4e-5,3e-5,2e-5)),("epochs",(2.0,3.0,4.0)))'
    """
    return Grid(base=finetune(task), over=(("optim.peak_lr", (5e-5, 4e-5, 3e-5, 2e-5)),))


def bert_objectives() -> Transfer:
    """Table 5 of BERT in miniature: both objectives, masked words alone, left to right.

    All three read the same pairs, so each trains the rows of both segments.
    """
    cases = (
        ("masked words and next sentence", "bert", ""),
        ("masked words", "words", ""),
        ("left to right", "left", ""),
    )
    variants = (
        ("words", "bert", "next_sentences=False"),
        ("left", "bert", "next_sentences=False instances.objective=next model.causal=True"),
    )
    tasks = (("qnli", ""), ("squad", "epochs=2"))
    return transfer("BERT's objectives (table 5)", cases, tasks, variants)


def gpt1_ablations() -> Transfer:
    """GPT-1: auxiliary loss and LSTM control (table 5), layers transferred (figure 2)."""
    cases = (
        ("GPT-1", "gpt1", ""),
        ("no auxiliary loss", "gpt1", "lm_weight=0"),
        *((f"{layers} layers transferred", "gpt1", f"transfer={layers}")
          for layers in range(LAYERS)),
        ("GPT-1 from scratch", "gpt1", "scratch=True"),
        ("LSTM", "lstm", ""),
        ("LSTM from scratch", "lstm", "scratch=True"),
    )  # fmt: skip
    tasks = (
        *TASKS[:2],
        ("rte", "data.valid_fraction=0.2"),  # of the training file, by texts
        ("openbookqa", "data.limit=1000 length=48"),  # which ending: stands for Story Cloze
    )
    return transfer("GPT-1: auxiliary loss, layers, LSTM", cases, tasks)


def capacity() -> Capacity:
    """GPT-3's zero, one and few examples over size (N7); on an accelerator --set largest=32m."""
    sizes = tuple(
        (
            name,
            f"model.layers={layers} model.width={width} model.heads={heads} model.unroll={layers} "
            f"optim.peak_lr={rate}",
        )
        for name, (layers, width, heads, rate) in gpt3.LADDER.items()
    )
    return Capacity(
        title="In-context learning over size", base=gpt3.ladder(), sizes=sizes, largest="0.85m"
    )


def sparse_critique() -> SparseCritique:
    """Patterns of attention at equal parameters and tokens: novels and recall (N9)."""
    patterns: tuple[tuple[str, tuple[LayerPattern, ...]], ...] = (
        ("dense", ("dense",)),
        ("banded", ("banded",)),
        ("dense, banded", ("dense", "banded")),  # GPT-3's alternation
        ("strided", ("strided",)),
        ("fixed", ("fixed",)),
        ("powers of two", ("powers",)),
    )
    facts = RecallConfig(keys=2, values=8, fillers=16, asked=0.7, near=4)
    loop = LoopConfig(log_every=50, evaluate_every=100_000, save_every=100_000, keep=1)
    # 4 layers of band 8 reach 28 tokens back; strides are about the square root of the length
    small = GptConfig(
        layers=4, width=32, heads=2, vocab=facts.vocab, length=64, band=8, stride=8, summary=1,
        std=0.15, unroll=4,
    )  # fmt: skip
    bytewise = replace(small, width=48, heads=4, vocab=269, length=128, stride=16, summary=2)
    return SparseCritique(
        patterns=patterns,
        recall=Recall(
            model=small, data=facts, steps=1200, batch=16, loop=loop,
            optim=AdamWConfig(peak_lr=5e-3, warmup_tokens=50 * 16 * 64, b2=0.99),
        ),
        novels=Pretrain(
            model=bytewise, data=CORPUS, steps=200, batch=16, loop=loop,
            optim=AdamWConfig(peak_lr=4e-3, warmup_tokens=25 * 16 * 128, b2=0.99),
        ),
    )  # fmt: skip


def gold() -> GoldStudy:
    """Prompted, SFT, PPO and PPO-ptx by a programmed labeler, over seeds.

    --set base.data.train=TEXT --set pipeline.demonstrations=FILE
    """
    model = GptConfig(
        layers=2, width=96, heads=3, vocab=1024, length=160, std=0.08, token_std=0.1,
        position_std=0.1, positions="sinusoid", unroll=2,
    )  # fmt: skip
    steps, batch = 1_000, 16
    base = Pretrain(
        model=model, steps=steps, batch=batch, data=CORPUS,
        tokenizer=TokenizerConfig(kind="sentencepiece", vocab=model.vocab),
        optim=AdamWConfig(peak_lr=3e-3, warmup_tokens=50 * batch * model.length, b2=0.99),
        loop=LoopConfig(log_every=50, evaluate_every=100_000, save_every=1_000, keep=1),
    )  # fmt: skip
    plan = instructgpt.pipeline()

    def short(ppo: Ppo) -> Ppo:
        return replace(
            ppo, prompt_length=64, answer_length=32, steps=60, evaluate_prompts=128,
            kl=KlConfig(beta=0.05),
        )  # fmt: skip

    return GoldStudy(
        title="A programmed labeler: prompted, SFT, PPO",
        base=base,
        pipeline=replace(
            plan,
            sft=replace(plan.sft, length=96),
            reward=replace(plan.reward, length=96),
            ppo=short(plan.ppo),
            ppo_ptx=short(plan.ppo_ptx),
        ),
        second=RewardConfig(function="lm.rlhf.gold:tidy"),
    )


def overoptimization() -> Overoptimization:
    """PPO far by a reward model of few labels: the gold score rises, then falls (Gao et al. 2022).

    Best of n stands alongside.

    --set base.data.train=TEXT --set pipeline.demonstrations=FILE
    """
    study = gold()
    base, plan = study.base, study.pipeline
    assert isinstance(base.model, GptConfig)
    return Overoptimization(
        title="A reward model is over-optimised",
        base=replace(base, model=replace(base.model, width=64, heads=2), steps=400),
        second=study.second,
        pipeline=replace(
            plan,
            judge=RewardConfig(function="lm.rlhf.gold:plain"),
            labeling=replace(plan.labeling, noise=0.5),  # of scores whose deviation is 1.3
            ppo=replace(
                plan.ppo, optim=replace(plan.ppo.optim, peak_lr=1e-4), kl=KlConfig(beta=0.0),
                steps=160, evaluate_prompts=64, evaluate_draws=3, best_of=64,
                loop=LoopConfig(log_every=4, evaluate_every=16, save_every=80, keep=1),
            ),
        ),
    )  # fmt: skip


FORECAST = {  # layers, width, heads, steps: 20 tokens a parameter; our choice
    "38k": (2, 32, 2, 1_491),
    "55k": (2, 40, 2, 2_164),
    "76k": (2, 48, 2, 2_957),
    "0.11m": (2, 60, 2, 4_371),
    "0.19m": (2, 80, 2, 7_328),
    "0.33m": (2, 108, 2, 12_728),
    "1.0m": (2, 200, 4, 40_820),
}


def forecast() -> Forecast:
    """A larger run's loss and pass rate, foretold from runs of a fraction of its compute (V5)."""
    batch, length = 4, 128
    runs = tuple(
        (
            name,
            f"model.layers={layers} model.width={width} model.heads={heads} model.unroll={layers} "
            f"optim.peak_lr={0.02 * width**-0.5:.2g} steps={steps}",
        )
        for name, (layers, width, heads, steps) in FORECAST.items()
    )
    return Forecast(
        title="A run foretold from smaller ones",
        base=Pretrain(
            model=GptConfig(
                layers=2, width=32, heads=2, length=length, vocab=269, init="openai",
                token_std=0.05, position_std=0.05,
            ),
            optim=AdamWConfig(peak_lr=1e-3, warmup_tokens=50 * batch * length, b2=0.99),
            steps=1,
            batch=batch,
            data=ProgramText(documents_train=220_000),  # no text is read twice
            loop=LoopConfig(log_every=100, evaluate_every=100_000, save_every=1_000, keep=1),
            evaluate_batches=10,
        ),
        sizes=runs[:-1],
        large=runs[-1],
        rated="38k",
    )  # fmt: skip


def conversation() -> SmalltalkStudy:
    """ChatGPT's claims on conversations that can be checked: ends, context, mixture, rounds."""
    quiet = LoopConfig(log_every=50, evaluate_every=100_000, save_every=500, keep=1)
    rate = AdamWConfig(peak_lr=1e-3, warmup_tokens=100_000, weight_decay=0.0, b2=0.99)
    rounds = chatgpt.pipeline()
    return SmalltalkStudy(
        base=Pretrain(
            model=GptConfig(layers=2, width=64, heads=4, vocab=269, length=96, std=0.1,
                            token_std=0.1, position_std=0.1),
            data=TextConfig(train="smalltalk", valid_fraction=0.05), optim=rate, steps=800,
            batch=16, loop=quiet,
        ),
        chat=replace(
            rounds,
            sft=replace(rounds.sft, optim=replace(rate, warmup_tokens=50_000), steps=2_500,
                        batch=16, length=64, show=0, loop=replace(quiet, sample_tokens=12)),
            reward=replace(rounds.reward, optim=replace(rate, warmup_tokens=0), epochs=2.0,
                           batch=16, length=64, loop=quiet),
            ppo=replace(
                rounds.ppo, optim=replace(rate, peak_lr=1e-4, warmup_tokens=0),
                value_optim=replace(rate, peak_lr=5e-4, warmup_tokens=0), batch=64, steps=40,
                kl=replace(rounds.ppo.kl, beta=0.1), prompt_length=56, answer_length=12,
                evaluate_prompts=64, best_of=4, warmup=2,
                loop=LoopConfig(log_every=5, evaluate_every=10, save_every=10, keep=1),
            ),
            labeling=replace(rounds.labeling, prompts=3_000, answers=(4, 4), noise=0.1, batch=64),
            judge=RewardConfig(function="lm.data.smalltalk:gold"),
        ),
    )  # fmt: skip
