"""What launch.sample writes, of a small model that was never trained."""

import json
import subprocess
import sys

import pytest

from lm.core.errors import ConfigError
from lm.evals.rows import Rows, Source
from lm.models.gpt import GptConfig
from tests.launched import ROOT, environment
from tests.rlhf.runs import VOCAB, pretrained

MODEL = GptConfig(layers=1, width=32, heads=2, vocab=VOCAB, length=64)
# Several commands in one process, which imports and compiles once; flags belong to a process.
COMMANDS = """
import sys
from absl import flags
from absl.testing import flagsaver
from launch import sample
from lm.core.errors import UserError
for words in sys.argv[2:]:
    with flagsaver.flagsaver():
        flags.FLAGS(["sample", f"--workdir={sys.argv[1]}", *words.split("|")])
        try:
            sample.main()
        except UserError as error:
            print(f"error: {error}")
    print("=====")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return pretrained(tmp_path_factory.mktemp("runs") / "toy", MODEL)


def said(run, *commands):
    """What each of some commands prints, its words apart by `|`."""
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, run, *commands],
        cwd=ROOT, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split("=====\n")[:-1]


def test_a_search_finds_for_a_prompt_what_it_finds_without_a_longer_one_beside_it(run):
    short, long = "--prompt=ab", f"--prompt={'xyz' * 20}"
    settings = "--beams=3|--max_tokens=30"
    alone, other, both = said(
        run, f"{settings}|{short}", f"{settings}|{long}", f"{settings}|{short}|{long}"
    )
    assert both == alone + other
    assert len(alone) > 25 > len(other) - 60  # the control: of the long one less is found


def test_nothing_is_a_prompt_and_zero_no_cut_as_in_the_server(run):
    drawn, whole, likeliest, greedy, several = said(
        run, "--prompt=", "--prompt=|--top_k=0", "--prompt=|--top_p=0",
        "--prompt=|--temperature=0", "--prompt=|--prompt=a|--temperature=0",
    )  # fmt: skip
    assert drawn == whole != likeliest == greedy
    assert several.startswith(f"--- ''\n{greedy}")


def rows_of(path):
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return sorted(found, key=lambda row: (row["number"], row["draw"]))


def test_texts_of_a_file_of_prompts_are_rows_of_another_and_go_on_where_they_were_cut(
    run, tmp_path
):
    prompts = ["ab", "x" * 40, "", "abc"]
    asked, plain = tmp_path / "asked.jsonl", tmp_path / "asked.txt"
    asked.write_text("".join(json.dumps({"prompt": text, "id": 1}) + "\n" for text in prompts))
    plain.write_text("ab\n\nabc\n")
    whole, part, lines, other = (tmp_path / name for name in ("a", "b", "c", "d"))
    drawn = f"--prompts={asked}|--n=2|--max_tokens=9|--temperature=2|--seed=3"
    texts, *_ = said(
        run, f"{drawn}", f"{drawn}|--out={whole}", f"--prompts={plain}|--max_tokens=9|--out={lines}"
    )
    rows = rows_of(whole)
    assert [row["prompt"] for row in rows] == [text for text in prompts for _ in range(2)]
    assert len({row["text"] for row in rows}) == 8
    assert {row["finish_reason"] for row in rows} <= {"length", "stop"}
    shown = (f"--- {row['prompt']!r}\n{row['prompt']}{row['text']}\n" for row in rows)
    assert texts == "".join(shown)
    assert [row["prompt"] for row in rows_of(lines)] == ["ab", "abc"]
    # of a run that was killed while it wrote its fourth row; the first says by whom it was written
    kept = whole.read_text().splitlines(keepends=True)
    mine = json.dumps(json.loads(kept[0]) | {"text": "mine"}) + "\n"
    part.write_text(mine + "".join(kept[1:3]) + kept[3][:20])
    mark = next(row["text"][3] for row in rows if row["text"][3].isprintable())
    _, wrong = said(run, f"{drawn}|--out={part}", f"--prompts={plain}|--out={part}")
    again = [row | {"text": "mine"} if row == json.loads(kept[0]) else row for row in rows]
    assert rows_of(part) == again
    assert "b:1: no text of these prompts" in wrong
    said(run, f"{drawn}|--stop={mark}|--stop=nowhere|--out={other}")
    for row, stopped in zip(rows, rows_of(other), strict=True):
        assert stopped["text"] == row["text"].partition(mark)[0]
        assert mark not in row["text"] or stopped["finish_reason"] == "stop"


def test_texts_are_not_added_to_a_file_of_something_else_or_of_other_settings(run, tmp_path):
    asked, out, notes = (tmp_path / name for name in ("asked.txt", "out.jsonl", "notes.txt"))
    asked.write_text("ab")
    notes.write_text("one line, no end")
    drawn = f"--prompts={asked}|--max_tokens=5|--out="
    _, own, other, seed, tokens = said(
        run, f"{drawn}{out}", f"{drawn}{asked}", f"{drawn}{notes}", f"{drawn}{out}|--seed=1",
        f"{drawn}{out}|--max_tokens=6",
    )  # fmt: skip
    assert "asked.txt:1: no text of these" in own and asked.read_text() == "ab"
    assert "notes.txt:1: no text of these" in other and notes.read_text() == "one line, no end"
    assert "out.jsonl:1: written by another run, or with other settings" in seed
    assert seed == tokens and len(rows_of(out)) == 1


def test_one_process_writes_texts_to_a_file(tmp_path):
    sources = [Source("x:1", "a")]
    first = Rows(tmp_path / "out", sources, 1, "me")
    with pytest.raises(ConfigError, match="another process writes"):
        Rows(tmp_path / "out", sources, 1, "me")
    first.file.close()
    Rows(tmp_path / "out", sources, 1, "me")


def test_a_prompt_that_is_none_is_named_by_file_and_line_and_flags_do_not_contradict(run, tmp_path):
    bad, long = tmp_path / "bad.jsonl", tmp_path / "long.txt"
    bad.write_text('{"prompt": "a"}\n\n{"prompts": "b"}\n')
    long.write_text("a\n" + "y" * 65 + "\n")
    found = said(
        run, f"--prompts={bad}", f"--prompts={long}", f"--prompts={tmp_path}/none.txt",
        f"--prompts={long}|--prompt=a", "--beams=2|--n=2|--prompt=a",
        "--stop=|--prompt=a",
    )  # fmt: skip
    for text, part in zip(
        found,
        ("bad.jsonl:3: prompt must be text", "long.txt:2 has 65 tokens, the model's context",
         "cannot read", "leave out one", "--n=2 is for drawing", "--stop is empty"), strict=True,
    ):  # fmt: skip
        assert text.startswith("error: ") and part in text and text.count("\n") == 1
