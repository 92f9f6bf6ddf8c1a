"""Rows of questions about images: order, buckets, faults, and text that spells the marker."""

import dataclasses
import gzip
import io
import json
import pickle
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lm.core.config import bind
from lm.core.errors import ConfigError, DataError
from lm.data.images import moved
from lm.data.visual import Example, VisualConfig, VisualRows
from lm.data.visual.ahead import prefetched
from lm.data.visual.example import Drawn, Given, Kept, Said, Stored, asked, unfolded
from lm.data.visual.rows import encode, prompt_ids, shifted
from lm.data.visual.sets import nlvr
from lm.text.byte import ByteTokenizer

TOKENIZER = ByteTokenizer()
IMAGE = TOKENIZER.specials["image"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
    data: VisualConfig


def plain(colour, side):
    return Image.new("RGB", (side, side), colour)


def example(number, images=1, answer="yes"):
    parts = asked(f"is it {number}?", *(Drawn(plain, ((number, n, 9), 8)) for n in range(images)))
    return Example(id=str(number), parts=parts, answers=(answer,))


def rows_of(examples, length=64, slots=4):
    return VisualRows(
        examples, TOKENIZER, image_id=IMAGE, slots=slots, side=4, length=length, seed=0
    )


def test_the_loss_counts_the_answer_and_its_end_and_nothing_else():
    batch, wrong = rows_of([example(7)]).take(np.array([0]), 0)
    assert wrong == []
    counted = batch.targets[0][batch.mask[0]].tolist()
    assert counted == [*b"yes", TOKENIZER.end]
    prompt = batch.tokens[0][: batch.prefix[0]].tolist()
    assert prompt == [IMAGE] * 4 + list(b"is it 7?\n")
    assert batch.images.shape == (1, 1, 4, 4, 3) and (batch.images[0, 0] == (7, 0, 9)).all()


def test_text_that_spells_the_image_marker_is_text():
    shown = Example(id="a", parts=asked("<|image|> what is it?"), answers=("no",))
    (found,) = encode([shown], TOKENIZER, IMAGE, 4)
    assert IMAGE not in found.ids and found.pictures == ()
    ids = prompt_ids(shown.parts, TOKENIZER, IMAGE, 4, 64)
    assert ids == list(b"<|image|> what is it?\n")


def test_images_stand_where_they_are_written():
    one, two = (Drawn(plain, ((n, n, n), 8)) for n in (1, 2))
    parts = ("from ", one, " to ", two, "?")
    ids = prompt_ids(parts, TOKENIZER, IMAGE, 2, 64)
    assert ids == [*b"from ", IMAGE, IMAGE, *b" to ", IMAGE, IMAGE, *b"?"]
    rows = rows_of([Example(id="a", parts=parts, answers=("x",))], slots=2)
    batch, _ = rows.take(np.array([0]), 0)
    assert batch.images[0, :, 0, 0, 0].tolist() == [1, 2]


def test_more_images_than_the_context_holds_are_refused_or_left_out_and_counted():
    parts = asked("a?", *(Drawn(plain, ((0, 0, 0), 8)),) * 5)
    with pytest.raises(DataError, match=r"5 images are 20 places.*room for 16 \(4 images\)"):
        prompt_ids(parts, TOKENIZER, IMAGE, 4, 16)
    rows = rows_of([example(1), Example(id="b", parts=parts, answers=("x",))], length=20)
    assert rows.count == 1 and rows.long == 1
    with pytest.raises(DataError, match="none of 1 examples fits into 6 tokens"):
        rows_of([example(1)], length=6)
    with pytest.raises(ConfigError, match="an example has 17 images"):
        rows_of([example(1, images=17)], length=128)


def test_an_epoch_has_every_example_once_and_processes_read_their_own_rows():
    rows = rows_of([example(n) for n in range(10)])
    assert sorted(rows.index(0, 10).tolist()) == list(range(10))
    assert rows.index(10, 10).tolist() != rows.index(0, 10).tolist()
    whole, _ = rows.batch(4, 4, slice(0, 4))
    part, _ = rows.batch(4, 4, slice(2, 4))
    np.testing.assert_array_equal(whole.images[2:], part.images)
    np.testing.assert_array_equal(whole.tokens[2:], part.tokens)
    assert part.rows.tolist() == [6, 7]


def test_batches_have_few_shapes_whatever_images_their_rows_have():
    examples = [example(n, images=n % 4) for n in range(40)]
    rows = rows_of(examples)
    shapes = {rows.batch(first, 2, slice(0, 2))[0].images.shape for first in range(0, 80, 2)}
    assert {shape[1] for shape in shapes} <= {0, 1, 2, 4}
    mine, _ = rows.batch(0, 40, slice(0, 1))  # decided by all the rows, not by one process's own
    assert mine.images.shape[1] == 4


def test_a_row_whose_image_cannot_be_read_does_not_count_and_is_told(tmp_path):
    bad = Example(id="b", parts=asked("a?", Given(b"no image", "b.png")), answers=("x",))
    gone = Example(id="c", parts=asked("a?", Stored(str(tmp_path), "c.png")), answers=("x",))
    batch, wrong = rows_of([example(1), bad, gone]).take(np.arange(3), 0)
    assert batch.mask.any(axis=1).tolist() == [True, False, False]
    assert len(wrong) == 2 and "b.png" in wrong[0] and "c.png" in wrong[1]


def test_images_are_read_from_folders_and_archives(tmp_path):
    out = io.BytesIO()
    plain((9, 8, 7), 8).save(out, "PNG")
    (tmp_path / "a.png").write_bytes(out.getvalue())
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "a.png")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "a.png", "a.png")
    for where in (tmp_path, tmp_path / "a.zip", tmp_path / "a.tar"):
        assert (Stored(str(where), "a.png").pixels(4) == (9, 8, 7)).all()
        with pytest.raises(DataError, match=r"has no image b\.png"):
            Stored(str(where), "b.png").pixels(4)
    (tmp_path / "b.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match="is no archive of images"):
        Stored(str(tmp_path / "b.zip"), "a.png").pixels(4)


def test_an_image_whose_compressed_bytes_are_damaged_is_one_line(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(1000))
    packed = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(packed[:35] + b"\xff" * 4 + packed[39:])
    with pytest.raises(DataError, match=r"image a\.png of .*a\.zip cannot be read"):
        Stored(str(tmp_path / "a.zip"), "a.png").pixels(4)


def test_a_set_that_is_not_known_is_refused():
    with pytest.raises(ConfigError, match="unknown set 'vqa'; known: easy_vqa"):
        VisualConfig(sets=("vqa",))
    with pytest.raises(ConfigError, match="not one a set"):
        replace(VisualConfig(), times=(1, 2))


def test_a_file_of_ones_own_is_asked_for_where_it_belongs(tmp_path):
    config = VisualConfig(sets=("easy_vqa", "easy_captions"), times=(1, 10))
    with pytest.raises(ConfigError, match=r"binding data\.train; did you mean data\.sets\?"):
        bind(Holder(data=config), {"data.train": "own.jsonl"})
    with pytest.raises(ConfigError, match=r"--set 'data.times=\(1,\)' has each once"):
        bind(config, {"sets": '("own.jsonl",)'})
    own = bind(config, {"sets": '("own.jsonl",)', "times": "(1,)", "root": str(tmp_path)})
    (tmp_path / "own.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"^own.jsonl: no such file; .* is named with its own f"):
        own.examples("train")


def test_files_and_folders_in_the_home_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.jsonl").write_text("")
    own = VisualConfig(sets=("~/own.jsonl",), valid="~/held.jsonl", root="~/data")
    with pytest.raises(DataError, match="own.jsonl: nothing to measure on"):
        own.examples("train")
    for part, name, path in (("valid", "any", "held.jsonl"), ("train", "easy_vqa", "data")):
        with pytest.raises(DataError, match=f"^{tmp_path}/{path}.*no such file"):
            replace(own, sets=own.sets if part == "valid" else (name,)).examples(part)


def squares(step):
    return np.full(3, step), []


def test_batches_made_ahead_come_in_order_from_any_step():
    with prefetched(squares, 3, 8, workers=0) as batches:
        found = [int(batch[0]) for batch, _ in batches]
    assert found == [3, 4, 5, 6, 7]


@pytest.mark.slow
def test_processes_end_with_a_run_that_stops_at_once():
    code = (
        "import os; from lm.data.visual.ahead import prefetched\n"
        "with prefetched(lambda step: (step, []), 0, 99, workers=1) as batches:\n"
        "    next(batches); os._exit(3)"
    )
    # they hold its output open for as long as they are there
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=200)
    assert done.returncode == 3


def test_a_statement_that_is_held_out_is_about_no_image_of_training(tmp_path):
    (tmp_path / "nlvr1").mkdir()
    with gzip.open(tmp_path / "nlvr1" / "dev.jsonl.gz", "wt") as file:
        for number in range(160):
            row = {"image": f"{number}.png", "sentence": f"box {number // 4}", "label": "true"}
            file.write(json.dumps(row) + "\n")
    train, valid = ({one.question for one in nlvr(tmp_path, part)} for part in ("train", "valid"))
    assert len(train) + len(valid) == 40 and valid and not train & valid


def test_an_image_is_moved_with_its_edge_by_a_draw_of_its_row():
    image = np.zeros((8, 8, 3), np.uint8)
    image[3, 3], image[0] = 200, 50
    assert moved(image, 2, -1)[2, 5, 0] == 200 and moved(image, 0, 2)[:3, :, 0].min() == 50
    images, rows = np.tile(image, (6, 1, 1, 1, 1)), np.arange(6)
    once, again, other = (shifted(images, rows + n, 2, 0) for n in (0, 0, 6))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other) and len({one.tobytes() for one in once}) > 1


def test_an_image_is_moved_as_far_to_every_side():
    image = np.zeros((9, 9, 1), np.uint8)
    image[4, 4] = 1
    found = shifted(np.tile(image, (400, 1, 1, 1, 1)), np.arange(400), 2, 0)
    places = {(int(row), int(column)) for _, _, row, column, _ in np.argwhere(found)}
    assert places == {(4 + down, 4 + right) for down in range(-2, 3) for right in range(-2, 3)}


def test_a_batch_without_any_image_has_none_to_move():
    rows = rows_of([example(n, images=0) for n in range(3)])
    batch, _ = rows.take(np.arange(3), 0)
    assert batch.images.shape == (3, 0, 4, 4, 3)
    assert shifted(batch.images, batch.rows, 2, 0).shape == batch.images.shape


def talk():
    first, second = (Drawn(plain, ((n, 9, 9), 8)) for n in range(2))
    parts = (*asked("a?", first), Said("yes"), *asked("b?", second), Said("no"), *asked("c?"))
    return Example(id="t", parts=parts, answers=("so",), kind="open")


@pytest.mark.parametrize(("every", "counted"), [
    (True, [*b"yes", TOKENIZER.end, *b"no", TOKENIZER.end, *b"so", TOKENIZER.end]),
    (False, [*b"so", TOKENIZER.end]),
])  # fmt: skip
def test_of_a_conversation_every_answer_is_learned_or_the_last_alone(every, counted):
    rows = VisualRows(
        [talk()], TOKENIZER, image_id=IMAGE, slots=2, side=4, length=64, seed=0, every=every
    )
    batch, _ = rows.take(np.array([0]), 0)
    assert batch.targets[0][batch.mask[0]].tolist() == counted
    assert batch.images.shape[1] == 2
    prompt = prompt_ids(talk().parts, TOKENIZER, IMAGE, 2, 64)
    assert batch.prefix[0] == len(prompt) and batch.tokens[0, : len(prompt)].tolist() == prompt
    assert prompt == [
        IMAGE, IMAGE, *b"a?\n", *b"yes", TOKENIZER.end, IMAGE, IMAGE, *b"b?\n", *b"no",
        TOKENIZER.end, *b"c?\n",
    ]  # fmt: skip


def test_each_answer_of_a_conversation_is_an_example_with_what_came_before():
    found = unfolded(talk())
    assert [one.answers for one in found] == [("yes",), ("no",), ("so",)]
    assert [len(one.pictures) for one in found] == [1, 2, 2]
    assert [one.kind for one in found] == ["turn 1", "turn 2", "turn 3"]
    assert found[-1].parts == talk().parts and len({one.id for one in found}) == 3
    assert unfolded(example(1)) == [example(1)]


def test_an_answer_that_says_nothing_is_neither_learned_nor_asked_for():
    parts = ("a?\n", Said(" "), "b?\n", Said("no"), "c?\n")
    one = Example(id="1", parts=parts, answers=("so",))
    (found,) = encode([one], TOKENIZER, IMAGE, 2, every=True)
    learned = [token for token, counts in zip(found.ids, found.learned, strict=True) if counts]
    assert learned == [*b"no", TOKENIZER.end, *b"so", TOKENIZER.end]
    assert [turn.answers for turn in unfolded(one)] == [("no",), ("so",)]


class Counted:
    """A picture that counts how often it is read."""

    def __init__(self):
        self.times = 0

    def pixels(self, side):
        self.times += 1
        return np.full((side, side, 3), self.times, np.uint8)


def test_a_picture_is_read_once_while_there_is_room():
    kept = Kept(4, room=2 * 3 * 4 * 4)
    pictures = [Counted() for _ in range(3)]
    for _ in range(3):
        for picture in pictures:
            assert kept(picture).shape == (4, 4, 3)
    assert [picture.times for picture in pictures] == [1, 1, 3]
    given = pickle.loads(pickle.dumps(kept))
    assert given.pixels == {} and given.left == 2 and kept.left == 0


def test_what_a_run_has_learned_from_is_known_in_another_process():
    picture = Drawn(plain, ((1, 2, 3), 8))
    assert repr(picture) == f"{__name__}.plain((1, 2, 3), 8)"
    assert " at 0x" not in repr(example(1))
