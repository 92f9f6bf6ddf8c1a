import dataclasses

import numpy as np
import pytest

from lm.core.errors import DataError
from lm.evals.requests import Score
from lm.evals.scorer import Request
from lm.evals.zeroshot.cloze import (
    Schema,
    cbt_figures,
    cbt_requests,
    chosen,
    read_cbt,
    winograd_figures,
)
from tests.evals.scorer_test import brute, tiny

SENTENCE = "`` I have n't seen the XXXXX , '' said she ."
CANDIDATES = "cat|king|kite|dog|boat|door|mill|tree|bird|ship"


def block(sentence=SENTENCE, answer="kite", candidates=CANDIDATES):
    lines = [f"{n} Line {n} of it -LRB- a tale -RRB- ." for n in range(1, 21)]
    return "\n".join([*lines, f"21 {sentence}\t{answer}\t\t{candidates}"]) + "\n\n"


def write(tmp_path, text):
    path = tmp_path / "cbtest_CN_valid_2000ex.txt"
    path.write_text(text)
    return path


def test_questions_are_read_and_written_as_people_write(tmp_path):
    first, second = read_cbt(write(tmp_path, block() + block(answer="ship")))
    assert (first.right, second.right) == (2, 9)
    requests = cbt_requests(first)
    assert requests[0].context.endswith("(a tale). \"I haven't seen the")
    assert [request.continuation for request in requests[:2]] == [
        ' cat," said she.',
        ' king," said she.',
    ]
    assert len({request.context for request in requests}) == 1


@pytest.mark.parametrize(
    "text, said",
    [
        (block(answer="cow"), ":21: expected a sentence with one XXXXX"),
        (block(sentence="No gap ."), ":21: expected"),
        (block().replace("\n3 ", "\n4 ", 1), ":3: line 3 of a question begins '4'"),
        (block()[:200], "the last question has"),
    ],
)
def test_a_malformed_question_is_named_by_file_and_line(tmp_path, text, said):
    with pytest.raises(DataError, match="cbtest_CN_valid_2000ex.txt") as error:
        read_cbt(write(tmp_path, text))
    assert said in str(error.value)


def test_the_candidate_and_the_rest_of_its_sentence_are_scored(tmp_path):
    scorer = tiny()
    (question,) = read_cbt(write(tmp_path, block()))
    requests = cbt_requests(question)
    alone = [
        Request(request.context, f" {candidate}")
        for request, candidate in zip(requests, question.candidates, strict=True)
    ]
    best, other = (
        question.candidates[np.argmax([brute(scorer, one).log_likelihood for one in some])]
        for some in (requests, alone)
    )
    assert best != other  # the control: the candidate alone picks another
    answers = (best, *(name for name in ("ship", "door") if name not in (best, other)))
    questions = read_cbt(write(tmp_path, "".join(block(answer=answer) for answer in answers)))
    (figure,) = cbt_figures(scorer, questions)
    assert figure.value == pytest.approx(1 / len(answers)) and len(answers) == 3


def test_contexts_that_are_cut_to_fit_are_counted_by_question(tmp_path):
    (question,) = read_cbt(write(tmp_path, block()))
    (figure,) = cbt_figures(tiny(), [question] * 2)  # all its contexts are beyond 64 bytes
    assert (figure.items, figure.cut) == (2, 2)
    assert [one.cut for one in winograd_figures(tiny(), SCHEMAS)] == [0, 0]


SCHEMAS = [
    Schema(("It fits not, since the box", "It fits not, since the cup"), "is large.", right)
    for right in (0, 1, 0)
]


def test_full_scoring_is_of_the_whole_text_and_partial_of_its_rest():
    scorer = tiny()
    contexts = SCHEMAS[0].contexts
    wholes = [Request("", f"{context} is large.") for context in contexts]
    rests = [Request(context, " is large.") for context in contexts]
    for figure, requests in zip(winograd_figures(scorer, SCHEMAS), (wholes, rests), strict=True):
        best = int(np.argmax([brute(scorer, request).log_likelihood for request in requests]))
        assert figure.value == pytest.approx([2 / 3, 1 / 3][best])


def test_twins_are_one_part_of_the_sample_in_the_error():
    twin = Schema(("It fits not, since the mug", "It fits not, since the bag"), "is large.", 0)
    for figure in winograd_figures(
        tiny(), SCHEMAS[:2] + [twin, dataclasses.replace(twin, right=1)]
    ):
        # of twins with other answers one is right: each pair has as many as the other
        assert (figure.value, figure.error, figure.items) == (0.5, 0.0, 4)


def test_of_candidates_as_likely_the_first_is_chosen():
    class Alike:
        def scores(self, requests):
            return [Score(-1.0, 1, False, 0) for _ in requests]

    groups = [[Request("", "a"), Request("", "b")]] * 3
    assert chosen("accuracy", Alike(), groups, [0, 1, 1]).value == pytest.approx(1 / 3)
