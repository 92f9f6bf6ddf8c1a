"""Which figures a page draws of what runs have measured."""

from collections.abc import Sequence

from lm.report.record import WHOLE, Record
from lm.report.text import label

Figure = tuple[str, str, tuple[str, ...]]  # title, axis and metrics

# In the order of the page. A metric that is not named here gets a figure of its own after these.
FIGURES: tuple[Figure, ...] = (
    ("Loss", "nats a token", ("loss", "valid_loss")),
    ("Validation bits per byte", "bits a byte", ("valid_bits_per_byte",)),
    (
        "Implicit rewards",
        "nats x beta",
        ("valid_rewards/chosen", "valid_rewards/rejected", "valid_rewards/margins"),
    ),
    ("Learning rate", "", ("lr",)),
    ("Gradient norm", "", ("grad_norm",)),
    ("Throughput", "tokens a second", ("tokens_per_second",)),
    ("Model FLOPs utilisation", "share of peak", ("mfu",)),
)
# BERT's own: its training loss is the sum of two means, of which a held-out word has one.
MASKED = (
    ("Loss", "nats a word + nats a pair", ("loss",)),
    ("Masked words", "nats a word", ("loss/words", "valid_loss")),
    ("Next sentence", "nats a pair", ("loss/next", "next_loss")),
)
# A reward model's that learns questions too: its training loss is the sum of two means as well.
QUESTIONS = (
    ("Loss", "nats a pair + nats a question", ("loss",)),
    ("Order", "nats a pair", ("loss/prompts", "valid_loss")),
    ("Questions", "nats a question", ("loss/metadata", "valid_metadata_loss")),
)
# Of answers learned beside pre-training text: of these two means the weighted sum is descended.
MIXED = (
    ("Loss", "nats a token", ("loss",)),
    ("Answers", "nats a token", ("loss/answers", "valid_loss")),
    ("Pre-training text", "nats a token", ("loss/text", "pretraining_loss")),
)
# The unit of what has a figure of its own, by how its name ends.
UNITS = {
    "tokens_per_second": "tokens a second", "_seconds": "seconds", "length": "tokens",
    "step_kl": "nats a token", "kl": "nats an answer", "entropy": "nats a token",
    "pretraining_loss": "nats a token", "accuracy": "share right", "ended": "share of answers",
    "empty": "share of answers", "clipped": "share of tokens",
}  # fmt: skip
# Experiments whose loss is the mean of a token's.
OF_TOKENS = ("Pretrain", "MaskedPretrain", "Sft", "DialogueSft", "VisualTuning")


def measured(records: Sequence[Record]) -> list[Figure]:
    """The figures for which any of the records has points. What was measured over all held-out text
    stands beside its estimates, or is one point and no curve."""
    there = dict.fromkeys(name for record in records for name in record.metrics())
    figures = FIGURES
    # by what they alone have
    sums = {"loss/words": MASKED, "loss/prompts": QUESTIONS, "loss/answers": MIXED}
    own = [name for name in sums if all(name in record.metrics() for record in records)]
    if own:
        figures = (*sums[own[0]], *FIGURES[1:])
    elif not all(record.kind in OF_TOKENS for record in records):
        figures = (("Loss", "", FIGURES[0][2]), *FIGURES[1:])
    named = {name for _, _, names in figures for name in names}
    single = [name for name in there if name.removeprefix(WHOLE) not in named]
    single = list(dict.fromkeys(name.removeprefix(WHOLE) for name in single))
    others = [(label(name).capitalize(), unit_of(name), (name,)) for name in single]
    beside = [
        (title, unit, (*names, *(WHOLE + name for name in names)))
        for title, unit, names in (*figures, *others)
    ]
    found = [(title, unit, tuple(n for n in names if n in there)) for title, unit, names in beside]
    return [figure for figure in found if any(not n.startswith(WHOLE) for n in figure[2])]


def unit_of(name: str) -> str:
    """The unit of a metric, "" where its name does not tell."""
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), "")
