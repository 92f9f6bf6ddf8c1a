"""How answers about images are judged."""

import json
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lm.core.errors import ConfigError, DataError
from lm.core.mesh import MeshConfig, make_mesh, one_device, replicated
from lm.data.visual import Example
from lm.data.visual.example import Drawn, Said, Stored, asked, spread
from lm.data.visual.sets import SETS
from lm.evals.controls import newest, outcomes, prior
from lm.evals.published import figures
from lm.evals.suites import Options, gpt4
from lm.evals.suites.gpt4 import ABILITIES, Line
from lm.evals.visual import BATCH, Answered, answer, longest, score
from lm.metrics.relaxed import relaxed
from lm.models.gpt_vision import GptVisionConfig
from lm.models.vision import VisionConfig
from lm.nn.kernels import splash
from lm.text.byte import ByteTokenizer
from tests.models.gpt_test import small


@pytest.mark.parametrize(
    ("said", "truth", "right"),
    [("22", "22", True), ("21", "22", True), ("20.8", "22", False), ("23.2", "22", False),
     ("95", "100", True), ("94.9", "100", False), ("0.0", "0", False),
     # five of a hundred of the truth, and of its size
     ("23.12", "22", False), ("20.92", "22", True), ("-5", "-5", True), ("-5.2", "-5", True),
     ("55%", "0.55", True), ("55%", "55", False), ("57%", "55%", True),
     ("Finland", "finland ", True),
     ("Finnland", "Finland", False), ("0", "0", True), ("0.01", "0", False), ("-5", "5", False),
     ("", "5", False), ("five", "5", False)],
)  # fmt: skip
def test_a_number_may_be_five_percent_off_and_a_word_may_not(said, truth, right):
    assert relaxed(said, truth) is right


def example(question, answer, match="exact"):
    return Example(id=question, parts=(question,), answers=(answer, "other"), match=match)


def test_any_true_answer_is_right_and_a_caption_is_as_near_as_its_nearest():
    assert score(" YES", example("q", "yes")) == 1 and score("no", example("q", "yes")) == 0
    assert score("other", example("q", "yes")) == 1
    caption = example("q", "a dog runs on the grass", "caption")
    assert score("a dog runs on the grass", caption) == pytest.approx(1)
    assert 0 < score("a dog sits", caption) < 1 and score("", caption) == 0


def test_by_anls_an_answer_is_as_near_as_the_nearest_of_the_true_ones():
    read = example("q", "12 May", "anls")  # or "other"
    found = [score(said, read) for said in ("12 may", "12 Mai", "otter", "June")]
    assert found == pytest.approx([1, 5 / 6, 4 / 5, 0])
    line = Line("mine", Answered([read, read], ("12 Mai", "June")), 0, 0, 0, {}, None)
    assert line.metric == "ANLS" and line.figures()["right"] == pytest.approx(5 / 12)
    both = Answered([read, example("q", "yes")], ("12 Mai", "no"))
    assert replace(line, answered=both).metric == "ANLS, exact"


def test_no_set_of_captions_stands_beside_cider_which_nothing_here_computes():
    beside = {set_: near for set_, (_, near) in ABILITIES.items() if near}
    assert not {"flickr8k", "easy_captions"} & set(beside)
    printed = {row["task"] for row in figures() if row["metric"] == "cider"}
    assert printed and not printed & set(beside.values())


def test_there_is_room_for_the_longest_true_answer_and_its_end_and_for_a_caption_more():
    asked = [example("q", "yes"), example("q", "elephants")]  # "other" is true as well
    assert longest(asked, ByteTokenizer()) == len("elephants") + 1
    assert longest([*asked, example("q", "a cat", "caption")], ByteTokenizer()) == 48
    assert longest([*asked, example("q", "a cat", "anls")], ByteTokenizer()) == 48
    assert longest([example("q", 99 * "a")], ByteTokenizer()) == 48


class Echo:
    """A model that answers a prompt with its last letter."""

    def __init__(self, pattern):
        text = small(length=64, vocab=257, pattern=pattern, stride=4, summary=2)
        eye = VisionConfig(image=8, patch=4, layers=1, width=16, heads=2)
        self.config = GptVisionConfig(text=text, vision=eye, image_id=256)
        self.asked = []

    def __call__(self, prompts, images, tokens, sampling):
        self.asked.append([len(prompt) for prompt in prompts])
        return [prompt[-1:] for prompt in prompts]


@pytest.mark.parametrize("pattern", [("dense",), ("fixed",)])
def test_examples_are_answered_in_their_order_and_those_of_one_length_together_where_it_counts(
    pattern,
):
    model, words = Echo(pattern), ("abc", "de", "fgh", "i", "jk")
    found = answer(model, ByteTokenizer(), [example(word, "yes") for word in words], 4)
    assert found.answers == tuple(word[-1] for word in words)
    lengths = [sorted(set(batch)) for batch in model.asked]
    assert all(len(batch) == BATCH for batch in model.asked)
    assert [len(some) for some in lengths] == ([1, 1, 1] if pattern == ("fixed",) else [3])


def test_an_example_whose_image_cannot_be_read_is_left_out_of_the_mean_and_counted(tmp_path):
    gone = asked("q", Stored(str(tmp_path), "gone.png"))
    unread = replace(example("q", "c"), parts=gone)
    some = [example("abc", "c"), unread, example("de", "no")]
    found = answer(Echo(("dense",)), ByteTokenizer(), some, 4)
    assert found.answers == ("c", "e") and found.accuracy == 0.5
    assert list(found.examples) == [some[0], some[2]]
    (why,) = found.unread
    assert "has no image gone.png" in why
    with pytest.raises(DataError, match=r"none of 1 examples has images that can be read: .*gone"):
        answer(Echo(("dense",)), ByteTokenizer(), [unread], 4)


def test_an_example_that_another_process_cannot_read_is_left_out_on_all(monkeypatch):
    monkeypatch.setattr("lm.evals.visual.everywhere", lambda flags: flags & [True, False, True])
    model, some = Echo(("dense",)), [example(word, "c") for word in ("abc", "de", "fgh")]
    found = answer(model, ByteTokenizer(), some, 4)
    assert list(found.examples) == [some[0], some[2]] and found.answers == ("c", "h")
    assert found.unread == ("an image that another process cannot read",)


def test_a_set_is_told_with_its_images_that_cannot_be_read(tmp_path, monkeypatch):
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    valid = [
        replace(example("q", right), parts=(Stored(str(tmp_path), f"{name}.png"), name))
        for name, right in (("gone", "e"), ("a", "a"), ("b", "no"))
    ]
    shown = {"strings": lambda _, part: valid if part == "valid" else []}
    monkeypatch.setattr(gpt4, "SETS", shown)
    said = []
    options = Options(root=tmp_path, out=tmp_path, tasks=("strings",))
    (line,) = gpt4.evaluate(seeing(Echo(("dense",))), options, said.append)
    assert line.answered.accuracy == line.black == line.others == 0.5
    assert any("left out: 1 whose images cannot be read" in one for one in said)
    (row,) = json.loads((tmp_path / "gpt4-step3.json").read_text())
    assert row["items"] == 2 and row["unread"] == 1


def test_questions_of_a_user_s_own_are_a_set_whose_likeliest_answers_are_its_own(tmp_path):
    rows = []
    for name, right in (("a", "red"), ("b", "red"), ("c", "blue")):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
        rows.append(json.dumps({"image": f"{name}.png", "question": "colour?", "answer": right}))
    path = tmp_path / "held.jsonl"
    path.write_text("\n".join(rows))
    said = []
    options = Options(root=tmp_path / "none", out=tmp_path, tasks=(str(path),))
    (line,) = gpt4.evaluate(seeing(Echo(("dense",))), options, said.append)
    assert line.prior == pytest.approx(2 / 3) and "of your own:" in said
    assert [one.answers for one in line.answered.examples] == [("red",), ("red",), ("blue",)]
    (row,) = json.loads((tmp_path / "gpt4-step3.json").read_text())
    assert row["set"] == str(path) and row["items"] == 3 and row["published"] == {}
    gone = replace(options, tasks=(str(tmp_path / "gone.jsonl"),))
    with pytest.raises(DataError, match="gone.jsonl"):
        gpt4.evaluate(seeing(Echo(("dense",))), gone, print)


class Looking(Echo):
    """One that says whether an image is red, green or neither."""

    def __call__(self, prompts, images, tokens, sampling):
        means = [some.mean(axis=(0, 1, 2)) for some in images]
        return [[ord("rgn"[int(np.argmax([*mean[:2], 1]))])] for mean in means]


def test_the_images_of_another_example_show_none_of_its_own():
    shown = {"r": Drawn(Image.new, ("RGB", (8, 8), "red")),
             "g": Drawn(Image.new, ("RGB", (8, 8), (0, 255, 0)))}  # fmt: skip
    some = [
        Example(id=str(n), parts=asked("colour?", shown[name]), answers=(name,))
        for n, name in enumerate("rgrg")  # half of them away is the same image
    ]
    told = outcomes(Looking(("dense",)), ByteTokenizer(), some)
    assert told == [{"answer": name, "score": 1, "black": 0, "others": 0} for name in "rgrg"]
    told = outcomes(Looking(("dense",)), ByteTokenizer(), some[::2])  # the control: black ones
    assert [row["others"] for row in told] == [0, 0]


def test_the_prior_answers_each_question_as_training_mostly_did():
    train = [example("colour?", "red")] * 3 + [example("form?", "square")] * 5
    valid = [example("colour?", "red"), example("colour?", "blue"), example("size?", "square")]
    assert prior(train, valid) == pytest.approx(2 / 3)


def test_the_newest_turn_of_a_conversation_keeps_its_own_images_alone():
    first, second = (Drawn(lambda: None, (n,)) for n in range(2))
    before = (*asked("a?", first), Said("yes"), *asked("c?", first), Said("yes"))
    talk = Example(id="t", parts=(*before, *asked("b?", second)), answers=("no",))
    assert newest(talk).parts == asked("b?", second) and newest(talk).answers == ("no",)
    assert newest(example("q", "yes")) == example("q", "yes")


def test_every_set_shows_an_ability_and_a_sample_is_always_the_same():
    assert set(ABILITIES) == set(SETS)
    some = [example(str(number), "x") for number in range(50)]
    assert spread(some, 7) == spread(some[::-1], 7) and len(spread(some, 7)) == 7
    kinds = [example(f"{kind}{number}", "x") for kind in "ab" for number in range(50)]
    assert {one.id[0] for one in spread(kinds, 9)} == {"a", "b"}


def seeing(seer=None, mesh=None, digest="d"):
    scorer = SimpleNamespace(tokenizer=ByteTokenizer(), mesh=mesh or one_device())
    return SimpleNamespace(seer=seer or object(), scorer=scorer, step=3, digest=digest)


def test_a_set_that_nobody_knows_is_told_before_any_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(gpt4, "asked", lambda *_: pytest.fail("it was asked"))
    options = Options(root=tmp_path, out=tmp_path / "out", tasks=("strings", "chartz"))
    with pytest.raises(ConfigError, match="unknown task 'chartz'; did you mean charts"):
        gpt4.evaluate(seeing(), options, print)


def test_images_are_read_by_the_kernel_of_a_tpu_on_all_devices_of_a_machine(tmp_path, monkeypatch):
    """Outside the mesh of the parameters, no kernel of Pallas is lowered for several devices."""
    mesh = make_mesh(MeshConfig())
    patches = jax.ShapeDtypeStruct((8, 2, 128, 8), jnp.float32, sharding=replicated(mesh))
    found = []

    def read(name, *_):
        encode = jax.jit(lambda x: splash(x, x, x, False, "dense", 1))
        program = encode.trace(patches).lower(lowering_platforms=("tpu",))
        found.append("tpu_custom_call" in program.as_text())
        return Line(name, Answered([example("q", "yes")], ("yes",)), 0, 0, 0, {}, None)

    monkeypatch.setattr(gpt4, "asked", read)
    options = Options(root=tmp_path, out=tmp_path / "out", tasks=("strings",))
    gpt4.evaluate(seeing(mesh=mesh), options, print)
    assert found == [True]


def test_a_set_without_held_out_images_is_left_out_and_the_others_are_asked(tmp_path, monkeypatch):
    line = Line("easy_vqa", Answered([example("q", "yes")], ("yes",)), 0, 0, 0, {}, None)
    monkeypatch.setattr(gpt4, "asked", lambda name, *_: replace(line, name=name))
    shown = {"receipts": (), "strings": (example("q", "yes"),)}
    monkeypatch.setattr(gpt4, "SETS", {n: lambda _, part, n=n: shown.get(n, ()) for n in SETS})
    said = []
    options = Options(root=tmp_path, out=tmp_path / "out")
    assert [line.name for line in gpt4.evaluate(seeing(), options, said.append)] == ["strings"]
    assert f"receipts      left out: no example of receipts in {tmp_path} is held out" in "".join(
        said
    )
    with pytest.raises(DataError, match="no example of receipts"):
        gpt4.evaluate(seeing(), replace(options, tasks=("receipts",)), print)


def test_a_model_that_does_not_see_and_is_asked_for_images_alone_has_nothing_to_answer(tmp_path):
    blind = SimpleNamespace(seer=None, scorer=SimpleNamespace(tokenizer=None), step=3)
    options = Options(root=tmp_path, out=tmp_path / "out", tasks=("charts",))
    with pytest.raises(DataError, match="images: not asked, this model does not see"):
        gpt4.evaluate(blind, options, print)


def test_what_was_answered_is_kept_where_a_later_set_is_not_there(tmp_path, monkeypatch):
    shown = {"strings": lambda *_: talks(tmp_path, "a"), "chartqa": SETS["chartqa"]}
    monkeypatch.setattr(gpt4, "SETS", shown)
    options = Options(root=tmp_path, out=tmp_path / "out", tasks=("strings", "chartqa"))
    with pytest.raises(DataError, match="chartqa_sample"):
        gpt4.evaluate(seeing(Echo(("dense",))), options, print)
    (row,) = json.loads((tmp_path / "out" / "gpt4-step3.json").read_text())
    (said,) = (tmp_path / "out" / "gpt4-step3.jsonl").read_text().splitlines()
    assert json.loads(said)["answer"] == "a"
    assert row["set"] == "strings" and row["right"] == 1
    missing = Options(root=tmp_path, out=tmp_path / "out", tasks=("chartqa",))
    with pytest.raises(DataError, match="chartqa_sample"):
        gpt4.evaluate(seeing(), missing, print)
    assert json.loads((tmp_path / "out" / "gpt4-step3.json").read_text()) == [row]


def talks(tmp_path, *right):
    """Questions with an image each, the second behind an earlier turn."""
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    first, second = (Stored(str(tmp_path), f"{name}.png") for name in "ab")
    turn = (first, "x", Said("y"), second, "b")
    parts = ((first, "a"), turn, (Stored(str(tmp_path), "gone.png"), "c"))
    return [
        replace(example(str(n), answer), parts=shown)
        for n, (answer, shown) in enumerate(zip(right, parts, strict=False))
    ]


def test_sets_that_were_answered_before_a_kill_are_not_asked_again(tmp_path, monkeypatch):
    shown = {"strings": talks(tmp_path, "a", "b", "c"), "charts": talks(tmp_path, "a", "no")}

    def killed(*_):
        raise KeyboardInterrupt

    def told(name, reader=None, tasks=("strings", "charts"), **of):
        sets = {key: lambda *_, key=key: shown[key] for key in shown}
        monkeypatch.setattr(gpt4, "SETS", sets | ({"charts": reader} if reader else {}))
        model = Echo(("dense",))
        options = Options(root=tmp_path, out=tmp_path / name, tasks=tasks)
        return gpt4.evaluate(seeing(model, **of), options, lambda _: None), model.asked

    expected, asked_of_all = told("whole")
    assert expected[0].answered.unread and expected[0].follow == (1, 1)
    with pytest.raises(KeyboardInterrupt):
        told("out", reader=killed)
    lines, asked_then = told("out")
    assert lines == expected and 0 < len(asked_then) < len(asked_of_all)
    assert told("out") == (expected, [])
    for name in ("gpt4-step3.jsonl", "gpt4-step3.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert told("out", digest="trained on")[1] == asked_of_all
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")  # other images are other questions
    assert told("out")[1] == asked_of_all


def test_a_set_that_is_asked_alone_leaves_the_figures_of_others_and_of_other_settings(
    tmp_path, monkeypatch
):
    shown = talks(tmp_path, "a", "no")
    monkeypatch.setattr(gpt4, "SETS", dict.fromkeys(("strings", "charts"), lambda *_: shown))

    def sets(*tasks, digest="d", **changes):
        options = Options(root=tmp_path, out=tmp_path / "out", tasks=tasks, **changes)
        gpt4.evaluate(seeing(Echo(("dense",)), digest=digest), options, lambda _: None)
        rows = json.loads((tmp_path / "out" / "gpt4-step3.json").read_text())
        return [(row["set"], row["items"]) for row in rows]

    assert sets("charts") == [("charts", 3)]  # of the second its two turns
    assert sets("strings") == [("charts", 3), ("strings", 3)]
    assert sets("strings") == [("charts", 3), ("strings", 3)]  # its own alone are replaced
    every = [("charts", 3), ("strings", 3), ("strings", 1)]
    assert sets("strings", limit=1) == every
    assert sets("charts", digest="trained on") == [*every, ("charts", 3)]
    assert len((tmp_path / "out" / "gpt4-step3.jsonl").read_text().splitlines()) == 10


def test_answers_of_an_earlier_form_are_not_taken_for_outcomes(tmp_path, monkeypatch):
    monkeypatch.setattr(gpt4, "SETS", {"strings": lambda *_: talks(tmp_path, "a")})
    path = tmp_path / "gpt4-step3.jsonl"
    path.write_text('{"set": "strings", "id": "0", "answer": "a", "score": 1.0}\n')
    options = Options(root=tmp_path, out=tmp_path, tasks=("strings",))
    with pytest.raises(DataError, match="or the file, where an earlier version wrote other lines"):
        gpt4.evaluate(seeing(Echo(("dense",))), options, print)
    path.unlink()
    assert len(gpt4.evaluate(seeing(Echo(("dense",))), options, print)) == 1
