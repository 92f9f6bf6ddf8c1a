"""Sets of questions on passages, read in their published forms and written as the paper does."""

import json
from pathlib import Path

import pytest

from lm.core.errors import DataError
from lm.evals.fewshot.tasks import TASKS
from lm.evals.protocols import Write
from lm.text.byte import ByteTokenizer

DATA = Path(__file__).parents[3].parent / "shared" / "data"
NAMED = {task.name: task for task in TASKS}


def put(root, name, value):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def score(item, text, task):
    """What the task's protocol makes of a written answer."""

    class Told:
        def generate(self, prompts, tokens, **options):
            return [text]

    class Asked:
        contexts = item.contexts

    Asked.item = item
    (outcome,) = NAMED[task].protocol.ask(Told(), [Asked()])
    return outcome.figures


def article(title, paragraphs, **more):
    return {"title": title, **more, "paragraphs": paragraphs}


def test_race_shows_the_questions_before_with_their_answers(tmp_path):
    passage = {
        "article": "Ann ran. Bob sat.",
        "questions": ["Who ran?", "Who _ ?"],
        "options": [["Bob", "Ann", "I", "we"], ["sat", "flew", "ran", "ate"]],
        "answers": ["B", "A"],
    }
    put(tmp_path, "RACE/test/high/1.txt", passage)
    put(tmp_path, "RACE/test/high/2.txt", passage | {"article": "Other."})
    task = NAMED["race_high"]
    assert (task.protocol.rule, task.protocol.answer_context) == ("unconditional", "A:")
    items = task.read(tmp_path).items
    assert [item.gold for item in items] == [1, 0, 1, 0]
    assert items[1].contexts == (
        "Article:\nAnn ran. Bob sat.\n\nQ: Who ran?\n\nA: Ann\n\nQ: Who _ ?\n\nA:",
    )
    assert items[1].completions == (" sat", " flew", " ran", " ate")
    put(tmp_path, "RACE/test/high/2.txt", passage | {"answers": ["B"]})
    with pytest.raises(DataError, match=r"2\.txt: no passage of RACE"):
        task.read(tmp_path)


def test_no_example_is_of_the_passage_that_is_asked_about(tmp_path):
    for n in range(3):
        passage = {"article": f"Text {n}.", "questions": ["x?", "y?"], "answers": ["A", "B"],
                   "options": [["a", "b", "c", "d"]] * 2}  # fmt: skip
        put(tmp_path, f"RACE/test/middle/{n}.txt", passage)
    read = NAMED["race_middle"].read(tmp_path)
    for number in range(6):
        for seed in range(5):
            prompt = read.prompt(number, 10, seed, ByteTokenizer(), 10_000)
            assert prompt.shots == 4 and f"Text {number // 2}." not in prompt.prefix


def test_quac_has_its_section_its_dialogue_and_the_references_of_its_evaluation(tmp_path):
    def question(text, *answers, original):
        return {"question": text, "id": text, "orig_answer": {"text": original},
                "answers": [{"text": answer} for answer in answers]}  # fmt: skip

    asked = [
        question("what team?", "the Bears", "the Bears", "CANNOTANSWER", original="the Bears"),
        question("when?", "CANNOTANSWER", "in May", original="CANNOTANSWER"),
        question("why?", "for money", "it rained", original="for money"),  # people disagree
        question("how?", "by car", "a car", original="by car"),
    ]
    paragraphs = [{"context": "He played. CANNOTANSWER", "qas": asked}]
    entry = article("Perry", paragraphs, section_title="Career")
    put(tmp_path, "quac/val_v0.2.json", {"data": [entry]})
    items = NAMED["quac"].read(tmp_path).items
    assert [item.completions for item in items] == [
        (" the Bears", " the Bears"), (" CANNOTANSWER",), (" by car", " a car"),
    ]  # fmt: skip
    assert items[2].contexts[0] == (
        "TITLE: Perry -- Career\nPARAGRAPH: He played.\n\nQ: what team?\n\nA: the Bears\n\n"
        "Q: when?\n\nA: CANNOTANSWER\n\nQ: why?\n\nA: for money\n\nQ: how?\n\nA:"
    )
    # "by car" against "car" alone, then against "by car" alone
    assert score(items[2], " by car", "quac")["answer_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert score(items[1], " cannotanswer", "quac")["answer_f1"] == 1


def test_squad2_says_that_there_is_no_answer(tmp_path):
    asked = [
        {"id": "1", "question": "Who?", "answers": [{"text": "Ann"}, {"text": "Ann"}],
         "is_impossible": False},
        {"id": "2", "question": "When?", "answers": [], "is_impossible": True},
    ]  # fmt: skip
    entry = article("The_Blitz", [{"context": "Ann flew.", "qas": asked}])
    put(tmp_path, "squad2/dev-v2.0.json", {"data": [entry]})
    first, second = NAMED["squad2"].read(tmp_path).items
    assert first.contexts[0] == "Title: The Blitz\n\nBackground: Ann flew.\n\nQ: Who?\n\nA:"
    assert second.contexts[0] == (
        "Title: The Blitz\n\nBackground: Ann flew.\n\nQ: Who?\n\nA: Ann\n\nQ: When?\n\nA:"
    )
    assert score(first, " Ann", "squad2") == {"answer_f1": 1, "exact_match": 1}
    assert score(first, " unanswerable", "squad2") == {"answer_f1": 0, "exact_match": 0}
    assert score(second, " unanswerable.", "squad2") == {"answer_f1": 1, "exact_match": 1}
    assert score(second, " it is unanswerable", "squad2") == {"answer_f1": 0, "exact_match": 0}
    assert score(second, " Ann", "squad2") == {"answer_f1": 0, "exact_match": 0}


def test_coqa_takes_the_mean_over_references_left_out(tmp_path):
    def said(*texts):
        return [{"input_text": text, "turn_id": n + 1} for n, text in enumerate(texts)]

    story = {
        "story": "Helsinki is large.", "questions": said("Which city?", "How large?"),
        "answers": said("Helsinki", "very"),
        "additional_answers": {"0": said("Helsinki", "large"), "1": said("it is", "very large")},
    }  # fmt: skip
    put(tmp_path, "coqa/coqa-dev-v1.0.json", {"data": [story]})
    first, second = NAMED["coqa"].read(tmp_path).items
    assert second.contexts[0] == (
        "Helsinki is large.\n\nQ: Which city?\n\nA: Helsinki\n\nQ: How large?\n\nA:"
    )
    # without "very" the best is 2/3 of "very large"; without either other it is 1
    assert score(second, " very", "coqa")["answer_f1"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert score(first, " Helsinki", "coqa")["answer_f1"] == 1
    del story["answers"]
    put(tmp_path, "coqa/coqa-dev-v1.0.json", {"data": [story]})
    with pytest.raises(DataError, match=r"data\[0\]: no dialogue of CoQA"):
        NAMED["coqa"].read(tmp_path)


def test_drop_has_numbers_spans_and_dates(tmp_path):
    def answer(number="", spans=(), **date):
        return {"number": number, "spans": list(spans), "date": date}

    pairs = [
        {"question": "How many?", "query_id": "a", "answer": answer("4"),
         "validated_answers": [answer("4"), answer(spans=["four years"])]},
        {"question": "Who?", "query_id": "b", "answer": answer(spans=["Ann", "Bob Lee"])},
        {"question": "When?", "query_id": "c",
         "answer": answer(day="5", month="May", year="1980")},
    ]  # fmt: skip
    put(tmp_path, "drop/drop_dataset_dev.json", {"p": {"passage": "Text.", "qa_pairs": pairs}})
    items = NAMED["drop"].read(tmp_path).items
    assert items[0].contexts[0] == "Passage: Text.\nQuestion: How many?\nAnswer:"
    assert [item.completions for item in items] == [
        (" 4", " four years"), (" Ann, Bob Lee",), (" 5 May 1980",),
    ]  # fmt: skip
    assert score(items[0], " 4", "drop") == {"answer_f1": 1, "exact_match": 1}
    assert score(items[0], " 5 years", "drop")["answer_f1"] == pytest.approx(0.5)
    assert score(items[1], " Bob Lee", "drop") == {"answer_f1": 0.5, "exact_match": 0}
    assert score(items[2], " May 1980", "drop")["answer_f1"] == pytest.approx(0.8)


@pytest.mark.skipif(not DATA.is_dir(), reason="the data are not there")
def test_the_questions_at_hand_are_read_behind_those_before_them():
    read = NAMED["squad2"].read(DATA)
    assert len(read.items) == 894 and len({item.group for item in read.items}) > 150
    second = read.items[1]
    assert second.contexts[0].startswith("Title: Super Bowl 50\n\nBackground: The Panthers")
    assert "Q: How many points did the Panthers defense surrender?\n\nA: 308" in second.contexts[0]
    assert isinstance(read.task.protocol, Write)
    prompt = read.prompt(1, 2, 0, ByteTokenizer(), 100_000)
    assert prompt.shots == 2 and second.contexts[0][:60] not in prompt.prefix
