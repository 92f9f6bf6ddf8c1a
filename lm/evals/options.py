"""Questions to which several options may be right: each is judged, or any of the right ones counts.

MultiRC and ReCoRD as GPT-3 was asked them (Brown et al. 2020, figures G.15 and G.6).
"""

import dataclasses
from collections.abc import Sequence

from lm.evals.incontext import Item, Prompt
from lm.evals.protocols import Choose, Outcome
from lm.evals.requests import Request
from lm.evals.scorer import Scorer
from lm.metrics.answers import answer_f1, exact_match
from lm.metrics.pooled import f1a


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verify:
    """Whether each option is right: the likelier, a token, of two labels before it.

    The item's `answers` are its options and whether each is right, as one of the labels. Figures
    of one question; those of all are no mean (lm/metrics/pooled.py).
    """

    labels: tuple[str, str] = ("True", "False")
    metrics: tuple[str, ...] = ("f1a", "exact_match")

    def ask(self, scorer: Scorer, prompts: Sequence[Prompt], seed: int = 0) -> list[Outcome]:
        requests = [
            Request(prompt.contexts[0], option_line(label, option))
            for prompt in prompts
            for option in prompt.item.answers[0]
            for label in self.labels
        ]
        scores = iter(scorer.scores(requests))
        outcomes = []
        for prompt in prompts:
            options, truths = prompt.item.answers
            both = [[next(scores) for _ in self.labels] for _ in options]
            means = [[score.log_likelihood / score.tokens for score in two] for two in both]
            said = [yes > no for yes, no in means]
            right = [truth == self.labels[0] for truth in truths]
            counts = (
                sum(a and b for a, b in zip(said, right, strict=True)),
                sum(said),
                sum(right),
            )
            outcomes.append(
                Outcome(
                    answer="; ".join(o for o, yes in zip(options, said, strict=True) if yes),
                    figures={"f1a": f1a(counts), "exact_match": float(said == right)},
                    cut=max(score.truncated for two in both for score in two),
                    counts=counts,
                )
            )
        return outcomes


def option_line(label: str, option: str) -> str:
    """A labelled option under its question, as a continuation."""
    return f"\n- [{label}] {option}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChooseName(Choose):
    """The likeliest of several names; any of those that are right counts, by SQuAD's measures.

    The item's `answers` are the name in each completion, and the right ones.
    """

    metrics: tuple[str, ...] = ("answer_f1", "exact_match")

    def figures(self, item: Item, best: int) -> dict[str, float]:
        names, right = item.answers
        return {
            "answer_f1": answer_f1([names[best]], [right]),
            "exact_match": exact_match([names[best]], [right]),
        }
