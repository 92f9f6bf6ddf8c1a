"""The table says what its figures are worth."""

from dataclasses import replace

import numpy as np
import pytest

from lm.data.overlap import COMMON, GramIndex
from lm.evals.fewshot.contamination import Overlap, overlaps
from lm.evals.fewshot.evaluation import Summary
from lm.evals.fewshot.table import HEAD, Line, differences, remarks, size
from lm.evals.fewshot.task import TaskItems
from lm.evals.fewshot.tasks import TASKS
from lm.evals.incontext import Item

COPA = next(task for task in TASKS if task.name == "copa")
ITEMS = tuple(Item(contexts=(f"{n}, so",), completions=(" x", " y"), gold=n % 2) for n in range(80))
READ = TaskItems(COPA, ITEMS, ITEMS, ())


def line(label="few", rights=(1.0, 0.0, 1.0, 1.0), overlap=None, **changes) -> Line:
    summary = Summary(
        **{
            "shots": 32, "numbers": tuple(range(len(rights))), "rights": {"accuracy": rights},
            "used": 6.5, "shortened": 0, "cut": 0, "refused": 0,
        } | changes
    )  # fmt: skip
    return Line.of(READ, label, summary, 124_439_808, overlap)


def test_a_line_has_score_error_chance_the_papers_figure_and_the_gap_to_it():
    expected = "copa few=32 6.5 4 0.750 ± 0.250 0.500 0.670 +0.080 GPT-3 Small -"
    assert str(line()).split() == expected.split()
    assert HEAD.index("of ") == str(line()).index("GPT-3 Small")
    assert str(line("0")).split()[10:12] == ["GPT-3", "Small"] and "0.660" in str(line("0"))
    assert "0.620" in str(line("1"))
    assert (
        line("7").published is line("7").gap is None
    )  # the paper has no figure for seven examples
    assert "no item fits" in str(line(rights=(), refused=3))


def test_who_guesses_is_right_as_often_as_each_item_has_answers():
    items = [Item(contexts=("so",), completions=(" x", " y", " z", " w")[:n]) for n in (2, 4)]
    told = replace(line(rights=(1.0, 0.0)), read=replace(READ, items=tuple(items)))
    assert told.chance == (1 / 2 + 1 / 4) / 2


def test_a_program_gets_the_same():
    overlap = Overlap(np.array([False, True, False, False]), np.full(4, True))
    told = line(overlap=overlap, refused=2).figures()
    assert (told["score"], told["items"], told["refused"]) == (0.75, 4, 2)
    assert (told["overlap"], told["clean_score"], told["clean_items"]) == (0.25, 1.0, 3)
    assert (told["dirty_score"], told["dirty_items"]) == (0.0, 1)
    assert told["standard_errors"] == {"accuracy": told["standard_error"]}
    assert told["published"]["value"] == 0.67 and told["gap"] == pytest.approx(0.08)
    assert line(rights=(), refused=3).figures()["gap"] is None
    assert "overlap" not in line().figures()


def test_a_model_of_another_size_or_of_less_text_is_not_comparable():
    published = {"parameters": 125_226_240}
    assert differences(124_439_808, 300 * 10**9, published) == []
    assert differences(1_090_000, 300 * 10**9, published) == ["1.09M parameters against 125M"]
    assert differences(124_439_808, 9 * 10**9, published) == ["9B tokens of training against 300B"]
    (unknown,) = differences(124_439_808, None, published)
    assert "how many tokens is not known" in unknown


@pytest.mark.parametrize(
    ("value", "expected"),
    [(999, "999"), (32_768, "32.8k"), (1_093_120, "1.09M"), (174_604_259_328, "175B")],
)
def test_sizes_are_short(value, expected):
    assert size(value) == expected


def test_what_is_not_as_in_the_paper_is_said_in_words():
    told = remarks([line("0"), line("few", shortened=3, refused=1)])
    assert told[0] == "80 rows of the published 100" and told[1] == "5 of them asked"
    assert told[-2:] == [
        "few: 3 prompts lost examples to fit",
        "few: 1 items refused, longer than the context",
    ]
    overlap = Overlap(np.array([False, True, False, False]), np.full(4, True))
    said = "few: 1.000 of the 3 without the overlapping, 0.000 of those 1"
    assert remarks([line(overlap=overlap)])[-1] == said
    whole = Overlap(np.full(4, True), np.full(4, True))
    assert remarks([line(overlap=whole)])[-1].startswith("few: - of the 0 without")


def test_examples_that_are_other_items_of_the_set_are_said():
    said = "examples are other items of the same file"
    assert said in remarks([line("few")]) and said in remarks([line("0", shots=0), line("1")])
    assert said not in remarks([line("0", shots=0)])  # there are none
    apart = replace(line("few"), read=TaskItems(COPA, ITEMS, ITEMS, ITEMS))
    winograd = next(task for task in TASKS if task.name == "winograd")  # the paper's are its own
    itself = replace(line("few"), read=TaskItems(winograd, ITEMS, ITEMS, ()))
    assert said not in remarks([apart]) and said not in remarks([itself])


def test_items_in_the_training_text_are_found_task_by_task():
    known = "the quick brown fox jumps over the lazy dog and runs away again today"
    new = known.replace("fox", "cat")
    short = "one two three"
    found = overlaps(
        {"a": [new, known], "b": [short, short], "c": [known]},
        ["nothing of it", f"Before it. {known.upper()}! After it."],
    )
    assert found["a"].found.tolist() == [False, True] and found["a"].share == 0.5
    assert found["b"].share is None  # too short to be told
    assert found["c"].share == 1.0


def test_an_item_that_is_in_ever_so_many_documents_is_not_clean():
    known = "the quick brown fox jumps over the lazy dog and runs away again today"
    documents = [f"Of {n}: {known}, it seems." for n in range(COMMON + 1)]
    assert overlaps({"a": [known]}, documents)["a"].share == 1.0
    index = GramIndex([known])  # the control: by the rule of cutting it would be
    index.scan(documents)
    assert not index.contaminated(most=COMMON).any() and index.contaminated(most=None).all()


def test_a_gram_has_as_many_words_as_the_short_items_of_its_task():
    ten = "the quick brown fox jumps over the lazy dog again"
    longer = f"yesterday in the morning {ten} and ran away from all of us"
    tasks = {"short": [ten] * 10 + [longer], "long": [longer] * 11}
    found = overlaps(tasks, [f"Once {ten} it was."])
    assert found["short"].found.all()  # ten words in a row
    assert not found["long"].found.any()  # the control: thirteen
