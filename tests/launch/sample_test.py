"""What launch.sample writes, of a small model that was never trained."""

import subprocess
import sys

import pytest

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
