"""What a line of the table of image sets says."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from lm.core.mesh import MeshConfig, make_mesh
from lm.data.visual.example import Drawn, Example, Said
from lm.evals.suites import Options, gpt4
from lm.evals.suites.gpt4 import HEAD, Line
from lm.evals.visual import Answered
from lm.metrics.spread import ratio_error, standard_error


def line(name, match, *answers):
    example = Example(id="a", parts=("what?",), answers=("3.2",), match=match)
    answered = Answered([example] * len(answers), answers)
    return Line(name, answered, 0.1, 0.2, 0.3, {}, None)


@pytest.mark.parametrize(
    ("name", "match", "metric"),
    [("receipts", "exact", "exact"), ("charts", "relaxed", "relaxed"),
     ("flickr8k", "caption", "ROUGE-L")],
)  # fmt: skip
def test_a_line_names_its_metric_under_the_head(name, match, metric):
    at = HEAD.index("metric")
    assert str(line(name, match, "3.2", "4"))[at:].split()[0] == metric


def test_a_published_figure_stands_with_the_metric_it_is_of():
    assert "docvqa, anls: GPT-4 0.884" in str(line("receipts", "exact", "3.2", "4"))
    assert "chartqa, relaxed_accuracy: GPT-4 0.785" in str(line("charts", "relaxed", "3.2", "4"))


@pytest.mark.parametrize(("name", "beside"), [("receipts", True), ("oddities", False)])
def test_published_figures_are_in_the_table_and_said_to_be_no_comparison(
    tmp_path, monkeypatch, name, beside
):
    monkeypatch.setattr(gpt4, "see", lambda *_: [line(name, "exact", "3.2")])
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    model = SimpleNamespace(seer=(), step=3, digest="", scorer=SimpleNamespace(mesh=mesh))
    said = []
    gpt4.evaluate(model, Options(root=tmp_path, out=tmp_path, tasks=(name,)), said.append)
    (row,) = json.loads((tmp_path / "gpt4-step3.json").read_text())
    if beside:
        assert row["published"]["docvqa"]["anls"]["GPT-4"] == 0.884
        assert "no comparison" in said[-1]
    else:
        assert row["published"] == {} and said == []


def test_the_error_is_that_of_a_sample_and_one_item_has_none():
    said = str(line("receipts", "exact", "3.2", "4", "5", "3.2"))
    wanted, biased = (np.std([1, 0, 0, 1], ddof=d) / 2 for d in (1, 0))
    assert f"0.500 ± {wanted:.3f} " in said and f"± {biased:.3f}" not in said
    alone = line("receipts", "exact", "3.2")
    assert "±" not in str(alone) and alone.figures()["standard_error"] is None


def test_questions_about_one_image_are_one_part_of_the_sample():
    one, other = (Drawn(print, (name,)) for name in "ab")
    turns = ((one, "what?"), (one, "what?", Said("yes"), other, "and this?"), (other, "what?"))
    examples = [Example(id="a", parts=parts, answers=("yes",)) for parts in turns]
    found = Line("charts", Answered(examples, ("yes", "yes", "no")), 0, 0, 0, {}, None)
    said = str(found)
    parts = ratio_error([2, 0], [2, 1])
    assert found.figures()["standard_error"] == pytest.approx(parts)
    assert f"0.667 ± {parts:.3f} " in said and parts > standard_error([1, 1, 0])  # the control
