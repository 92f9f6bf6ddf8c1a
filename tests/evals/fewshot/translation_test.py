"""Translation in the context: what is asked, and that its BLEU is that of the whole set."""

from pathlib import Path

import numpy as np
import pytest

from lm.core.errors import ConfigError, DataError
from lm.evals.fewshot import translation
from lm.evals.fewshot.evaluation import evaluate
from lm.evals.fewshot.ledger import Ledger
from lm.evals.fewshot.tasks import TASKS
from lm.evals.suites import Options
from lm.evals.suites.gpt3 import chosen
from lm.text.byte import ByteTokenizer

DATA = Path(__file__).parents[3].parent / "shared" / "data"
NAMED = {task.name: task for task in TASKS}
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the data are not there")
ENGLISH = ["A dog runs over the grass.", "Two men sit on a bench.", "She reads a book in the park."]
GERMAN = ["Ein Hund rennt über das Gras.", "Zwei Männer sitzen auf einer Bank.",
          "Sie liest ein Buch im Park."]  # fmt: skip


@pytest.fixture
def root(tmp_path):
    (tmp_path / "wmt16").mkdir()
    for language, lines in (("en", ENGLISH), ("de", GERMAN)):
        (tmp_path / "wmt16" / f"newstest2016.{language}").write_text("\n".join(lines) + "\n")
        (tmp_path / "wmt16" / f"train.{language}").write_text(f"in {language}\n")
    return tmp_path


def test_a_translation_is_asked_for_as_in_the_paper(root):
    read = NAMED["wmt16_de_en"].read(root)
    with_one = read.prompt(0, 64, 0, ByteTokenizer(), 10_000)
    assert with_one.contexts[0] == f"in de = in en\n{GERMAN[0]} ="
    assert with_one.item.completions == (f" {ENGLISH[0]}",) and with_one.shots == 1
    alone = read.prompt(0, 0, 0, ByteTokenizer(), 10_000)
    assert alone.contexts[0] == f"Q: What is the English translation of {GERMAN[0]}\n\nA:"
    (root / "wmt16" / "newstest2016.en").write_text("one line\n")
    with pytest.raises(DataError, match="has 3 lines and .* 1: they are not of one text"):
        NAMED["wmt16_de_en"].read(root)
    (root / "wmt16" / "newstest2016.en").unlink()
    with pytest.raises(DataError, match=r"has no newstest2016\.en beside it"):
        NAMED["wmt16_de_en"].read(root)


class Translator:
    """Writes what it is told, in the order of the items."""

    tokenizer, length = ByteTokenizer(), 1000

    def __init__(self, texts):
        self.texts = texts

    def generate(self, prompts, tokens, *, stop, beams, length_penalty, **rest):
        assert (stop, beams, length_penalty) == (("\n",), 4, 0.6)
        return self.texts[: len(prompts)]


@pytest.mark.slow  # whose environment has sacrebleu
def test_bleu_is_of_the_whole_set_and_goes_on_from_the_ledger(root):
    import sacrebleu

    said = [" Ein Hund rennt über Gras.", " Zwei Männer sitzen auf der Bank.", " Sie liest."]
    read = NAMED["wmt16_en_de"].read(root)

    def asked(texts):
        with Ledger(root / "a.jsonl") as ledger:
            return evaluate(read, 0, scorer=Translator(texts), model="m", seed=0, limit=None,
                            ledger=ledger)  # fmt: skip

    value, error = asked(said).mean()
    texts = [text.strip() for text in said]
    expected = sacrebleu.corpus_bleu(texts, [GERMAN], tokenize="intl").score / 100
    assert value == pytest.approx(expected) and 0 < error < 0.5
    each = [sacrebleu.sentence_bleu(a, [b], tokenize="intl").score / 100
            for a, b in zip(texts, GERMAN, strict=True)]  # fmt: skip
    assert value != pytest.approx(np.mean(each), abs=1e-3)  # the control: a mean over sentences
    assert asked(["nothing"] * 3).mean() == (value, error)  # from the ledger
    first = np.arange(3) < 2
    assert asked(said).mean(first)[0] == pytest.approx(
        sacrebleu.corpus_bleu(texts[:2], [GERMAN[:2]], tokenize="intl").score / 100
    )


def test_without_sacrebleu_translation_is_left_out_or_told_where_it_was_named(root, monkeypatch):
    def missing():
        raise ConfigError("BLEU needs the package sacrebleu: pip install 'lm[eval]'")

    task = translation.task("t", "en", "de", ("wmt16/newstest2016.en",), ())
    object.__setattr__(task, "needs", missing)
    said: list[str] = []
    every = chosen(Options(root=root, out=root), said.append, [task, NAMED["two_digit_addition"]])
    assert [one.name for one in every] == ["two_digit_addition"]
    assert said[-1].startswith("left out: t_en_de: BLEU needs the package sacrebleu")
    with pytest.raises(ConfigError, match=r"lm\[eval\]"):
        chosen(Options(root=root, out=root, tasks=("t_en_de",)), said.append, [task])


@pytest.mark.slow
@needs_data
def test_the_set_at_hand_is_read_both_ways_and_their_words_put_together():
    back, there = (NAMED[f"wmt16_{pair}"].read(DATA) for pair in ("de_en", "en_de"))
    assert len(back.items) == len(there.items) == 3000 and len(back.pool) > 9000
    assert there.items[1].contexts[0].startswith("Today, the Ukraine parliament dismissed, within")
    assert back.items[1].completions[0].startswith(" Today, the Ukraine parliament dismissed")


@needs_data
def test_the_captions_at_hand_have_examples_of_their_training_part():
    captions = NAMED["multi30k_fr_en"].read(DATA)
    assert len(captions.items) == 1000 and len(captions.pool) == 29_000
    assert captions.items[0].contexts == (
        "Un homme avec un chapeau orange regardant quelque chose. =",
    )
