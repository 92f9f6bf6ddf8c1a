"""InstructGPT's tasks: their rows as text, and the suite with the figures of the four models."""

import json
from pathlib import Path

import pytest

from lm.core.errors import ConfigError, DataError
from lm.evals.fewshot.instructgpt import TASKS
from lm.evals.incontext import Item, Prompt
from lm.evals.published import figures
from lm.evals.requests import Score
from lm.evals.suites import Model, Options
from lm.evals.suites.instructgpt import evaluate, nearest_size
from lm.text.byte import ByteTokenizer
from tests.evals.told import Told

DATA = Path(__file__).parents[3].parent / "shared" / "data"
NAMED = {task.name: task for task in TASKS}
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the data are not there")


class Lengthy(Told):
    """Likes long continuations, but not by the token."""

    def scores(self, requests):
        return [Score(-1.0, len(r.continuation), False, 0) for r in requests]


def put(root, name, value):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def prompt_of(name, root, shots=0, number=0):
    return NAMED[name].read(root).prompt(number, shots, 0, ByteTokenizer(), 10**6)


def judged(name, item, *texts):
    """The first figure of each text."""
    protocol = NAMED[name].protocol
    outcomes = protocol.ask(Lengthy(*texts), [Prompt(item, "", 0)] * len(texts))
    return [outcome.figures[protocol.metrics[0]] for outcome in outcomes]


def test_numbers_of_examples_are_those_of_the_appendix_and_all_is_greedy():
    assert {task.name: task.shots for task in TASKS} == {
        "squad2": 4, "drop": 4, "quac": 2, "hellaswag": 15, "rte": 15, "sst2": 15, "wsc": 15,
        "wmt15_fr_en": 15, "multi30k_fr_en": 15, "cnn_dailymail": 15, "tldr": 15,
    }  # fmt: skip
    written = [task.protocol for task in TASKS if hasattr(task.protocol, "beams")]
    assert {(one.beams, one.stop) for one in written} == {(1, ("\n",))}
    chosen = [task.protocol for task in TASKS if not hasattr(task.protocol, "beams")]
    assert {one.rule for one in chosen} == {"token"} and len(chosen) + len(written) == len(TASKS)


def test_a_question_without_an_answer_is_told_as_the_instruction_says(tmp_path):
    asked = [
        {"id": "1", "question": "Who?", "answers": [{"text": "Ann"}], "is_impossible": False},
        {"id": "2", "question": "When?", "answers": [], "is_impossible": True},
        {"id": "3", "question": "Why?", "answers": [{"text": "fun"}], "is_impossible": False},
    ]
    paragraphs = [{"context": "Ann flew.", "qas": asked}]
    put(tmp_path, "squad2/dev-v2.0.json", {"data": [{"title": "A", "paragraphs": paragraphs}]})
    prompt = prompt_of("squad2", tmp_path, number=2)
    assert prompt.contexts[0] == (
        "Answer each question using information in the preceding background paragraph. If there is "
        'not enough information provided, answer with "Not in background".\n\nTitle: A\n\n'
        "Background: Ann flew.\n\nQ: Who?\n\nA: Ann\n\nQ: When?\n\nA: Not in background\n\n"
        "Q: Why?\n\nA:"
    )
    first, second, _ = NAMED["squad2"].read(tmp_path).items
    assert judged("squad2", second, " Not in background.", " Ann") == [1, 0]
    assert judged("squad2", first, " Not in background.", " Ann") == [0, 1]
    turns = [{"question": "team?", "id": "q", "orig_answer": {"text": "CANNOTANSWER"},
              "answers": [{"text": "CANNOTANSWER"}]},
             {"question": "when?", "id": "r", "orig_answer": {"text": "in May"},
              "answers": [{"text": "in May"}]}]  # fmt: skip
    section = {"title": "P", "section_title": "S",
               "paragraphs": [{"context": "He played. CANNOTANSWER", "qas": turns}]}  # fmt: skip
    put(tmp_path, "quac/val_v0.2.json", {"data": [section]})
    assert (
        "Q: team?\n\nA: I don't know\n\nQ: when?" in prompt_of("quac", tmp_path, 0, 1).contexts[0]
    )
    assert judged("quac", NAMED["quac"].read(tmp_path).items[0], " I don't know") == [1]


def test_entailment_and_sentiment_are_chosen_by_words(tmp_path):
    rte = "index\tsentence1\tsentence2\tlabel\n0\tIt is ready.\tIt is used.\tnot_entailment\n"
    put(tmp_path, "rte/dev.tsv", rte)
    item = NAMED["rte"].read(tmp_path).items[0]
    assert item.example == (
        "Passage: It is ready.\nQuestion: From this passage can one reasonably conclude that It is "
        "used?\nAnswer: No"
    )
    put(tmp_path, "sst2/dev.tsv", "sentence\tlabel\nso good \t1\n")
    prompt = prompt_of("sst2", tmp_path)
    assert prompt.contexts[0].endswith("as positive or negative.\n\nText: so good\nLabel:")
    assert prompt.item.completions == (" positive", " negative") and prompt.item.gold == 0


def test_a_noun_is_named_by_words_and_not_by_letters_of_them():
    mother = Item(
        contexts=("Who?",), completions=(" Mike's mother",), answers=(("Mike's mother",), ("true",))
    )
    texts = " he", " the mother", " Mike", " I think Mike's mother", " the", " a moth"
    assert judged("wsc", mother, *texts) == [0, 1, 0, 1, 0, 0]


def test_a_pronoun_is_right_by_the_noun_that_is_written_and_only_known_nouns_are_shown(tmp_path):
    def row(noun, label, name="Joan"):
        target = {"span1_text": noun, "span2_text": "she", "span2_index": 5}
        return {"text": f"Jane gave {name} candy because she was hungry.", "target": target,
                "label": label}  # fmt: skip

    rows = [row("Joan", "true"), row("Jane", "false"), row("Ann", "true", "Ann"),
            row("Eve", "true", "Eve")]  # fmt: skip
    put(tmp_path, "superglue_wsc/val.jsonl", "\n".join(map(json.dumps, rows)))
    items = NAMED["wsc"].read(tmp_path).items
    assert items[0].example.endswith(
        "because *she* was hungry.\nQuestion: In the passage above, what does the pronoun "
        '"*she*" refer to?\nAnswer: Joan'
    )
    assert judged("wsc", items[0], " Joan.", " Jane", "", " It is Joan") == [1, 0, 0, 1]
    assert judged("wsc", items[1], " Joan.", " Jane", "") == [1, 0, 1]
    # never Jane, never itself, and nothing of its own passage
    for number, shown in ((0, "Ann Eve"), (1, "Ann Eve"), (2, "Eve Joan"), (3, "Ann Joan")):
        prompt = prompt_of("wsc", tmp_path, 15, number)
        answers = [line for line in prompt.prefix.split("\n") if line.startswith("Answer: ")]
        assert sorted(answers) == [f"Answer: {name}" for name in shown.split()]


def test_the_chance_of_a_pronoun_is_what_naming_no_noun_gets(tmp_path):
    rows = [
        {"text": f"Eve gave her {thing} away as it was old.", "label": label,
         "target": {"span1_text": thing, "span2_text": "it", "span2_index": 6}}
        for thing, label in (("car", "true"), ("dog", "false"), ("cat", "false"), ("cup", "false"))
    ]  # fmt: skip
    put(tmp_path, "superglue_wsc/val.jsonl", "\n".join(map(json.dumps, rows)))
    lines, said = told(tmp_path, tasks=("wsc",))
    assert [(line.chance, line.summary.mean()[0]) for line in lines] == [(0.75, 0.75)] * 2
    assert [row.split()[8] for row in said if row.startswith("wsc  ")] == ["0.750"] * 2


def test_a_summary_is_one_line_behind_tldr(tmp_path):
    put(tmp_path, "tldr/test.jsonl", {"post": "I fell.\nIt hurt.", "summary": "Fell.\nHurt."})
    (item,) = NAMED["tldr"].read(tmp_path).items
    assert item.example == "I fell.\nIt hurt.\n\nTL;DR: Fell. Hurt."
    whole, half = judged("tldr", item, " Fell. Hurt.", " Fell.")
    assert whole == 1 and half == pytest.approx(2 / 3)


@pytest.fixture
def root(tmp_path):
    lines = [f"a text number {n}\t{n % 2}" for n in range(6)]
    put(tmp_path, "sst2/dev.tsv", "\n".join(["sentence\tlabel", *lines]) + "\n")
    return tmp_path


def told(root, **options):
    said: list[str] = []
    model = Model(name="r", scorer=Lengthy(" x"), step=5, digest="d", tokens=10, training=list)
    lines = evaluate(model, Options(root=root, out=root / "out", **options), said.append)
    return lines, said


def test_the_suite_has_the_papers_two_settings_and_its_four_models_beside(root):
    lines, said = told(root)
    assert [(line.read.task.name, line.label) for line in lines] == [("sst2", "0"), ("sst2", "few")]
    assert [line.summary.used for line in lines] == [0, 5]
    # of the texts the shorter word, by the token: each token of the longer is likelier
    assert lines[0].summary.mean()[0] == 0.5
    table = json.loads((root / "out" / "instructgpt-step5.json").read_text())
    assert table[0]["published"] == {"GPT": 0.592, "SFT": 0.873, "PPO": 0.817, "PPO-ptx": 0.812}
    assert any("0.592    0.873    0.817    0.812" in line for line in said)
    assert said[0].startswith("left out, no file in") and "squad2" in said[0]
    assert any(line.startswith("the paper's are its models of 1.3B") for line in said)
    assert told(root, shots=("few", "3"))[0][0].label == "few"
    with pytest.raises(ConfigError, match="shots 1: this suite has 0 and few"):
        told(root, shots=("1",))
    with pytest.raises(DataError, match="no file of drop"):
        told(root, tasks=("drop",))


def test_the_figures_are_those_of_table_14_and_every_task_of_it_has_its_twelve():
    rows = [row for row in figures() if row["family"] == "instructgpt_tasks"]
    assert {row["task"] for row in rows} == {task.name for task in TASKS} - {"multi30k_fr_en"}
    assert len(rows) == 12 * (8 * 2 + 2)
    assert all(0.1 < row["value"] < 0.95 for row in rows)
    for row in rows:
        assert row["metric"] == NAMED[row["task"]].protocol.metrics[0]
    assert [nearest_size(n) for n in (10**6, 2 * 10**9, 10**10, 10**11)] == (
        ["1.3B", "1.3B", "6B", "175B"]
    )


@needs_data
@pytest.mark.parametrize(
    ("name", "items", "beginning"),
    [
        ("squad2", 894, "Title: Super Bowl 50\n\nBackground: The Panthers"),
        ("hellaswag", 7438, "Roof shingle removal: A man is sitting on a roof."),
        ("rte", 2490, "Passage: No Weapons of Mass Destruction Found in Iraq Yet.\nQuestion: From"),
        pytest.param(  # whose examples are 67,349
            "sst2",
            872,
            "Text: it 's a charming and often affecting journey .\nLabel:",
            marks=pytest.mark.slow,
        ),  # fmt: skip
        ("wsc", 100, "Passage: Bernard , who had not told"),
        ("multi30k_fr_en", 1000, "French: Un homme avec un chapeau orange"),
        ("cnn_dailymail", 100, "The only thing crazier than a guy in snowbound Massachusetts"),
    ],
)
def test_every_row_at_hand_is_read(name, items, beginning):
    read = NAMED[name].read(DATA)
    assert len(read.items) == items and read.items[0].contexts[0].startswith(beginning)
