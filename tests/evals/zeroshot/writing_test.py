"""What is asked of a model that writes, and how what it wrote is judged."""

import importlib.util
import json
import sys

import pytest

from lm.core.errors import ConfigError, DataError
from lm.evals.incontext import fit
from lm.evals.zeroshot.dialogues import Dialogue, dialogue_figures, read_coqa
from lm.evals.zeroshot.prompts import written
from lm.evals.zeroshot.questions import question, question_figures
from lm.evals.zeroshot.summaries import (
    Article,
    random_sentences,
    shortened,
    summary_figures,
)
from lm.evals.zeroshot.translation import LINES, first_sentence, pair, translation_figures
from lm.metrics.answers import left_out_f1
from lm.metrics.bleu import bleu
from tests.evals.zeroshot.writers import Writer

STORY = (
    "A storm hit the coast on Monday. Ten boats were lost. Nobody was hurt. The harbour opens "
    "again on Friday. Fishermen say that it will be a hard year."
)
ARTICLES = [Article(STORY, "A storm hit the coast on Monday. Ten boats were lost.")] * 3


def prompts(writer, items, examples):
    return [
        fit(item, examples, LINES, writer.tokenizer, length=writer.length, answer=100)
        for item in items
    ]


def values(figures):
    return {figure.metric: figure.value for figure in figures}


def test_a_summary_is_the_first_three_sentences_after_the_hint():
    summary = "A storm hit the coast. Ten boats were lost. It was Monday. Left out is this."
    writer = Writer(lambda prompt: summary if prompt.endswith("\nTL;DR:") else "Nothing of it.")
    found = values(summary_figures(writer, ARTICLES, seed=0))
    hinted, plain = writer.asked
    assert hinted["prompts"] == [f"{STORY}\nTL;DR:"] * 3 and plain["prompts"] == [STORY] * 3
    assert (hinted["tokens"], hinted["top_k"], hinted["temperature"]) == (100, 2, 1.0)
    assert found["rouge1"] == pytest.approx(2 * 10 / (12 + 11))  # all but "on"; "it was" of 12
    assert found["rouge"] == pytest.approx(
        (found["rouge1"] + found["rouge2"] + found["rougeL"]) / 3
    )
    assert found["rouge_no_hint"] == 0
    assert found["rouge_lede_3"] > found["rouge_random_3"] > 0


def test_three_sentences_are_another_choice_for_another_seed():
    writer = Writer(lambda prompt: "Nothing.")
    first, again, other = (
        values(summary_figures(writer, ARTICLES, seed=seed))["rouge_random_3"] for seed in (0, 0, 1)
    )
    assert first == again != other


def test_three_sentences_of_an_article_stand_in_its_order():
    found = random_sentences(ARTICLES * 4, seed=0)
    places = [[STORY.index(one) for one in some] for some in found]
    assert all(len(some) == 3 and some == sorted(some) for some in places)
    assert len(set(map(tuple, places))) > 5  # the control: they are not always the same


def test_a_long_article_keeps_its_beginning_and_the_hint():
    writer = Writer(lambda prompt: "", length=150)
    prompt = shortened(writer, STORY, 150 - 100 - 7, "\nTL;DR:")
    assert prompt == "A storm hit the coast on Monday. Ten boats\nTL;DR:"


def test_articles_that_were_cut_are_counted_but_not_by_controls_that_read_the_whole():
    writer = Writer(lambda prompt: "Nothing.", length=100 + len(STORY))  # with no room for the hint
    cut = {figure.metric: figure.cut for figure in summary_figures(writer, ARTICLES, seed=0)}
    whole = {"rouge_no_hint": 0, "rouge_random_3": 0, "rouge_lede_3": 0}
    assert cut == dict.fromkeys(("rouge1", "rouge2", "rougeL", "rouge"), 3) | whole


def test_prompts_that_lost_examples_or_were_refused_are_counted():
    items = [question(f"who is {'very ' * count}old", ("Al",)) for count in (0, 8, 40)]
    writer = Writer(lambda prompt: " Al", length=100)
    examples = [question("who is it, do you think, of all", ("Bo",))]
    for figure in question_figures(writer, items, examples):
        assert (figure.cut, figure.refused) == (1, 1)
    story = Dialogue("Ann has a boat.", (*items, items[0]))
    writer.length = 150  # the last question without some of the turns before it
    (figure,) = dialogue_figures(writer, [story, Dialogue("Bo has none.", items[:1])])
    assert (figure.items, figure.cut, figure.refused) == (2, 1, 1)


def test_a_translation_is_the_first_sentence_of_the_line_after_the_pairs():
    writer = Writer(lambda prompt: " Un chien court. Il saute.\nA cat = Un chat")
    pairs = [pair("A man.", "Un homme."), pair("A dog.", "Un chien.")]
    ((_, text),) = written(writer, prompts(writer, [pair("A dog runs.", "x")], pairs), 100)
    assert first_sentence(text) == "Un chien court."
    assert writer.asked[0]["prompts"] == ["A man. = Un homme.\nA dog. = Un chien.\nA dog runs. ="]


@pytest.mark.skipif(importlib.util.find_spec("sacrebleu") is None, reason="sacrebleu is not here")
def test_bleu_is_sacrebleu_s_and_copying_the_source_is_worth_little():
    import sacrebleu

    texts = 3 * [
        ("A small dog runs over the grass.", "Un petit chien court sur l'herbe verte."),
        ("Two men sit on a bench.", "Deux hommes sont assis sur un banc."),
    ]
    pairs, right = [pair(*text) for text in texts], dict(texts)
    source = lambda prompt: prompt.rpartition("\n")[2].removesuffix(" =")  # noqa: E731
    writer = Writer(lambda p: right[source(p)][:-7] + ". Ce n'est pas tout.")  # which is left out
    (good,) = translation_figures(writer, pairs, pairs[:1])
    (copied,) = translation_figures(Writer(source), pairs, pairs[:1])
    targets = [target for _, target in texts]
    expected = sacrebleu.corpus_bleu([target[:-7] + "." for target in targets], [targets])
    assert good.value == pytest.approx(expected.score / 100)
    assert copied.value < 0.1 < good.value and good.error > 0


def test_a_missing_sacrebleu_is_told_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(ConfigError, match=r"pip install 'lm\[eval\]'"):
        bleu(["a"], ["a"])


def test_answers_are_matched_exactly_and_the_surest_hundredth_is_told():
    items = [question("who wrote it", ("Ann Lee", "A. Lee"))] * 60 + [
        question("when was it?", ("1904",))
    ]
    writer = Writer(lambda prompt: " 1904\nQ:" if "when" in prompt.rsplit("Q:")[-1] else " the Ann")
    found = values(question_figures(writer, items, [question("is it so", ("yes",))]))
    assert writer.asked[0]["prompts"][0] == "Q: is it so?\nA: yes\nQ: who wrote it?\nA:"
    assert found["exact_match"] == pytest.approx(1 / 61)
    assert found["exact_match_sure"] == 1.0  # of one: the shortest, and so the surest
    writer = Writer(lambda prompt: " an ann LEE." if "who" in prompt.rsplit("Q:")[-1] else " 1905")
    assert values(question_figures(writer, items, []))["exact_match"] == pytest.approx(60 / 61)


def test_examples_that_do_not_fit_are_left_out_and_items_that_do_not_are_not_asked():
    examples = [pair(f"An example, number {n}, that is long.", "Un exemple.") for n in range(5)]
    writer = Writer(lambda prompt: " Un chien.", length=200)
    items = [pair("A dog.", "Un chien."), pair("A very long sentence. " * 9, "Une phrase.")]
    ((prompt, text),) = written(writer, prompts(writer, items, examples), 100)
    assert prompt.item is items[0] and 0 < prompt.shots < 5 and text == " Un chien."
    with pytest.raises(DataError, match="no item fits the model's context of 200"):
        written(writer, prompts(writer, items[1:], examples), 100)


STORY_ROWS = {
    "data": [
        {
            "story": "Ann has a red boat. It is old.",
            "questions": [{"input_text": text} for text in ("Who has a boat?", "Is it new?")],
            "answers": [{"input_text": text} for text in ("Ann", "no")],
            "additional_answers": {
                "0": [{"input_text": text} for text in ("Ann does", "no, old")],
                "1": [{"input_text": text} for text in ("a girl", "no")],
            },
        }
    ]
}


def test_a_question_stands_behind_the_passage_and_the_turns_before_it(tmp_path):
    path = tmp_path / "coqa-dev-v1.0.json"
    path.write_text(json.dumps(STORY_ROWS))
    writer = Writer(lambda prompt: " Ann.\nQ:" if "Is it" not in prompt else " It is old")
    (figure,) = dialogue_figures(writer, read_coqa(path))
    first, second = writer.asked[0]["prompts"]
    assert first == "Ann has a red boat. It is old.\nQ: Who has a boat?\nA:"
    assert second == first + " Ann\nQ: Is it new?\nA:"
    # against (Ann), (Ann does), (a girl): 1, 2/3, 0, and the best of two of the three, thrice
    assert left_out_f1(" Ann.", [" Ann", " Ann does", " a girl"]) == pytest.approx(
        (1 + 1 + 2 / 3) / 3
    )
    assert figure.value == pytest.approx(
        (left_out_f1(" Ann.", [" Ann", " Ann does", " a girl"])
         + left_out_f1(" It is old", [" no", " no, old", " no"])) / 2
    )  # fmt: skip
    del STORY_ROWS["data"][0]["answers"][1]
    path.write_text(json.dumps(STORY_ROWS))
    with pytest.raises(DataError, match=r"data\[0\] is no dialogue"):
        read_coqa(path)
