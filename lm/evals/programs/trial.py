"""How many of the programs that a model writes for each problem are right."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from lm.data.programs import Problem
from lm.evals.programs.sandbox import Limits, run_programs
from lm.evals.scorer import Scorer

LONGEST = 48  # tokens of an expression
SMALL = Limits(memory=256 << 20)


@dataclasses.dataclass(frozen=True)
class Trial:
    """Of one problem."""

    words: str
    depth: int
    passed: int  # of the samples
    samples: int
    distinct: int  # programs among them
    written: str  # the first of them


def ask(
    scorer: Scorer, problems: Sequence[Problem], samples: int, *, temperature: float = 1.0,
    seed: int = 0, limits: Limits = SMALL,
) -> list[Trial]:  # fmt: skip
    """Lets the model write `samples` lines for each problem, and runs each in the sandbox."""
    prompts = [problem.prompt for problem in problems for _ in range(samples)]
    lines = scorer.generate(prompts, LONGEST, temperature=temperature, seed=seed)
    of = [problem for problem in problems for _ in range(samples)]
    sources = [problem.tested(line) for problem, line in zip(of, lines, strict=True)]
    passed = np.array([verdict.passed for verdict in run_programs(sources, limits)])
    return [
        Trial(
            words=problem.words, depth=problem.depth,
            passed=int(passed[n * samples : (n + 1) * samples].sum()), samples=samples,
            distinct=len(set(lines[n * samples : (n + 1) * samples])), written=lines[n * samples],
        )
        for n, problem in enumerate(problems)
    ]  # fmt: skip
