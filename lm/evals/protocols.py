"""How a model is asked for the answer to a prompt, and when it is right.

`Choose` compares the likelihoods of completions, or of one completion after several contexts.
`Predict` asks whether the right completion is what the model would write, token by token.
`Write` lets the model write and compares the words. (Brown et al. 2020, section 2.4)
`Program` lets it write a program and runs it.

`ask` gives an outcome a prompt; its seed is that of what is drawn, and only programs are: each by
the number of its item and its own, whichever prompts are asked together.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from lm.core.config import require
from lm.evals.comparisons import SCORES, TOKENS, Compare
from lm.evals.incontext import Item, Prompt
from lm.evals.programs.pass_rate import pass_at_k
from lm.evals.programs.sandbox import Limits, run_programs
from lm.evals.requests import Request, Score
from lm.evals.scorer import Scorer
from lm.metrics.bleu import bleu_counts
from lm.metrics.pooled import class_counts

NO_MODULE = "no_module"  # share of programs that asked for a module that is not in the sandbox
Rule = Literal["token", "byte", "sum", "unconditional"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one prompt."""

    answer: str  # what the model chose or wrote
    figures: dict[str, float]  # by metric; the first is the one to compare by
    cut: int = 0  # tokens of the context that the model could not read
    probabilities: tuple[float, ...] = ()  # of the choices, among themselves
    counts: tuple[int, ...] = ()  # that a score of the whole set sums up (lm/metrics/pooled.py)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choose:
    """The likeliest completion. `rule` says what its log-likelihood is divided by.

    "token" and "byte": its number of tokens, or of UTF-8 bytes without the blank before it; "sum":
    nothing; "unconditional": what remains above its log-likelihood after `answer_context`, so that
    a completion is not chosen for being common (ARC, OpenBookQA, RACE).
    """

    rule: Rule = "token"
    answer_context: str = "Answer:"  # "A:" is the other form; a blank belongs to the completion
    metrics: tuple[str, ...] = ("accuracy",)

    def ask(self, scorer: Scorer, prompts: Sequence[Prompt], seed: int = 0) -> list[Outcome]:
        requests, bounds = [], [0]
        for prompt in prompts:
            pairs = [(a, b) for a in prompt.contexts for b in prompt.item.completions]
            requests += [Request(a, b) for a, b in pairs]
            if self.rule == "unconditional":
                requests += [Request(self.answer_context, b) for _, b in pairs]
            bounds.append(len(requests))
        scores = scorer.scores(requests)
        return [
            self._outcome(prompt, scores[first:last])
            for prompt, first, last in zip(prompts, bounds[:-1], bounds[1:], strict=True)
        ]

    def _outcome(self, prompt: Prompt, scores: list[Score]) -> Outcome:
        item = prompt.item
        several = max(len(item.contexts), len(item.completions))
        values = [
            self.value(score, item.completions[0 if item.partial else number])
            for number, score in enumerate(scores[:several])
        ]
        if self.rule == "unconditional":
            alone = (score.log_likelihood for score in scores[several:])
            values = [value - other for value, other in zip(values, alone, strict=True)]
        best = max(range(several), key=values.__getitem__)  # the first of equal ones
        chosen = item.contexts[best] if item.partial else item.completions[best].strip()
        return Outcome(
            answer=chosen,
            figures=self.figures(item, best),
            cut=max(score.truncated for score in scores[:several]),
            probabilities=shares([score.log_likelihood for score in scores[:several]]),
            counts=class_counts(several, best, item.gold) if "macro_f1" in self.metrics else (),
        )

    def figures(self, item: Item, best: int) -> dict[str, float]:
        """By metric, where the completion of this number was chosen."""
        return dict.fromkeys(self.metrics, float(best == item.gold))

    def value(self, score: Score, completion: str) -> float:
        """What completions are compared by; before the unconditional part is taken off."""
        if self.rule == "token":
            return score.log_likelihood / score.tokens
        if self.rule == "byte":
            return score.log_likelihood / len(completion.strip().encode())
        return score.log_likelihood


def shares(log_likelihoods: Sequence[float]) -> tuple[float, ...]:
    """Likelihoods, by whatever length of text, as parts of their sum."""
    values = np.array(log_likelihoods, np.float64)
    parts = np.exp(values - values.max())
    return tuple((parts / parts.sum()).tolist())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predict:
    """The right completion is the likeliest continuation, token by token (LAMBADA)."""

    metrics: tuple[str, ...] = ("accuracy",)

    def ask(self, scorer: Scorer, prompts: Sequence[Prompt], seed: int = 0) -> list[Outcome]:
        requests = [
            Request(prompt.contexts[0], prompt.item.completions[prompt.item.gold])
            for prompt in prompts
        ]
        return [
            Outcome(
                answer=request.continuation.strip() if score.greedy else "",
                figures={"accuracy": float(score.greedy)},
                cut=score.truncated,
            )
            for request, score in zip(requests, scorer.scores(requests), strict=True)
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Write:
    """What the model writes up to the end of the line, compared with all answers that are right.

    Beams and length penalty are GPT-3's, which are T5's; `compare` is of lm/evals/comparisons.py.
    """

    tokens: int  # at most
    beams: int = 4
    length_penalty: float = 0.6
    stop: tuple[str, ...] = ("\n",)
    compare: Compare = "words"
    metrics: tuple[str, ...] = ("exact_match",)

    def __post_init__(self) -> None:
        require(self.tokens >= 1, f"tokens to write must be at least 1, got {self.tokens}")
        known = SCORES[self.compare]
        require(
            set(self.metrics) <= set(known), f"metrics {self.metrics} must be of {', '.join(known)}"
        )

    def ask(self, scorer: Scorer, prompts: Sequence[Prompt], seed: int = 0) -> list[Outcome]:
        written = scorer.generate(
            [prompt.contexts[0] for prompt in prompts],
            self.tokens,
            stop=self.stop,
            beams=self.beams,
            length_penalty=self.length_penalty,
        )
        return [self.outcome(text, prompt) for text, prompt in zip(written, prompts, strict=True)]

    def outcome(self, text: str, prompt: Prompt) -> Outcome:
        figures = {name: self.score(name, text, prompt) for name in self.metrics}
        counts: tuple[int, ...] = ()
        if self.compare in TOKENS:
            reference = prompt.item.completions[0].strip()
            counts = bleu_counts(text.strip(), reference, TOKENS[self.compare])
        return Outcome(text.strip(), figures, counts=counts)

    def score(self, metric: str, text: str, prompt: Prompt) -> float:
        item = prompt.item
        right: Any = item.answers or [answer.strip() for answer in item.completions]
        return SCORES[self.compare][metric](text.strip(), right)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """A program that the model goes on with, run in the sandbox behind the item's tests (HumanEval;
    Chen et al. 2021). It ends where the next thing at the margin begins, as in their appendix.

    With one program a problem it is greedy; of several, drawn, pass@k is told without bias.
    """

    tokens: int = 256  # at most
    samples: int = 1
    k: int = 1  # of pass@k: how many of the programs may be tried
    temperature: float = 0.0
    stop: tuple[str, ...] = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        require(
            1 <= self.k <= self.samples,
            f"k {self.k} of pass@k must be from 1 to samples {self.samples}: draw more",
        )
        require(
            (self.samples > 1) == (self.temperature > 0),
            f"samples {self.samples} at temperature {self.temperature}: one is greedy, several "
            "are drawn",
        )

    @property
    def metrics(self) -> tuple[str, ...]:
        return (f"pass_at_{self.k}", NO_MODULE)

    def ask(self, scorer: Scorer, prompts: Sequence[Prompt], seed: int = 0) -> list[Outcome]:
        n = self.samples
        heads = [prompt for prompt in prompts for _ in range(n)]
        written = scorer.generate(
            [prompt.contexts[0] for prompt in heads], self.tokens, stop=self.stop,
            temperature=self.temperature, seed=seed,
            numbers=[prompt.number * n + sample for prompt in prompts for sample in range(n)],
        )  # fmt: skip
        programs = [
            f"{prompt.item.contexts[0]}{body}\n{prompt.item.answers[0][0]}"
            for prompt, body in zip(heads, written, strict=True)
        ]
        verdicts = run_programs(programs, self.limits)
        right = np.array([one.passed for one in verdicts], np.int64).reshape(-1, n).sum(axis=1)
        rates = pass_at_k(n, right, self.k).tolist()
        missing = np.array([one.no_module for one in verdicts]).reshape(-1, n).mean(axis=1).tolist()
        return [
            Outcome(said, dict(zip(self.metrics, told, strict=True)))
            for said, *told in zip(written[::n], rates, missing, strict=True)
        ]
