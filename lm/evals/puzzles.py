"""How many small tasks a model answers after none, one and more examples, and after wrong ones.

A context holds K examples of one task and a question of the same task. Two controls have to break
what the examples teach: their answers shuffled among them, and examples of another task. Everything
of an item but the number of examples is the same for every K and condition. No example gives what
is asked, but those of a mapping, which is to be read off them.
"""

import dataclasses
import functools
import re
from collections.abc import Sequence
from random import Random
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from lm.core.mesh import replicated
from lm.data.puzzles import PUZZLES, Example, Puzzle, Stock
from lm.models.gpt import GptConfig, forward
from lm.text.tokenizer import Tokenizer

Condition = Literal["true", "shuffled", "another"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
SLOTS = 32  # rows are padded to a multiple of this, to compile few shapes
ROWS = 64  # of a batch


@dataclasses.dataclass(frozen=True)
class Question:
    """A context that ends with a question, the right answer, and the examples it has."""

    context: str
    answer: str
    shots: int


def ask(
    puzzle: Puzzle, stock: Stock, item: int, shots: int, condition: Condition, *, room: int,
    seed: int = 0,
) -> Question:  # fmt: skip
    """Item `item` of a puzzle: a pure function of the arguments.

    Args:
      room: characters of context and answer; the first examples are left out until they fit.
    """
    random = Random(f"{seed}/{puzzle.name}/{item}")
    rule = puzzle.rule(random, stock)
    question, shown = rule(random), puzzle
    if condition == "another":
        shown = random.choice([one for one in PUZZLES if one.name != puzzle.name])
        rule = shown.rule(random, stock)
    examples: list[Example] = []
    while len(examples) < shots:
        example = rule(random)
        if shown.family == "mapping" or not gives(example, question, puzzle):
            examples.append(example)
    left = room - len(question.text)
    while sum(len(example.text) for example in examples) > left:
        examples.pop(0)
    if condition == "shuffled":
        answers = [example.answer for example in examples]
        random.shuffle(answers)
        pairs = zip(examples, answers, strict=True)
        examples = [Example(example.question, answer) for example, answer in pairs]
    context = "".join(example.text for example in examples) + question.question
    return Question(context, question.answer, len(examples))


def gives(example: Example, question: Example, puzzle: Puzzle) -> bool:
    """Whether an example is what is asked: the same question, the same word scrambled anew, or the
    same two numbers the other way round."""
    if puzzle.family == "word":
        return example.answer == question.answer
    if puzzle.family == "arithmetic":
        return numbers(example) == numbers(question)
    return example.question == question.question


def numbers(example: Example) -> list[str]:
    return sorted(re.findall(r"\d+", example.question))


def right(
    config: GptConfig,
    params: Any,
    tokenizer: Tokenizer,
    mesh: jax.sharding.Mesh,
    questions: Sequence[Question],
) -> np.ndarray:
    """Whether the likeliest continuation, token by token, is the answer and then ends. [N] bool

    It ends with a newline or with the token that ends a text. One pass over context and answer
    tells it: were a token of the answer not the likeliest, it would not have been written.
    """
    likeliest = predictor(config, mesh)
    end, newline = tokenizer.end, tokenizer.encode("\n")[0]
    contexts = [[end, *tokenizer.encode(question.context)] for question in questions]
    answers = [tokenizer.encode(question.answer) for question in questions]
    sizes = [len(c) + len(a) for c, a in zip(contexts, answers, strict=True)]
    order = sorted(range(len(questions)), key=lambda number: (-sizes[number], number))
    out = np.zeros(len(questions), bool)
    while order:
        padded = min(-(-sizes[order[0]] // SLOTS) * SLOTS, config.length)
        some = [number for number in order[:ROWS] if sizes[number] > padded - SLOTS]
        order = order[len(some) :]
        tokens = np.zeros((ROWS, padded), np.int32)
        for row, number in enumerate(some):
            tokens[row, : sizes[number]] = contexts[number] + answers[number]
        found = np.asarray(likeliest(params, tokens))
        for row, number in enumerate(some):
            said = found[row, len(contexts[number]) - 1 : sizes[number]].tolist()
            out[number] = said[:-1] == answers[number] and said[-1] in (newline, end)
    return out


@functools.lru_cache(maxsize=1)
def predictor(config: GptConfig, mesh: jax.sharding.Mesh) -> Any:
    """Compiled: (params, tokens [B T]) -> the likeliest next token [B T], on every process."""

    def likeliest(params: Any, tokens: jax.Array) -> jax.Array:
        return jnp.argmax(forward(config, params, tokens)[0], axis=-1)

    return jax.jit(likeliest, out_shardings=replicated(mesh))
