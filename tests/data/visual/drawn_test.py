"""Drawn images show what their answers say, and what is held out was never drawn for training."""

import random
from itertools import product

import numpy as np
import pytest

from lm.data.visual import charts, lettering, oddities
from lm.data.visual.layouts import drawing, layout

DRAWN = {
    lettering.draw_string: lettering.strings,
    lettering.draw_screen: lettering.screens,
    charts.draw_chart: charts.charts,
    oddities.draw_scene: oddities.oddities,
}


@pytest.mark.parametrize("varied", [
    lettering.TEXT_LAYOUTS, lettering.SCREEN_LAYOUTS, charts.LAYOUTS, oddities.LAYOUTS,
])  # fmt: skip
def test_a_layout_is_of_training_or_held_out(varied):
    draw = random.Random(0)
    train, valid = (
        {tuple(layout(draw, part, varied).values()) for _ in range(1500)}
        for part in ("train", "valid")
    )
    assert train and valid and not train & valid
    whole = len(list(product(*varied.values())))
    assert 0.05 * whole < len(valid) < 0.4 * whole


@pytest.mark.parametrize("draw", DRAWN)
def test_a_drawing_is_a_function_of_its_part_and_number(draw):
    one, again, other, held = (
        np.asarray(draw(*arguments))
        for arguments in (("train", 3), ("train", 3), ("train", 4), ("valid", 3))
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other) and not np.array_equal(one, held)


@pytest.mark.parametrize("examples", DRAWN.values())
def test_every_question_has_a_picture_and_an_answer_and_a_name_of_its_own(examples):
    found = examples("valid")
    assert all(len(one.pictures) == 1 and one.answers[0] and one.question for one in found)
    assert len({one.id for one in found}) == len(found)


def test_strings_that_are_held_out_are_never_learned():
    train, valid = (
        {lettering.string(drawing("string", part, n), part) for n in range(500)}
        for part in ("train", "valid")
    )
    assert not train & valid
    assert all(len(text) == lettering.LENGTH for text in train | valid)


def test_a_string_lies_within_its_image():
    for number in range(40):
        image = np.asarray(lettering.draw_string("valid", number)).astype(int)
        paper = np.median(image.reshape(-1, 3), axis=0)
        dark = np.abs(image - paper).sum(-1) > 150
        assert dark.any() and not dark[[0, -1]].any() and not dark[:, [0, -1]].any()


def test_the_highest_column_of_a_chart_is_the_one_that_the_answer_names():
    seen = 0
    for number in range(30):
        draw = drawing("chart", "train", number)
        table = charts.values(draw, "train")
        chosen = layout(draw, "train", charts.LAYOUTS)
        if chosen["shape"] != "bars" or chosen["colour"] == "black":
            continue
        image = np.asarray(charts.draw_chart("train", number)).astype(int)
        coloured = (image.max(-1) - image.min(-1) > 60).sum(0)  # pixels of a bar by column
        starts = np.flatnonzero((coloured > 0) & (np.roll(coloured, 1) == 0))
        heights = [coloured[start + 1] for start in starts]
        assert len(heights) == len(table)
        assert int(np.argmax(heights)) == table.index(max(table))
        np.testing.assert_allclose(np.array(heights) / max(heights), np.array(table) / max(table),
                                   atol=0.08)  # fmt: skip
        seen += 1
    assert seen > 5


def test_tables_of_charts_that_are_held_out_are_never_learned():
    train, valid = (
        {one.answers[0] for one in charts.chart_tables(part)} for part in ("train", "valid")
    )
    assert not train & valid
    # the control: two draws of one part do meet
    again = (charts.values(random.Random(number), "train") for number in range(400))
    told = {", ".join(f"{a} {b}" for a, b in zip("ABCDE", table, strict=False)) for table in again}
    assert train & told and not valid & told
    assert {one.count(",") for one in valid} == {one.count(",") for one in train} == {2, 3, 4}


def test_answers_about_a_chart_follow_from_its_table():
    for number in range(200):
        table = charts.values(random.Random(number), "train")
        asked = charts.questions(table, random.Random(number))
        question, answer = asked["read"]
        assert table[charts.LETTERS.index(question[-2])] == int(answer)
        question, answer = asked["compare"]
        left, right = (table[charts.LETTERS.index(word)] for word in question[:-1].split()[1::3])
        assert answer == ("yes" if left > right else "no")
        question, answer = asked["extremum"]
        wanted = max(table) if "highest" in question else min(table)
        assert table[charts.LETTERS.index(answer)] == wanted
        assert asked["count"][1] == str(len(table))


def test_the_table_of_a_chart_answers_the_questions_about_it():
    questions = {one.id: one for one in charts.charts("valid")}
    told = charts.chart_tables("valid")
    assert len(questions) == 4 * len(told) and len({one.answers for one in told}) > 100
    for number, one in enumerate(told):
        table = dict(column.split(" ") for column in one.answers[0].split(", "))
        asked = questions[f"chart-valid-{number}-read"]
        assert asked.pictures == one.pictures
        assert asked.answers == (table[asked.question[-2]],)
        assert questions[f"chart-valid-{number}-count"].answers == (str(len(table)),)


def test_every_line_of_a_screenshot_fits_its_width():
    for part in ("train", "valid"):
        lines = [
            line for one in lettering.screen_texts(part) for line in one.answers[0].split(", ")
        ]
        assert max(map(len, lines)) == lettering.SIDE // lettering.CELL
    words = (*lettering.NAMES, *lettering.KINDS, *lettering.TOPICS, *lettering.DAYS)
    assert set(words) <= set(lines)  # of 300 held out, each is drawn


def test_the_text_of_a_screenshot_answers_the_questions_about_it():
    questions = {one.id: one for one in lettering.screens("valid")}
    told = lettering.screen_texts("valid")
    assert len(questions) == 4 * len(told) and len({one.answers for one in told}) == len(told)
    for number, one in enumerate(told):
        asked = [questions[f"screen-valid-{number}-{kind}"] for kind in ("from", "day", "code")]
        kind, name, day, topic, code = one.answers[0].split(", ")
        assert [two.answers for two in asked] == [(name,), (day,), (code,)]
        assert all(two.pictures == one.pictures for two in asked)
        summary = questions[f"screen-valid-{number}-summary"].answers[0]
        assert summary == f"{kind} from {name} about the {topic}"


def test_one_shape_of_a_scene_is_of_another_colour_where_colour_is_odd():
    from PIL import ImageColor

    checked = 0
    for number in range(20):
        told = oddities.oddity(drawing("scene", "train", number))
        if told["kind"] == "form":
            assert told["odd colour"] == told["colour"] and told["odd form"] != told["form"]
            continue
        image = np.asarray(oddities.draw_scene("train", number))
        areas = [
            (image == np.array(ImageColor.getrgb(told[name]))).all(-1).sum()
            for name in ("odd colour", "colour")
        ]
        assert 0 < areas[0] <= areas[1] / 2
        checked += 1
    assert checked > 3
