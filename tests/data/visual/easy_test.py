"""Conversations about easy-VQA's images follow from what its questions tell of them."""

import gzip
import json
import random

import pytest

from lm.data.visual.easy import COLOURS, FORMS, easy_captions, easy_talks
from lm.data.visual.example import Said, unfolded


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Forty images, of each of which both facts are told, and one of which the colour is not."""
    root, draw = tmp_path_factory.mktemp("data"), random.Random(0)
    (root / "easy_vqa").mkdir()
    for part in ("train", "test"):
        lines = [{"image": "99.png", "question": "what shape is it?", "answer": "circle"}]
        for number in range(40):
            form, colour = draw.choice(FORMS), draw.choice(COLOURS[:4])
            for word, answer in (("shape", form), ("color", colour)):
                question = f"what {word} is in the image?"
                lines.append({"image": f"{number}.png", "question": question, "answer": answer})
        with gzip.open(root / "easy_vqa" / f"{part}_questions.jsonl.gz", "wt") as file:
            file.write("\n".join(map(json.dumps, lines)))
    return root


def facts_of(root, part):
    """Of each image its shape and its colour, by what its caption says."""
    return {
        one.pictures[0]: dict(zip(("color", "shape"), one.answers[0].split()[1:], strict=True))
        for one in easy_captions(root, part)
    }


@pytest.mark.parametrize("part", ["train", "valid"])
def test_answers_follow_from_both_images(root, part):
    facts, talks = facts_of(root, part), easy_talks(root, part)
    assert len(facts) == 40 and len(talks) == 40 * (4 if part == "train" else 1)
    alike = []
    for talk in talks:
        first, question, said, second, like, same, third = talk.parts
        one, other = question.split()[1], like.removesuffix("?\n").split()[-1]
        assert {one, other} == {"shape", "color"} and third == f"What {other} was the first?\n"
        assert isinstance(said, Said) and said == facts[first][one]
        assert same == ("yes" if facts[first][other] == facts[second][other] else "no")
        assert talk.answers == (facts[first][other],)
        alike.append(same == "yes")
    assert 0.3 < sum(alike) / len(alike) < 0.7


def test_the_second_image_says_nothing_of_the_first(root):
    """With the newest turn alone the same question has both answers."""
    told = {}
    for talk in easy_talks(root, "train"):
        second = unfolded(talk)[1]
        told.setdefault(second.parts[-2:], []).append(second.answers)
    often = [answers for answers in told.values() if len(answers) >= 4]
    assert len(often) > 10
    assert sum(len(set(answers)) == 2 for answers in often) > 0.8 * len(often)
