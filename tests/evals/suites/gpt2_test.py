"""The suite over files of its own, with a model that writes what the test says."""

import dataclasses
import gzip
import importlib.util
import json
import os
import subprocess
import sys

import pytest

from lm.core.errors import ConfigError, DataError
from lm.data.overlap import GramIndex
from lm.evals.fewshot.ledger import Ledger
from lm.evals.suites import Model, Options, gpt2
from lm.evals.zeroshot.corpora import CORPORA
from lm.models.gpt import GptConfig
from lm.text.byte import ByteTokenizer
from tests.evals.scorer_test import tiny
from tests.evals.zeroshot.writers import Writer
from tests.launched import ROOT, environment, run, write_text

DATA = ROOT.parent / "shared" / "data"
VALID = DATA / "wikitext2" / "valid.txt.gz"

WIKITEXT103 = [name + end for name in CORPORA["wikitext103"].files for end in ("", ".gz")]
SIZES = {"layers": 12, "width": 768, "heads": 12, "vocab": 50_257}


def model(write=lambda prompt: " Bo\nQ:", length=1024):
    writer = Writer(write, length=length)
    writer.config = GptConfig(**SIZES, length=length)
    return Model(name="x", scorer=writer, step=3, digest="d", tokens=None, training=lambda: ())


@pytest.fixture
def root(tmp_path):
    rows = [{"question": f"who is {n}", "answer": ["Al" if n % 2 else "Bo"]} for n in range(25)]
    write(tmp_path, "nq_open/NQ-open.dev.jsonl", rows)
    texts = ["A storm hit the coast. Ten boats were lost. Nobody was hurt. It was Monday."] * 2
    write(tmp_path, "cnndm_sample/val.jsonl", [{"article": t, "summary": t} for t in texts])
    return tmp_path


def write(root, name, rows):
    path = root / f"{name}.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def asked(root, **changes):
    return Options(root=root, out=root / "out", **changes)


def test_figures_stand_beside_the_report_s_of_the_nearest_size(root):
    said = []
    lines = gpt2.evaluate(model(), asked(root, tasks=("natural_questions",)), said.append)
    first, sure = lines
    assert first.figure.items == 20  # five of 25 are the examples
    assert first.figure.value == pytest.approx(0.5, abs=0.15) and first.figure.error > 0
    assert (first.published["value"], first.published["system"]) == (0.041, "GPT-2 XL")
    assert sure.figure.items == 1
    assert any("not comparable: 124M parameters against 1.56B" in line for line in said)
    assert any("20 items of the report's 3,610" in line for line in said)
    table = json.loads((root / "out" / "gpt2-step3.json").read_text())
    assert [row["metric"] for row in table] == ["exact_match", "exact_match_sure"]
    assert table[0]["gap"] == pytest.approx(first.figure.value - 0.041)
    assert f"{table[0]['gap']:+.3g}" in str(first)
    assert gpt2.HEAD.index("of", 70) == str(first).index("GPT-2 XL")


def test_a_part_of_a_corpus_is_said_and_columns_stand_apart(root):
    path = root / "wikitext2" / "wiki.test.tokens"
    path.parent.mkdir()
    path.write_text(" one line \n two \n \n three \n")
    for limit, told in ((2, ["the first 2 of 3 lines with words"]), (3, [])):
        said, own = [], dataclasses.replace(model(), scorer=tiny())
        lines = gpt2.evaluate(own, asked(root, tasks=("wikitext2",), limit=limit), said.append)
        (under,) = (line for line in said if line.startswith("wikitext2: "))
        assert [part for part in under.split("; ") if "lines" in part] == told, limit
    figure = dataclasses.replace(lines[0].figure, value=2.44e6)
    line = dataclasses.replace(lines[0], figure=figure)
    row = line.published["value"]
    assert f"{row:.4g} {line.gap:+.3g}  GPT-2" in str(line) and len(f"{line.gap:+.3g}") == 9


LEARNED = ["So it was: The well-known Cat sat, on a mat. A dog"]


@pytest.fixture
def corpus(root):
    """17 words in two lines; of their ten runs of eight three stand in LEARNED."""
    path = root / "wikitext2" / "wiki.test.tokens"
    path.parent.mkdir()
    path.write_text(" the well @-@ known cat sat on a mat . \n a dog ran to the other end of it \n")
    return root


def overlap_of(root, training, **changes):
    """What is told of the share, in the figures, in the table and in words; all that was said."""
    own, said = dataclasses.replace(model(), scorer=tiny(), training=training), []
    lines = gpt2.evaluate(own, asked(root, tasks=("wikitext2",), **changes), said.append)
    table = json.loads((root / "out" / "gpt2-step3.json").read_text())[-len(lines) :]
    (share,) = {row["overlap"] for row in table} | {line.overlap for line in lines}
    (under,) = (line for line in said if line.startswith("wikitext2: "))
    assert ("of its runs of 8 words" in under) == (share is not None)
    return share, said


def test_how_much_of_a_corpus_stands_in_the_training_text_is_said(corpus):
    share, said = overlap_of(corpus, lambda: LEARNED, overlap=False)
    assert share is None and "overlap with the training text: not looked for" in said
    share, said = overlap_of(corpus, absent)
    assert share is None and "overlap with the training text: not known, gone" in said
    assert overlap_of(corpus, lambda: LEARNED)[0] == 3 / 10


def test_a_share_that_was_measured_stays_and_the_text_is_not_read_again(corpus):
    assert overlap_of(corpus, lambda: LEARNED)[0] == 3 / 10
    assert overlap_of(corpus, absent) == overlap_of(corpus, absent, overlap=False)
    assert overlap_of(corpus, absent)[0] == 3 / 10
    (corpus / "wikitext2" / "wiki.test.tokens").write_text(" another text \n")
    assert overlap_of(corpus, absent)[0] is None  # the control


def test_the_share_is_that_of_the_lines_that_are_asked(corpus):
    assert overlap_of(corpus, lambda: LEARNED, limit=1)[0] == 1
    assert overlap_of(corpus, lambda: LEARNED)[0] == 3 / 10


def test_of_a_corpus_without_a_run_of_eight_words_no_share_is_told(corpus):
    (corpus / "wikitext2" / "wiki.test.tokens").write_text(" a few words \n")
    assert overlap_of(corpus, lambda: LEARNED)[0] is None


def test_how_far_the_training_text_was_read_is_said(corpus, monkeypatch):
    monkeypatch.setattr(gpt2, "TOLD", 1000)
    _, said = overlap_of(corpus, lambda: 5 * ["word " * 100])
    assert [line for line in said if "characters of the training text" in line] == [
        f"overlap: {read} characters of the training text were read" for read in ("1k", "2k")
    ]


FORMS = {
    "wikitext2": ' the ship <unk> didn \'t sink in 1 @,@ 250 ; " well @-@ known " ( 5 % ) . \n',
    "ptb": " the company 's $ N million -lrb- N\\/N % -rrb- was n't <unk> traders ' gain of it \n",
}


@pytest.mark.parametrize("name", list(FORMS))
def test_a_corpus_stands_wholly_in_its_own_file_and_in_that_as_people_write_it(name):
    raw = FORMS[name]
    written = CORPORA[name].form.write(raw)
    assert written.split() != raw.split()
    for text in (raw, written):
        index = GramIndex([gpt2.words(raw)], gpt2.GRAM)
        index.scan([gpt2.words(text)])
        assert index.shares() == [1.0]


@pytest.mark.skipif(not VALID.is_file(), reason="WikiText-2 is not here")
def test_a_run_that_has_read_the_very_file_has_read_all_of_it(tmp_path):
    folder = tmp_path / "wikitext2"
    folder.mkdir()
    raw = gzip.decompress(VALID.read_bytes()).decode()
    (folder / "test.txt").write_text(raw)
    own, lines = dataclasses.replace(model(), training=lambda: [raw]), []
    (task,) = (task for task in gpt2.TASKS if task.name == "wikitext2")
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        found = gpt2.contamination(own, asked(tmp_path), [task], ledger, lines.append)
    assert found == {"wikitext2": 1.0} and not lines


def absent():
    raise DataError("gone")


def test_a_task_that_was_done_is_not_done_again_unless_file_limit_or_measure_is_another(
    root, monkeypatch
):
    options = asked(root, tasks=("natural_questions",))
    first = gpt2.evaluate(model(), options, lambda line: None)
    silent = model(write=lambda prompt: pytest.fail("asked again"))
    assert gpt2.evaluate(silent, options, lambda line: None) == first
    with pytest.raises(pytest.fail.Exception):
        gpt2.evaluate(silent, asked(root, tasks=("natural_questions",), limit=3), print)
    newer = tuple(dataclasses.replace(task, version=2) for task in gpt2.TASKS)
    with monkeypatch.context() as patch, pytest.raises(pytest.fail.Exception):
        patch.setattr(gpt2, "TASKS", newer)
        gpt2.evaluate(silent, options, print)
    write(root, "nq_open/NQ-open.dev.jsonl", [{"question": "who", "answer": ["Bo"]}] * 8)
    (line, _) = gpt2.evaluate(model(), options, lambda line: None)
    assert line.figure.value == 1.0


def test_all_tasks_are_those_that_can_be_run(root):
    said = []
    short = model(length=100)
    lines = gpt2.evaluate(short, asked(root), said.append)
    assert {line.task for line in lines} == {"natural_questions"}
    left = [line for line in said if line.startswith("left out")]
    assert any(
        "cnn_dailymail takes a context of 128 tokens, and the model's is 100" in x for x in left
    )
    assert any("no file of ptb" in x for x in left)
    lines = gpt2.evaluate(model(lambda prompt: "A storm hit the coast."), asked(root), said.append)
    assert {line.task for line in lines} == {"natural_questions", "cnn_dailymail"}


def test_what_asks_for_the_spelling_is_left_out_where_the_vocabulary_does_not_keep_it(root):
    write(root, "lambada_openai/lambada_test.jsonl", [{"text": "They went to the old mill"}] * 2)
    write(root, "ptb/ptb.test.txt", ["a b c"])
    lossy, said = model(), []
    assert {"lambada_paper", "ptb"} <= {
        task.name for task in gpt2.chosen(lossy, asked(root), print)
    }
    lossy.scorer.tokenizer = ByteTokenizer()
    lossy.scorer.tokenizer.lossless = False
    left = {task.name for task in gpt2.chosen(lossy, asked(root), said.append)}
    assert left == {"lambada_harness", "natural_questions", "cnn_dailymail"}
    for name in ("lambada_paper", "ptb"):
        (line,) = (line for line in said if line.startswith(f"left out: {name} "))
        assert "bytes vocabulary does not give a text back" in line
        with pytest.raises(DataError, match=f"{name} is of the text as it is spelled"):
            gpt2.chosen(lossy, asked(root, tasks=(name,)), print)


def test_what_is_asked_for_by_name_must_be_there(root):
    with pytest.raises(ConfigError, match="unknown task 'winogrd'; did you mean winograd"):
        gpt2.evaluate(model(), asked(root, tasks=("winogrd",)))
    with pytest.raises(DataError, match="no file of ptb in"):
        gpt2.evaluate(model(), asked(root, tasks=("ptb",)))
    with pytest.raises(DataError, match="takes a context of 128"):
        gpt2.evaluate(model(length=100), asked(root, tasks=("cnn_dailymail",)))


def test_a_task_of_which_no_item_fits_is_left_out_and_the_others_have_their_table(root):
    rows = [{"question": f"who is {'very ' * 30}{n}", "answer": ["Bo"]} for n in range(8)]
    write(root, "nq_open/NQ-open.dev.jsonl", rows)
    said = []
    lines = gpt2.evaluate(model(length=130), asked(root), said.append)
    assert {line.task for line in lines} == {"cnn_dailymail"}
    assert any(line.startswith("left out: natural_questions: no item fits") for line in said)
    assert len(json.loads((root / "out" / "gpt2-step3.json").read_text())) == len(lines)
    with pytest.raises(DataError, match="no item fits the model's context of 130"):
        gpt2.evaluate(model(length=130), asked(root, tasks=("natural_questions",)))
    (root / "cnndm_sample" / "val.jsonl.gz").unlink()
    with pytest.raises(DataError, match="no item of any task fits"):
        gpt2.evaluate(model(length=130), asked(root), said.append)


def test_what_was_cut_or_refused_to_fit_is_said(root):
    rows = [
        {"question": f"who is {'very ' * (n // 6) * 9}{n}", "answer": ["Bo"]} for n in range(25)
    ]
    write(root, "nq_open/NQ-open.dev.jsonl", rows)
    said = []
    lines = gpt2.evaluate(model(length=130), asked(root), said.append)
    (figure,) = (line.figure for line in lines if line.figure.metric == "exact_match")
    assert figure.items + figure.refused == 20 and figure.cut and figure.refused
    (told,) = (line for line in said if line.startswith("natural_questions: "))
    assert f"; {figure.cut} contexts cut to fit the model's 130" in told
    assert f"; {figure.refused} prompts refused, longer than the context" in told
    again = gpt2.evaluate(model(pytest.fail, length=130), asked(root), said.append)
    assert again == lines


def test_a_malformed_row_is_named_by_file_and_line(root):
    rows = [{"question": "who", "answer": ["Bo"]}, {"question": "who", "answer": []}]
    write(root, "nq_open/NQ-open.dev.jsonl", rows)
    with pytest.raises(DataError, match=r"NQ-open.dev.jsonl.gz:2: not a row of this task"):
        gpt2.evaluate(model(), asked(root, tasks=("natural_questions",)))
    write(root, "cnndm_sample/val.jsonl", [{"article": "x", "summary": 3}])
    with pytest.raises(DataError, match=r'val.jsonl.gz:1: .*"summary" is 3, expected text'):
        gpt2.evaluate(model(), asked(root, tasks=("cnn_dailymail",)))


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not here")
def test_the_command_runs_every_task_that_has_data(tmp_path):
    workdir = tmp_path / "run"
    changes = {"model.length": 512, "steps": 10, "loop.evaluate_every": 10}
    trained = run(write_text(tmp_path / "text.txt"), workdir, **changes)
    assert trained.returncode == 0, trained.stderr
    words = [sys.executable, "-m", "launch.evaluate", f"--workdir={workdir}", "--suite=gpt2"]
    done = subprocess.run(
        [*words, f"--root={DATA}", "--limit=3"], cwd=ROOT, env=environment(),
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = json.loads((workdir / "evaluations" / "gpt2-step10.json").read_text())
    assert all(row["value"] == row["value"] and row["items"] for row in table)
    expected = {"lambada_paper", "lambada_harness", "wikitext2", "winograd", "cnn_dailymail",
                "natural_questions"}  # fmt: skip
    if importlib.util.find_spec("sacrebleu"):
        expected |= {"multi30k_en_fr", "multi30k_fr_en", "wmt_en_de"}
    assert {row["task"] for row in table} == expected
    assert "left out: no file of ptb" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif("LM_GPT2_SMALL" not in os.environ, reason="LM_GPT2_SMALL names no such run")
@pytest.mark.skipif(
    not any((DATA / name).is_file() for name in WIKITEXT103), reason="WikiText-103 is not here"
)
def test_the_published_weights_have_the_published_perplexity_of_wikitext103():
    """The run is what `launch.convert --from_hf` makes of the small size's files."""
    words = [sys.executable, "-m", "launch.evaluate", f"--workdir={os.environ['LM_GPT2_SMALL']}"]
    words += ["--suite=gpt2", "--tasks=wikitext103", f"--root={DATA}", "--nooverlap"]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = (x for x in done.stdout.splitlines() if "word_perplexity" in x)
    assert float(line.split()[3]) == pytest.approx(37.5, abs=0.5)
