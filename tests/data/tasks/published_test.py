"""Every published task, from rows in its published layout and from real files."""

import json
from pathlib import Path

import pytest

from lm.core.errors import DataError
from lm.data.records import Answer, Choice, Classification, Regression, Span, Tagging
from lm.data.tasks import PUBLISHED, TaskConfig, read
from lm.metrics.score import METRICS

DATA = Path(__file__).parents[3].parent / "shared" / "data"


def table(*lines, between="\t"):
    return "".join(between.join(line) + "\n" for line in lines)


def rows(*objects):
    return "".join(json.dumps(row) + "\n" for row in objects)


def squad_json(passage, *questions, title="Title"):
    paragraph = {"context": passage, "qas": list(questions)}
    return json.dumps({"version": "1", "data": [{"title": title, "paragraphs": [paragraph]}]})


PASSAGE = json.dumps({"id": "high1.txt", "article": "Ann ran.", "questions": ["Who ran?"],
                      "options": [["Bob", "Ann", "I", "we"]], "answers": ["B"]})  # fmt: skip
# name: the training file, its content, the record of its last row. The held-out file has the same.
LAYOUTS = {
    "sst2": ("train.tsv", table(["sentence", "label"], ["so good", "1"]),
        Classification(id="train:2", text="so good", label=1)),
    "cola": ("train.tsv", table(["gj04", "0", "*", "They drank the pub."]),
        Classification(id="train:1", text="They drank the pub.", label=0)),
    "mrpc": ("train.tsv", table(
            ["\ufeffQuality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
            ["1", "11", "12", 'He said " no .', "No , he said ."]),
        Classification(id="train:2", text='He said " no .', pair="No , he said .", label=1)),
    "qqp": ("train.tsv", table(
            ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
            ["133", "213", "214", "How?", "Why?", "0"]),
        Classification(id="133", text="How?", pair="Why?", label=0)),
    "stsb": ("train.tsv", table(
            "index genre filename year old_index source1 source2 sentence1 sentence2 score".split(),
            ["7", "captions", "x", "2012", "1", "none", "none", "A plane.", "A jet.", "4.250"]),
        Regression(id="7", text="A plane.", pair="A jet.", label=4.25)),
    "rte": ("train.tsv", table(
            ["index", "sentence1", "sentence2", "label"], ["3", "So.", "No.", "not_entailment"]),
        Classification(id="3", text="So.", pair="No.", label=1)),
    "wnli": ("train.tsv", table(
            ["index", "sentence1", "sentence2", "label"], ["3", "It fell.", "The cup fell.", "1"]),
        Classification(id="3", text="It fell.", pair="The cup fell.", label=1)),
    "qnli": ("train.tsv", table(
            ["index", "question", "sentence", "label"], ["9", "When?", "In 1905.", "entailment"]),
        Classification(id="9", text="When?", pair="In 1905.", label=0)),
    "mnli": ("train.tsv", table(
            "index promptID pairID genre sentence1 sentence2 label1 gold_label".split(),
            ["0", "31", "31n", "fiction", "He ran.", "He slept.", "neutral", "contradiction"]),
        Classification(id="31n", text="He ran.", pair="He slept.", label=2)),
    "mnli_mismatched": ("multinli_1.0_train.jsonl", rows(
            {"pairID": "5e", "sentence1": "He ran.", "sentence2": "He moved.",
             "gold_label": "entailment", "genre": "letters"}),
        Classification(id="5e", text="He ran.", pair="He moved.", label=0)),
    "snli": ("snli_1.0_train.jsonl", rows(
            {"pairID": "1#0", "sentence1": "Two dogs.", "sentence2": "A cat.", "gold_label": "-"},
            {"pairID": "1#1", "sentence1": "Two dogs.", "sentence2": "Pets.",
             "gold_label": "neutral"}),
        Classification(id="1#1", text="Two dogs.", pair="Pets.", label=1)),
    "scitail": ("scitail_1.0_train.tsv", table(
            ["Trees have leaves.", 'A "leaf" is green.', "neutral"]),
        Classification(id="scitail_1.0_train:1", text="Trees have leaves.",
                       pair='A "leaf" is green.', label=1)),
    "race": ("train/high/1.txt", PASSAGE,
        Choice(id="high1:0", context="Ann ran.", question="Who ran?",
               choices=("Bob", "Ann", "I", "we"), label=1)),
    "race_middle": ("train/middle/1.txt", PASSAGE,
        Choice(id="middle1:0", context="Ann ran.", question="Who ran?",
               choices=("Bob", "Ann", "I", "we"), label=1)),
    "race_high": ("train/high/1.txt", PASSAGE,
        Choice(id="high1:0", context="Ann ran.", question="Who ran?",
               choices=("Bob", "Ann", "I", "we"), label=1)),
    "swag": ("train.csv", table(
            "video-id fold-ind startphrase sent1 sent2 gold-source ending0 ending1 ending2 ending3 "
            "label".split(),
            ["v1", "7", "x", '"He sits, and ""waits""."', "She", "gold", "runs.", "eats.", "is.",
             '"sings, softly."', "3"], between=","),
        Choice(id="train:2", context='He sits, and "waits".', label=3,
               choices=("She runs.", "She eats.", "She is.", "She sings, softly."))),
    "hellaswag": ("hellaswag_train.jsonl", rows(
            {"ind": 4, "activity_label": "Rowing", "ctx_a": "A boat.", "ctx_b": "a man",
             "ctx": "A boat. a man", "endings": ["rows.", "sinks.", "flies.", "."], "label": "0"}),
        Choice(id="hellaswag_train:1", context="A boat. a man", label=0,
               choices=("rows.", "sinks.", "flies.", "."))),
    "piqa": ("train.jsonl", rows({"goal": "To open", "sol1": "Turn.", "sol2": "Eat.", "label": 0}),
        Choice(id="train:1", context="To open", choices=("Turn.", "Eat."), label=0)),
    "copa": ("train.jsonl", rows(
            {"idx": 2, "premise": "It rained.", "question": "effect", "choice1": "I left.",
             "choice2": "I got wet.", "label": 1}),
        Choice(id="2", context="It rained therefore", choices=("i left.", "i got wet."), label=1)),
    "winograd": ("train.jsonl", rows(
            {"context_options": ["It fell on Ann because Ann", "It fell on Ann because Eve"],
             "continuation": "slept.", "gold": 1}),
        Choice(id="train:1", context="It fell on Ann because", choices=("Ann slept.", "Eve slept."),
               label=1)),
    "winogrande": ("train.jsonl", rows(
            {"context_options": ["Eve sold the car, so the car", "Eve sold the car, so the bus"],
             "continuation": "was gone.", "gold": 0}),
        Choice(id="train:1", context="Eve sold the car, so the",
               choices=("car was gone.", "bus was gone."), label=0)),
    "openbookqa": ("train.jsonl", rows(
            {"id": "7-1", "answerKey": "B", "question": {"stem": "The sun", "choices": [
                {"label": "A", "text": "is cold"}, {"label": "B", "text": "is hot"}]}}),
        Choice(id="7-1", context="The sun", choices=("is cold", "is hot"), label=1)),
    "storycloze": ("cloze_test_val__spring2016.csv", table(
            ["InputStoryid", *(f"InputSentence{k}" for k in (1, 2, 3, 4)),
             "RandomFifthSentenceQuiz1", "RandomFifthSentenceQuiz2", "AnswerRightEnding"],
            ["s1", "One.", '"Two, too."', "Three.", "Four.", "Bad.", "Good.", "2"], between=","),
        Choice(id="s1", context="One. Two, too. Three. Four.", choices=("Bad.", "Good."), label=1)),
    "squad": ("train-v1.1.json", squad_json("It is in Rome.",
            {"id": "q1", "question": "Where?", "answers": [{"text": "Rome", "answer_start": 9}]}),
        Span(id="q1", question="Where?", passage="It is in Rome.", answers=(Answer("Rome", 9),))),
    "squad2": ("train-v2.0.json", squad_json("It is in Rome.",
            {"id": "q1", "question": "Who?", "answers": [], "is_impossible": True,
             "plausible_answers": [{"text": "Rome", "answer_start": 9}]}),
        Span(id="q1", question="Who?", passage="It is in Rome.", answers=())),
    "conll2003": ("eng.train",
        "-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\nrejects VBZ I-VP O\n# NN O O\n. . O O\n\n",
        Tagging(id="eng:3", words=("EU", "rejects", "#", "."), label=(4, 0, 0, 0),
                document="eng:1")),
    "wnut17": ("wnut17train.conll", "#tag\tO\n#\tO\nParis\tB-location\n",
        Tagging(id="wnut17train:1", words=("#tag", "#", "Paris"), label=(0, 0, 7))),
    "uner": ("en_ewt-ud-train.iob2",
        "# newdoc id = a\n# sent_id = a-1\n# text = x\n1-2\tDon't\t_\t-\t-\n1\tDo\tO\t-\t-\n"
        "2\tn't\tO\t-\t-\n3\tAnn\tB-PER\t-\tx\n\n",
        Tagging(id="a-1", words=("Do", "n't", "Ann"), label=(0, 0, 1),
                document="en_ewt-ud-train:1")),
}  # fmt: skip
KINDS = {"classification", "regression", "choice", "span", "tagging"}
# What the files beside the checkout hold: their README's rows, counted apart from this reader.
REAL = {
    "sst2": (67349, 872), "cola": (8551, 527), "mrpc": (3667, 408), "stsb": (5749, 1500),
    "rte": (2490, 0), "qnli": (3954, 0), "mnli": (15655, 0), "snli": (7818, 0), "squad": (894, 0),
    "hellaswag": (7438, 0), "piqa": (1386, 0), "copa": (80, 0), "openbookqa": (4957, 500),
    "wnut17": (3394, 1009), "uner": (2001, 0),
}  # fmt: skip


def test_every_published_task_has_a_row_to_be_read():
    assert LAYOUTS.keys() | KINDS == PUBLISHED.keys()


def test_every_task_names_metrics_that_there_are():
    for name, form in PUBLISHED.items():
        assert form.metrics and set(form.metrics) <= METRICS.keys(), name


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_row_in_its_published_layout_becomes_its_record(tmp_path, name):
    file, text, record = LAYOUTS[name]
    folder = tmp_path / PUBLISHED[name].folders[0]
    held_out = PUBLISHED[name].valid[0].replace("*", "high")
    for path, content in ((file, text), (held_out, "not read")):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content, encoding="utf-8")
    task = read(TaskConfig(name=name, root=str(tmp_path)))
    assert task.train == [record]
    assert task.kind == type(record).__name__.lower()


@pytest.mark.parametrize("name", REAL)
def test_the_real_files_are_read_whole_and_held_out_texts_are_apart(name):
    if not DATA.is_dir():
        pytest.skip("no data beside the checkout")
    task = read(TaskConfig(name=name, root=str(DATA)))
    train, valid = REAL[name]
    if valid:
        assert (len(task.train), len(task.valid)) == (train, valid)
        return
    assert len(task.train) + len(task.valid) == train
    assert 0.04 < len(task.valid) / train < 0.2
    text = {"choice": "context", "span": "passage", "tagging": "id"}.get(task.kind, "text")
    held = {getattr(record, text) for record in task.valid}
    assert not held & {getattr(record, text) for record in task.train}


def test_an_article_and_a_document_are_held_out_whole(tmp_path):
    if not DATA.is_dir():
        pytest.skip("no data beside the checkout")
    import gzip

    with gzip.open(DATA / "squad_xquad_en" / "xquad.en.part.json.gz") as file:
        articles = json.load(file)["data"]
    of = {p["context"]: a["title"] for a in articles for p in a["paragraphs"]}
    task = read(TaskConfig(name="squad", root=str(DATA)))
    train, valid = ({of[r.passage] for r in part} for part in (task.train, task.valid))
    assert len(valid) == 4 and len(train) == 32 and not train & valid
    task = read(TaskConfig(name="uner", root=str(DATA)))
    train, valid = ({r.id.rpartition("-")[0] for r in part} for part in (task.train, task.valid))
    assert valid and not train & valid
    assert {r.document for r in task.train}.isdisjoint(r.document for r in task.valid)
    assert len({r.document for r in task.valid}) == len(valid)


def test_a_header_that_only_some_of_the_files_have_is_seen(tmp_path):
    (tmp_path / "train.tsv").write_text("a\t1\t\tOne.\nb\t0\t*\tTwo.\n")
    (tmp_path / "test.tsv").write_text("index\tsentence\n5\tThree.\n")
    task = read(TaskConfig(name="cola", root=str(tmp_path)))
    assert len(task.train) + len(task.valid) == 2
    assert task.test == [Classification(id="5", text="Three.")]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("stsb", LAYOUTS["stsb"][1].replace("4.250", "5.1"), '"label" is 5.1, expected 0 to 5'),
        ("stsb", LAYOUTS["stsb"][1].replace("4.250", "nan"), "'nan', expected a finite number"),
        ("openbookqa", LAYOUTS["openbookqa"][1].replace('"B", "q', '"C", "q'), "not a row of this"),
        ("piqa", rows({"goal": "x", "sol1": "y", "sol2": " ", "label": 0}), "choice 1 is empty"),
        ("piqa", rows({"goal": "x", "sol1": "y", "sol2": "z", "label": 2}), "known: 0, 1"),
        ("piqa", rows({"goal": "x", "sol1": "y"}), r"not a row of this task \(KeyError"),
        ("squad", squad_json("Rome.", {"id": "q", "question": "?", "answers": []}), "no answer"),
        ("scitail", "It is.\tIt was.\tentailment\n", "1: unknown label 'entailment'; known"),
        ("scitail", "a\tb\tneutral\nIt is.\tneutral\n", "2: 2 columns, expected 3"),
        ("scitail", "a\tb\tneutral\nIt is.\t \tneutral\n", '2: "pair" is empty'),
        ("wnut17", "Paris\tB-city\n", "unknown label 'B-city'; known: O, B-corporation"),
        ("wnut17", "Paris\tO\nin\n", "train.conll:2: 1 columns, expected 2"),
    ],
)  # fmt: skip
def test_a_row_that_contradicts_its_task_says_why(tmp_path, name, text, problem):
    (tmp_path / LAYOUTS[name][0]).write_text(text, encoding="utf-8")
    (tmp_path / PUBLISHED[name].valid[0]).write_text("not read")
    with pytest.raises(DataError, match=problem):
        read(TaskConfig(name=name, root=str(tmp_path))).train  # noqa: B018
