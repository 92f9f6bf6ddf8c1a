"""Each protocol equals a loop over items and answers that is written out."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest

from lm.core.errors import ConfigError
from lm.evals import protocols
from lm.evals.incontext import Item, Prompt, Style
from lm.evals.protocols import Choose, Predict, Program, Write
from lm.evals.requests import Request, Score
from lm.evals.scorer import Scorer
from lm.text.byte import ByteTokenizer
from tests.evals.scorer_test import Latin, logits_of, tiny

ANSWERS = (" up", " far down there", " 0", " é", " somewhere else", " zz")
ITEMS = [
    Item(contexts=(f"Q: where is {name}?\nA:",), completions=ANSWERS, gold=number % len(ANSWERS))
    for number, name in enumerate(["Ann", "Bob", "it", "oz", "9"])
]
SCHEMAS = [
    Item(contexts=("the cup and the bag: the cup", "the cup and the bag: the bag"),
         completions=(end,), gold=number % 2)
    for number, end in enumerate([" is full.", " is torn", " fell", " broke!"])
]  # fmt: skip
PREFIX = Style().prefix([ITEMS[3]])


def prompts(items: list[Item]) -> list[Prompt]:
    return [
        Prompt(item, PREFIX if number % 2 else "", number % 2) for number, item in enumerate(items)
    ]


@functools.cache
def scorer() -> Scorer:
    return tiny()


@functools.cache
def nats(context: str, completion: str) -> float:
    """Log-likelihood of a completion, a token at a time."""
    model, total = scorer(), 0.0
    ids, after = model.tokenizer.encode(context), model.tokenizer.encode(completion)
    for token in after:
        logits = logits_of(model, ids)[-1]
        total += logits[token] - np.log(np.exp(logits).sum())
        ids = [*ids, token]
    return total


def by_hand(items: list[Item], measure) -> list[int]:
    """The best answer of each, by a measure of (context, completion)."""
    chosen = []
    for prompt in prompts(items):
        pairs = [(a, b) for a in prompt.contexts for b in prompt.item.completions]
        chosen.append(int(np.argmax([measure(*pair) for pair in pairs])))
    return chosen


MEASURES = {
    "sum": nats,
    "token": lambda a, b: nats(a, b) / len(b.encode()),
    "byte": lambda a, b: nats(a, b) / len(b.strip().encode()),
    "unconditional": lambda a, b: nats(a, b) - nats("A:", b),
}


def chosen_of(protocol: Choose, items: list[Item]) -> list[int]:
    outcomes = protocol.ask(scorer(), prompts(items))
    found = []
    for item, outcome in zip(items, outcomes, strict=True):
        answers = item.contexts if item.partial else [text.strip() for text in item.completions]
        found.append(list(answers).index(outcome.answer))
        assert outcome.figures == {"accuracy": float(found[-1] == item.gold)}
    return found


def test_every_normalisation_of_multiple_choice_equals_a_loop_and_no_other():
    expected = {rule: by_hand(ITEMS, measure) for rule, measure in MEASURES.items()}
    found = {rule: chosen_of(Choose(rule=rule, answer_context="A:"), ITEMS) for rule in MEASURES}
    assert found == expected
    # the control: on these items the rules do differ, so that one cannot pass for another
    assert len({tuple(chosen) for chosen in found.values()}) >= 3


@pytest.mark.parametrize("rule", MEASURES)
def test_probabilities_are_shares_of_the_likelihoods_whatever_is_compared(rule):
    class Likely:
        """Says 1/2 of the first and 1/6 of the second, and of either 1/9 alone."""

        def scores(self, requests):
            said = [1 / 2, 1 / 6] + [1 / 9, 1 / 9]
            return [Score(np.log(p), 4, False, 0) for p in said[: len(requests)]]

    item = Item(contexts=("Q: who?\nA:",), completions=(" Ann", " Bo"))
    (found,) = Choose(rule=rule).ask(Likely(), [Prompt(item, "", 0)])
    assert found.probabilities == pytest.approx((0.75, 0.25))


def test_of_several_programs_the_first_of_each_problem_is_told(monkeypatch):
    def run(programs, limits):
        return [SimpleNamespace(passed="b1" in one, no_module=False) for one in programs]

    def generate(contexts, *_, **__):
        return [f"{context}{n % 2}" for n, context in enumerate(contexts)]

    monkeypatch.setattr(protocols, "run_programs", run)
    some = [
        Prompt(Item(contexts=(name,), completions=(" x",), answers=(("",),)), "", n)
        for n, name in enumerate("abc")
    ]
    scorer = SimpleNamespace(generate=generate)
    found = Program(samples=2, temperature=0.8).ask(scorer, some)
    assert [one.answer for one in found] == ["a0", "b0", "c0"]
    assert [one.figures["pass_at_1"] for one in found] == [0, 0.5, 0]


class Pairs(ByteTokenizer):
    """Two bytes a token, so that tokens, characters and bytes of a text are three numbers."""

    def encode_batch(self, texts):
        bytes_of = super().encode_batch(texts)
        return [[sum(ids[at : at + 2]) % 256 for at in range(0, len(ids), 2)] for ids in bytes_of]


def test_what_is_compared_is_divided_by_tokens_or_by_bytes_without_the_blank():
    model, context = tiny(), "Q: who?A:"
    model.tokenizer = Pairs()
    answers = (" é", " naïve", " žluťoučký", " 東京", " up there")
    totals = []
    for answer in answers:
        ids, total = model.tokenizer.encode(context), 0.0
        for token in model.tokenizer.encode(answer):
            logits = logits_of(model, ids)[-1]
            total += logits[token] - np.log(np.exp(logits).sum())
            ids = [*ids, token]
        totals.append(total)
    scores = model.scores([Request(context, answer) for answer in answers])

    def values(rule):
        pairs = zip(scores, answers, strict=True)
        return [Choose(rule=rule).value(score, answer) for score, answer in pairs]

    def over(count):
        return np.array(totals) / [count(answer) for answer in answers]

    def is_close(rule, count):
        return np.allclose(values(rule), over(count), rtol=1e-4)

    def tokens(answer):
        return len(model.tokenizer.encode(answer))

    bare, whole = (lambda a: len(a.strip().encode())), (lambda a: len(a.encode()))
    assert is_close("sum", lambda a: 1)
    assert is_close("token", tokens) and is_close("byte", bare)
    # the controls: characters, bytes with the blank, and the other rule's number
    for wrong in (lambda a: len(a.strip()), len, whole, tokens):
        assert not is_close("byte", wrong)
    for wrong in (lambda a: len(a.strip()), len, whole, bare):
        assert not is_close("token", wrong)


def test_the_unconditional_part_is_that_of_the_answer_context():
    def whole(a, b):
        return nats(a, b) - nats("Answer:", b)

    assert chosen_of(Choose(rule="unconditional"), ITEMS) == by_hand(ITEMS, whole)
    values = [nats("Answer:", b) - nats("A:", b) for b in ANSWERS]
    assert np.ptp(values) > 1e-2  # the two forms are not the same


def test_partial_evaluation_scores_what_follows_after_each_context():
    assert chosen_of(Choose(rule="sum"), SCHEMAS) == by_hand(SCHEMAS, nats)
    # the control: the contexts themselves have likelihoods, and are not what is compared
    begun = by_hand(SCHEMAS, lambda a, b: nats(" ", a + b))
    assert begun != by_hand(SCHEMAS, nats)


def test_a_prediction_is_right_where_every_token_is_the_likeliest():
    model = tiny()
    model.tokenizer = Latin()
    context = "Q: who?"
    (written,) = model.generate([context], 16, stop=())
    written = written[:3]
    assert written.strip() == written
    right = Item(contexts=(context,), completions=(written,))
    wrong = Item(
        contexts=(context,), completions=(written[:-1] + ("x" if written[-1] != "x" else "y"),)
    )
    outcomes = Predict().ask(model, [Prompt(right, "", 0), Prompt(wrong, "", 0)])
    assert [outcome.figures["accuracy"] for outcome in outcomes] == [1.0, 0.0]


class Told(Scorer):
    """A model that writes what it is told."""

    def __init__(self, texts: list[str]):
        self.texts = texts

    def generate(self, prompts, tokens, *, stop, beams, length_penalty, **rest):
        assert (tokens, stop, beams, length_penalty) == (8, ("\n",), 4, 0.6)
        return self.texts


def test_what_is_written_is_compared_with_every_right_answer():
    item = Item(contexts=("Q: who?\nA:",), completions=(" Ann Lee", " Queen Ann"))
    cases = {" ann lee.": (1, 1), " the Queen Ann": (1, 1), " Ann": (0, 2 / 3), " Bob": (0, 0)}
    protocol = Write(tokens=8, metrics=("exact_match", "answer_f1"))
    outcomes = protocol.ask(Told(list(cases)), [Prompt(item, "", 0)] * len(cases))
    for outcome, expected in zip(outcomes, cases.values(), strict=True):
        assert tuple(outcome.figures.values()) == pytest.approx(expected)


def test_of_numbers_the_sign_counts():
    item = Item(contexts=("Q: 3 minus 7?\nA:",), completions=(" -4",))
    told = Told([" -4", " 4", "-4 ", " -42", " -"])  # nor is a part of a number the number
    strict = Write(tokens=8, compare="verbatim").ask(told, [Prompt(item, "", 0)] * 5)
    assert [outcome.figures["exact_match"] for outcome in strict] == [1, 0, 1, 0, 0]
    loose = Write(tokens=8).ask(told, [Prompt(item, "", 0)] * 5)  # the control: SQuAD's rule
    assert [outcome.figures["exact_match"] for outcome in loose] == [1, 1, 1, 0, 0]
    with pytest.raises(ConfigError, match="must be of exact_match"):
        Write(tokens=8, compare="verbatim", metrics=("answer_f1",))
