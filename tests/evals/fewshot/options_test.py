"""Questions to which several options may be right, read in their published forms."""

import json

import pytest

from lm.core.errors import DataError
from lm.evals.fewshot.tasks import TASKS
from lm.evals.incontext import Prompt
from lm.evals.options import Verify, option_line
from lm.evals.requests import Score
from lm.metrics.pooled import pooled
from lm.text.byte import ByteTokenizer

NAMED = {task.name: task for task in TASKS}


def put(root, name, *rows):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def passage(n, questions):
    return {"idx": n, "passage": {"text": f"Ann ran {n} miles.", "questions": questions}}


def question(text, **options):
    answers = [{"text": option, "label": label} for option, label in options.items()]
    return {"question": text, "answers": answers}


class Likes:
    """Prefers the continuations that are named."""

    def __init__(self, *liked):
        self.liked, self.asked = liked, []

    def scores(self, requests):
        self.asked += requests
        return [Score(-1.0 - (r.continuation not in self.liked), 1, False, 0) for r in requests]


def test_multirc_labels_each_option_of_a_question_on_a_passage(tmp_path):
    asked = [question("Who ran?", Ann=1, Bob=0), question("How far?", far=0, near=0, x=1)]
    put(tmp_path, "MultiRC/val.jsonl", passage(3, asked), passage(5, asked[:1]))
    read = NAMED["multirc"].read(tmp_path)
    assert [item.id for item in read.items] == ["3:0", "3:1", "5:0"]
    assert read.items[0].example == "Ann ran 3 miles.\n\nWho ran?\n- [True] Ann\n- [False] Bob"
    prompt = read.prompt(0, 32, 0, ByteTokenizer(), 10_000)
    assert prompt.shots == 1  # no question on the same passage
    assert prompt.contexts[0] == (
        "READING COMPREHENSION ANSWER KEY\n\nAnn ran 5 miles.\n\nWho ran?\n- [True] Ann\n"
        "- [False] Bob\n\nAnn ran 3 miles.\n\nWho ran?"
    )
    put(tmp_path, "MultiRC/val.jsonl", {"idx": 3, "passage": {"text": "x"}})
    with pytest.raises(DataError, match=r"val\.jsonl:1: no passage with questions"):
        NAMED["multirc"].read(tmp_path)


def test_an_option_is_right_where_its_label_is_the_likelier_and_f1a_is_over_all_of_them(tmp_path):
    asked = [question("Who?", Ann=1, Bob=0), question("How?", far=0, near=0, x=1)]
    put(tmp_path, "MultiRC/val.jsonl", passage(3, asked))
    items = NAMED["multirc"].read(tmp_path).items
    liked = [option_line("True", "Ann"), option_line("False", "Bob"), option_line("True", "far"),
             option_line("False", "near"), option_line("True", "x")]  # fmt: skip
    scorer = Likes(*liked)
    first, second = Verify().ask(scorer, [Prompt(item, "", 0) for item in items])
    assert len(scorer.asked) == 2 * 5 and scorer.asked[0].context == items[0].contexts[0]
    assert first.figures == {"f1a": 1.0, "exact_match": 1.0} and first.answer == "Ann"
    assert second.figures == {"f1a": pytest.approx(2 / 3), "exact_match": 0.0}
    value, error = pooled("f1a", [first.counts, second.counts])
    assert value == pytest.approx(2 * 2 / (3 + 2)) and error > 0
    assert value != pytest.approx((1 + 2 / 3) / 2)  # the control: the mean over questions
    nobody = Verify().ask(Likes(), [Prompt(items[0], "", 0)])[0]
    assert nobody.counts == (0, 0, 1) and nobody.figures["f1a"] == 0


def test_where_no_option_is_right_to_say_so_of_none_is_all_right(tmp_path):
    put(tmp_path, "MultiRC/val.jsonl", passage(3, [question("Who?", Ann=0, Bob=0)]))
    (item,) = NAMED["multirc"].read(tmp_path).items
    (found,) = Verify().ask(Likes(), [Prompt(item, "", 0)])
    assert found.counts == (0, 0, 0) and found.figures == {"f1a": 1.0, "exact_match": 1.0}


def test_labels_are_compared_by_their_mean_over_tokens(tmp_path):
    class Long:
        """The line with True is of more tokens, each of them likelier."""

        def scores(self, requests):
            return [
                Score(-3.0, 3, False, 0) if "True" in r.continuation else Score(-2.0, 1, False, 0)
                for r in requests
            ]

    put(tmp_path, "MultiRC/val.jsonl", passage(3, [question("Who?", Ann=1, Bob=0)]))
    (item,) = NAMED["multirc"].read(tmp_path).items
    (found,) = Verify().ask(Long(), [Prompt(item, "", 0)])
    assert found.answer == "Ann; Bob"


def story():
    text = "Ann Lee met Bob.\n@highlight\nAnn won.\n@highlight\nBob lost."
    places = [(0, 6), (12, 14), (28, 30), (48, 50)]  # of first and last characters
    return {
        "idx": 7,
        "passage": {"text": text, "entities": [{"start": a, "end": b} for a, b in places]},
        "qas": [{"query": "In the end @placeholder won.", "idx": 9,
                 "answers": [{"text": "Ann Lee"}, {"text": "Ann"}]}],
    }  # fmt: skip


def test_record_fills_the_gap_of_a_highlight_and_any_right_name_counts(tmp_path):
    put(tmp_path, "record/val.jsonl", story())
    task = NAMED["record"]
    (item,) = task.read(tmp_path).items
    assert item.contexts == ("Ann Lee met Bob.\n- Ann won.\n- Bob lost.",)
    assert item.completions == (
        "\n- In the end Ann Lee won.", "\n- In the end Bob won.", "\n- In the end Ann won.",
    )  # fmt: skip
    assert item.example.endswith("Bob lost.\n- In the end Ann Lee won.") and item.id == "7:9"
    prompt = [Prompt(item, "", 0)]
    for name, right in (("Ann Lee", 1.0), ("Ann", 1.0), ("Bob", 0.0)):
        (outcome,) = task.protocol.ask(Likes(f"\n- In the end {name} won."), prompt)
        assert outcome.figures == {"answer_f1": right, "exact_match": right}
    broken = story()
    broken["qas"][0]["answers"] = [{"text": "Eve"}]
    put(tmp_path, "record/val.jsonl", broken)
    with pytest.raises(DataError, match="no name of the story is the answer 'Eve'"):
        task.read(tmp_path)


def test_an_analogy_is_two_pairs_of_words(tmp_path):
    row = {"stem": ["lull", "trust"], "answer": 1,
           "choice": [["balk", "fortitude"], ["cajole", "compliance"]]}  # fmt: skip
    put(tmp_path, "sat_analogies/test.jsonl", row)
    (item,) = NAMED["sat_analogies"].read(tmp_path).items
    assert item.example == "lull is to trust as cajole is to compliance"
    assert item.completions[0] == " balk is to fortitude" and NAMED["sat_analogies"].shots == 20
