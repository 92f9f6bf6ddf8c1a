"""Questions after examples, and what counts as a right answer."""

import itertools
from random import Random
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lm.core.mesh import MeshConfig, make_mesh
from lm.data.puzzles import PUZZLES, Stock
from lm.evals import puzzles
from lm.evals.puzzles import CONDITIONS, Question, ask, gives, right
from lm.models.gpt import GptConfig, abstract_params, forward
from lm.text.byte import ByteTokenizer

KINDS = {puzzle.name: puzzle for puzzle in PUZZLES}
STOCK = Stock("valid", ("water", "house", "under", "again", "table", "stone"))


def lines(question):
    return question.context.strip().split("\n")


def test_an_item_asks_the_same_after_any_examples_and_another_item_does_not():
    asked = [ask(KINDS["copy"], STOCK, 3, k, "true", room=255) for k in (0, 1, 4)]
    assert len({(lines(q)[-1], q.answer) for q in asked}) == 1
    assert [q.shots for q in asked] == [0, 1, 4] == [len(lines(q)) - 1 for q in asked]
    assert ask(KINDS["copy"], STOCK, 3, 4, "true", room=255) == asked[2]
    assert ask(KINDS["copy"], STOCK, 4, 0, "true", room=255) != asked[0]


@pytest.mark.parametrize("name", [name for name, one in KINDS.items() if one.family != "mapping"])
def test_no_example_is_what_is_asked(name):
    puzzle = KINDS[name]
    for item, condition in itertools.product(range(64), CONDITIONS):
        context = ask(puzzle, STOCK, item, 8, condition, room=1000).context
        asked = ask(puzzle, STOCK, item, 0, condition, room=1000)
        before = context.removesuffix(asked.context) + "\n"
        assert context.endswith(asked.context) and asked.context + " " not in before
        if puzzle.family == "word":
            assert f"={asked.answer}\n" not in before
    # the control: drawn as they come, without another draw, some would be
    random = Random(0)
    rule = puzzle.rule(random, STOCK)
    drawn = [[rule(random) for _ in range(9)] for _ in range(64)]
    assert any(gives(one, question, puzzle) for question, *rest in drawn for one in rest)


def test_the_examples_of_a_mapping_may_be_what_is_asked():
    asked = [ask(KINDS["letters"], STOCK, item, 8, "true", room=1000) for item in range(20)]
    assert any(lines(q)[-1] + q.answer in lines(q)[:-1] for q in asked)


def test_shuffled_labels_are_the_same_labels_beside_other_questions():
    true, shuffled = (
        ask(KINDS["reverse"], STOCK, 0, 8, condition, room=255)
        for condition in ("true", "shuffled")
    )
    (questions, answers), (asked, given) = (
        zip(*(line.split(" = ") for line in lines(one)[:-1]), strict=True)
        for one in (true, shuffled)
    )
    assert asked == questions and sorted(given) == sorted(answers) and given != answers
    assert lines(true)[-1] == lines(shuffled)[-1] and true.answer == shuffled.answer


def test_examples_of_another_task_are_not_of_this_one():
    for item in range(20):
        question = ask(KINDS["copy"], STOCK, item, 4, "another", room=255)
        rows = [line.split(" = ") for line in lines(question)[:-1] if " = " in line]
        assert not rows or any(shown != meant for shown, meant in rows)
        assert lines(question)[-1].removesuffix(" =") == question.answer.strip()


def test_examples_that_do_not_fit_are_left_out_from_the_first_and_counted():
    whole = ask(KINDS["plus"], STOCK, 0, 6, "true", room=1000)
    cut = ask(KINDS["plus"], STOCK, 0, 6, "true", room=100)
    assert whole.shots == 6 and 0 < cut.shots < 6
    assert len(cut.context + cut.answer) <= 100 and whole.context.endswith(cut.context)


def written(likeliest, ids, count):
    """Greedy continuation, one whole pass a token."""
    for _ in range(count):
        padded = np.array([ids + [0] * (64 - len(ids))])
        ids = [*ids, int(likeliest(padded)[0, len(ids) - 1])]
    return ids[-count:]


def drawn(config, seed):
    random = np.random.default_rng(seed)
    shapes = nn.unbox(abstract_params(config))
    return jax.tree.map(lambda leaf: random.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)


class Ending(ByteTokenizer):
    """Bytes whose end token is one that the model really writes."""

    def __init__(self, end):
        super().__init__()
        self.end = end


def test_what_is_right_equals_a_brute_force_loop_of_greedy_writing():
    config = GptConfig(layers=2, width=16, heads=2, length=64, vocab=269)
    params, other = drawn(config, 3), drawn(config, 4)
    likeliest = jax.jit(lambda ids: jnp.argmax(forward(config, params, ids)[0], axis=-1))
    tokenizer, mesh = ByteTokenizer(), make_mesh(MeshConfig())
    asked = itertools.product(("copy", "letters"), range(6), (0, 1, 3))
    contexts = [
        ask(KINDS[name], STOCK, item, k, "true", room=60).context for name, item, k in asked
    ]
    for _ in range(3):  # until the model ends as it began
        tokenizer = Ending(tokenizer.end)
        said = [written(likeliest, [tokenizer.end, *c.encode()], 3) for c in contexts]
        ends = [row[2] for row in said if max(row[:2]) < 256]
        tokenizer.end = max(set(ends), key=ends.count)
    said = [written(likeliest, [tokenizer.end, *c.encode()], 3) for c in contexts]
    questions, expected = [], []
    for context, row in zip(contexts, said, strict=True):
        if max(row[:2]) > 127:
            continue
        answer = bytes(row[:2]).decode()
        questions += [Question(context, answer, 0), Question(context, answer[:1] + "~", 0)]
        expected += [
            row[2] in (10, tokenizer.end),
            row[1] == ord("~") and row[2] in (10, tokenizer.end),
        ]
    assert {True, False} == set(expected)
    np.testing.assert_array_equal(right(config, params, tokenizer, mesh, questions), expected)
    with pytest.raises(AssertionError):  # the control: another model writes something else
        np.testing.assert_array_equal(right(config, other, tokenizer, mesh, questions), expected)


def test_an_answer_that_goes_on_is_not_right(monkeypatch):
    asked = [Question("a b =", " c", 0), Question("what is one and one? ", "two", 0)]

    def told(after):
        """Of a model that says each text again and then this token."""

        def likeliest(params, tokens):
            found = np.roll(tokens, -1, axis=1)
            found[np.arange(len(tokens)), (tokens != 0).sum(axis=1) - 1] = after
            return found

        monkeypatch.setattr(puzzles, "predictor", lambda config, mesh: likeliest)
        return right(SimpleNamespace(length=64), None, tokenizer, None, asked).tolist()

    tokenizer = ByteTokenizer()
    assert told(tokenizer.end) == told(tokenizer.encode("\n")[0]) == [True, True]
    assert told(tokenizer.encode("s")[0]) == [False, False]
