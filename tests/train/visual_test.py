"""Runs that learn to see: they resume, freeze, grow in resolution and keep a decoder's text."""

import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import lm
import lm.train.saved
from experiments import gpt1
from launch.experiment import resolve
from lm.core.config import bind, dump, load
from lm.core.errors import CheckpointError, ConfigError, DataError
from lm.core.mesh import MeshConfig, make_mesh
from lm.data.sources import tell
from lm.data.tokens import TextConfig
from lm.data.visual import Example, VisualConfig
from lm.data.visual.example import Drawn, Given, asked
from lm.data.visual.rows import prompt_ids
from lm.decode.sampling import SamplingConfig
from lm.evals.suites import Model, Options
from lm.evals.suites.gpt4 import evaluate
from lm.models.gpt_vision import widened
from lm.models.vision import VisionConfig
from lm.text.byte import ByteTokenizer
from lm.train import pretrain, visual
from lm.train.optimizer import AdamWConfig
from lm.train.resume import changed_bindings
from lm.train.saved import Saved, read_run
from lm.train.session import LoopConfig
from lm.train.state import create
from lm.train.visual_material import Material
from tests.train.squares import COLOURS, config, write_squares


def one_device():
    return make_mesh(MeshConfig(data=1), jax.devices()[:1])


@pytest.fixture(scope="module", autouse=True)
def small_runs():
    """Whole runs are on one device; that eight make the same step has a test of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (pretrain, visual):
            patch.setattr(module, "make_mesh", lambda mesh: make_mesh(mesh, jax.devices()[:1]))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_squares(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "seen"
    config(data).run(workdir)
    return workdir


def summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


@pytest.mark.slow
def test_a_small_model_learns_to_name_a_colour_and_answers_about_a_file(run):
    assert summary(run)["valid_accuracy"] == 1.0
    loaded = lm.load(run)
    generator, model = loaded.image_generator(), loaded.config.model
    out = io.BytesIO()
    Image.new("RGB", (30, 30), COLOURS["blue"]).save(out, "JPEG")
    picture = Given(out.getvalue(), "blue.jpg")
    ids = prompt_ids(asked("colour?", picture), loaded.tokenizer, model.image_id, model.slots, 40)
    (row,) = generator([ids], [picture.pixels(16)[None]], 6, SamplingConfig(temperature=0.0))
    assert loaded.tokenizer.decode(row) == "blue"


@pytest.mark.slow
def test_the_report_shows_where_answers_looked(run):
    rows = [json.loads(line) for line in (run / "gallery.jsonl").read_text().splitlines()]
    assert len(rows) == 12 and {row["answer"] for row in rows} <= set(COLOURS)
    assert all(len(row["attention"]) == 1 and len(row["attention"][0]) == 4 for row in rows)
    assert all(sum(row["attention"][0]) == pytest.approx(1, abs=1e-3) for row in rows)
    assert (run / "report.html").read_text().count("data:image/png;base64,") == 24


@pytest.mark.slow
def test_an_evaluation_stands_at_the_tokens_of_the_step_it_is_of(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = {row["step"]: row["tokens"] for row in rows if "loss" in row}
    measured = {row["step"]: row["tokens"] for row in rows if "valid_accuracy" in row}
    assert measured[0] == 0 and len(measured) > 1
    assert {step: trained[step] for step in measured if step} | {0: 0} == measured
    assert measured[max(measured)] == summary(run)["tokens"]


@pytest.mark.parametrize(("mask", "rows", "answers"), [("causal", 4, 2), ("prefix", 8, 1)])
def test_a_prompt_that_sees_itself_learns_one_answer_a_row(tmp_path, mask, rows, answers, capsys):
    tell.cache_clear()
    said = [{"role": role, "content": role[0]} for role in ("user", "assistant") * 2]
    own = tmp_path / "own.jsonl"
    own.write_text(4 * (json.dumps({"messages": said}) + "\n"))
    made = config(tmp_path)
    made = replace(made, data=replace(made.data, sets=(str(own),), valid=str(own)))
    made = replace(made, model=replace(made.model, mask=mask))
    with pytest.raises(ConfigError, match="model.dialogue=True"):
        Material(made, ByteTokenizer(), one_device())
    made = replace(made, model=replace(made.model, dialogue=True))
    material = Material(made, ByteTokenizer(), one_device())
    assert material.rows.count == rows and len(material.valid) == 8
    assert "warning: data.valid is what is learned from" in capsys.readouterr().err
    batch, _ = material.batch(0)
    ends = (batch.targets == ByteTokenizer().end) & batch.mask
    assert (ends.sum(1) == answers).all() and (batch.mask.sum(1) == 2 * answers).all()


@pytest.mark.slow
def test_a_run_stops_where_more_than_a_few_images_cannot_be_read(data, tmp_path):
    rows = [{"image": f"{n}.png", "question": "colour?", "answer": "red"} for n in range(48)]
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps(row) + "\n" for row in rows))
    Image.new("RGB", (8, 8), "red").save(tmp_path / "0.png")
    (tmp_path / "valid.jsonl").write_text(json.dumps(rows[0]) + "\n")
    made = config(data)
    made = replace(
        made, data=replace(made.data, sets=(str(own),), valid=str(tmp_path / "valid.jsonl"))
    )
    with pytest.raises(DataError, match=r"rows have an image that cannot be read, more than 5%"):
        made.run(tmp_path / "run")


@pytest.mark.slow
def test_a_held_out_image_that_cannot_be_read_is_left_out_of_the_figures_and_said(
    data, tmp_path, capfd
):
    rows = [{"image": f"{n}.png", "question": "colour?", "answer": "red"} for n in range(2)]
    (tmp_path / "valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Image.new("RGB", (8, 8), "red").save(tmp_path / "1.png")
    made = config(data, steps=1)
    made = replace(made, data=replace(made.data, valid=str(tmp_path / "valid.jsonl")))
    made.run(tmp_path / "run")
    assert summary(tmp_path / "run")["valid_unread"] == 1
    told = "warning: 1 of 2 held-out examples are left out of every figure: .* has no image 0.png"
    assert len(re.findall(told, capfd.readouterr().out)) == 1


@pytest.mark.slow
def test_images_that_cannot_be_read_are_told_of_the_rows_that_the_process_drew(data, tmp_path):
    rows = [{"image": f"{n}.png", "question": "colour?", "answer": "red"} for n in range(2)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "valid.jsonl").write_text(json.dumps(rows[1]) + "\n")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "1.png")
    made = config(data, steps=2)
    sets, valid = (str(tmp_path / "own.jsonl"),), str(tmp_path / "valid.jsonl")
    made = replace(made, data=replace(made.data, sets=sets, valid=valid))
    made.run(tmp_path / "run")
    told = "; 16 of 32 rows drawn had images that cannot be read"
    assert summary(tmp_path / "run")["rows"].endswith(told)
    replace(made, steps=3).run(tmp_path / "run")
    assert summary(tmp_path / "run")["rows"].endswith(told.replace("16 of 32", "8 of 16"))


def test_an_archive_that_is_damaged_stops_the_run_before_it_begins(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    archive = tmp_path / "data" / "easy_vqa" / "train_images.zip"
    archive.write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(DataError, match="train_images.zip is no archive"):
        Material(config(tmp_path / "data"), ByteTokenizer(), one_device())


@pytest.mark.slow
def test_without_its_images_a_model_is_no_better_than_the_likeliest_answer(run, tmp_path):
    loaded = lm.load(run)
    model = Model(
        name="seen", scorer=loaded.scorer(), step=loaded.step, digest=loaded.digest, tokens=None,
        training=list, seer=loaded.image_generator(),
    )  # fmt: skip
    (tmp_path / "data").mkdir()
    root = write_squares(tmp_path / "data", held_out=96)
    options = Options(root=root, out=tmp_path, tasks=("easy_vqa",))
    (line,) = evaluate(model, options, print)
    # what the text says is all that is left, within two binomial errors
    blind = line.prior + 2 * (line.prior * (1 - line.prior) / 96) ** 0.5
    assert max(line.black, line.others) <= blind < 0.6 and line.answered.accuracy == 1
    assert len((tmp_path / "gpt4-step50.jsonl").read_text().splitlines()) == 96
    (row,) = json.loads((tmp_path / "gpt4-step50.json").read_text())
    assert row["right"] == 1 and row["black"] == line.black


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_parameters(run, data, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(run, half)
    shutil.rmtree(half / "checkpoints" / "50")
    config(data).run(half)
    whole, again = (read_run(where, one_device(), 50).digest for where in (run, half))
    assert whole == again


@pytest.mark.slow
@pytest.mark.parametrize("learned", [("connector",), ("vision", "connector")])
def test_only_the_parts_that_are_learned_change_and_have_moments(data, run, learned, tmp_path):
    step = config(data, init=str(run), learned=learned, steps=2, loop=LoopConfig(save_every=2))
    step.run(tmp_path / "next")
    before, after = (read_run(where, one_device()) for where in (run, tmp_path / "next"))
    for part in ("vision", "connector", "text"):
        pairs = zip(*(jax.tree.leaves(each.params[part]) for each in (before, after)), strict=True)
        same = [np.array_equal(old, new) for old, new in pairs]
        assert not all(same) if part in learned else all(same), part
    abstract = step.abstract(one_device())
    kept = sum(leaf.size for leaf in jax.tree.leaves(abstract.moments) if leaf.ndim)
    owned = sum(leaf.size for part in learned for leaf in jax.tree.leaves(abstract.params[part]))
    assert kept == 2 * owned


@pytest.mark.slow
@pytest.mark.parametrize("merge", [1, 2])
def test_a_stage_at_twice_the_resolution_goes_on_from_what_was_learned(data, run, merge, tmp_path):
    model = config(data).model
    model = replace(model, vision=replace(model.vision, image=32), merge=merge)
    config(data, init=str(run), model=model, length=40, steps=4).run(tmp_path / "higher")
    found = read_run(tmp_path / "higher", one_device())
    assert found.config.model.vision.image == 32 and found.config.model.slots == 16 // merge**2
    first = json.loads((tmp_path / "higher" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["valid_loss"] < 3  # a fresh model's is 5.6


@pytest.mark.slow
def test_the_decoder_of_a_run_of_text_is_taken_over_and_its_text_is_kept(data, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat and ran. " * 400)
    before = bind(
        resolve("gpt2:shakespeare_char_cpu"),
        {"data.train": str(text), "data.cache": str(tmp_path / "cache"), "steps": 40, "batch": 8}
        | {"model.layers": 1, "model.width": 32, "model.heads": 2, "model.length": 48}
        | {"optim.peak_lr": 0.01, "optim.warmup_tokens": 64, "loop.sample_tokens": 0}
        | {"evaluate_batches": 1},
    )
    before.run(tmp_path / "text")
    gentle = AdamWConfig(peak_lr=2e-3, b2=0.99, weight_decay=0.0)
    tuned = config(data, init=str(tmp_path / "text"), text_rows=8, steps=40, optim=gentle)
    tuned.run(tmp_path / "seen")
    lines = (tmp_path / "seen" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    losses = [row["text_loss"] for row in rows if "text_loss" in row]
    assert losses[0] < 3 and losses[-1] < losses[0] + 0.02  # nats: 2 % of perplexity
    # the control: without rows of text the decoder forgets it
    forgot = config(data, init=str(tmp_path / "text"), steps=40, optim=gentle)
    forgot.run(tmp_path / "forgot")
    assert summary(tmp_path / "forgot")["text_loss"] > losses[-1] * 1.05


AHEAD = """
import os, signal, sys
from pathlib import Path
import jax, numpy
from lm.core.mesh import MeshConfig, make_mesh
from lm.data.visual.ahead import prefetched
from lm.text.byte import ByteTokenizer
from lm.train.visual_material import Material
from tests.train.squares import config
material = Material(config(Path(sys.argv[1])), ByteTokenizer(), make_mesh(MeshConfig(data=1)))
signal.signal(signal.SIGTERM, lambda *_: None)
for last in (6, 12):  # all that is made is taken, or not
    with prefetched(material.batch, 3, last, workers=2) as batches:
        for step in range(3, 6):
            jax.tree.map(numpy.testing.assert_array_equal, next(batches), material.batch(step))
            os.killpg(0, signal.SIGTERM)
"""


@pytest.mark.slow
def test_processes_make_the_same_batches_and_leave_nothing_behind(data):
    """Though a signal to all of the group comes between."""
    done = subprocess.run(
        [sys.executable, "-c", AHEAD, str(data)], cwd=Path(lm.__file__).parents[1],
        env=os.environ | {"XLA_FLAGS": ""}, start_new_session=True, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_vocabulary_without_an_image_gets_one_more_row():
    known = np.array([[-3.0, 1.0], [-5.0, 1.0], [-4.0, 7.0]])
    table = np.asarray(widened({"tokens": {"table": known}}, 4)["tokens"]["table"])
    assert (table[:3] == known).all() and table[3].tolist() == [-4.0, 3.0]
    # its logit is the mean of the others': a row of zeros would be the likeliest of all here
    state = np.array([10.0, 0.0])
    assert (table[3] @ state) < (known @ state).max() < 0


@pytest.mark.slow
def test_a_step_on_eight_devices_is_the_step_on_one(data):
    found = []
    for mesh, devices in ((MeshConfig(data=2, fsdp=2, tensor=2), 8), (MeshConfig(data=1), 1)):
        made = config(data, mesh=mesh)
        grid = make_mesh(mesh, jax.devices()[:devices])
        material = Material(made, ByteTokenizer(), grid)
        with jax.set_mesh(grid):
            abstract = made.abstract(grid)
            state = create(made.initial(), abstract, 0)
            host, _ = material.batch(0)
            state, metrics = made.step(grid, abstract)(
                state, made.split(host, grid, material.mine, 16), np.float32(1e-2)
            )
            found.append((jax.device_get(state.params), float(metrics.loss)))
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), found[0][0], found[1][0])


@pytest.mark.slow
def test_mixed_batches_compile_the_step_once_for_each_room_for_images(data, tmp_path, monkeypatch):
    def example(count):
        images = count * [Drawn(Image.new, ("RGB", (16, 16)))]
        return Example(id=str(count), parts=asked("colour?", *images), answers=("red",))

    monkeypatch.setattr(VisualConfig, "examples", lambda *_: [example(1 + n % 3) for n in range(9)])
    (tmp_path / "text.txt").write_text("the cat sat on the mat and ran. " * 400)
    text = TextConfig(train=str(tmp_path / "text.txt"), cache=str(tmp_path / "cache"))
    made = config(data, batch=3, text=text, text_rows=1)
    grid, rooms = one_device(), []
    material = Material(made, ByteTokenizer(), grid)
    with jax.set_mesh(grid):
        abstract = made.abstract(grid)
        step, state = made.step(grid, abstract), create(made.initial(), abstract, 0)
        for number in range(10):
            host, _ = material.batch(number)
            rooms.append(host.images.shape[1])
            state, _ = step(state, made.split(host, grid, material.mine, 3), np.float32(1e-2))
    assert set(rooms) == {1, 2, 4} and step._cache_size() == 3


def test_operations_are_counted_of_the_rows_and_images_that_a_run_reads(
    data, tmp_path, monkeypatch
):
    class Begun(Exception):
        pass

    def begun(config, *_, flops_per_token=None, **__):
        raise Begun(config, flops_per_token(0))

    def example(count):
        images = count * [Drawn(Image.new, ("RGB", (16, 16)))]
        return Example(id=str(count), parts=asked("colour?", *images), answers=("red",))

    monkeypatch.setattr(visual.VisualTuning, "begun", begun)
    monkeypatch.setattr(VisualConfig, "examples", lambda *_: [example(1 + n % 3) for n in range(9)])
    (tmp_path / "text.txt").write_text("the cat sat on the mat and ran. " * 400)
    text = TextConfig(train=str(tmp_path / "text.txt"), cache=str(tmp_path / "cache"))
    with pytest.raises(Begun) as caught:
        config(data, batch=3, text=text, text_rows=1).run(tmp_path / "run")
    made, counted = caught.value.args
    # of 24 places: 3 images of 4, a question, an answer; of 3 rows 2 have 2 images on average
    assert counted == made.model.flops_per_token(24, 4 / 3) != made.flops_per_token()


@pytest.mark.slow
def test_a_gallery_that_a_full_disk_has_no_room_for_does_not_end_a_run(
    data, tmp_path, capsys, monkeypatch
):
    def refusing(usual):
        def write(path, *some, **more):
            if path.name == "gallery.jsonl":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return usual(path, *some, **more)

        return write

    for name in ("open", "write_text"):
        monkeypatch.setattr(Path, name, refusing(getattr(Path, name)))
    config(data, steps=1).run(tmp_path / "run")
    assert "gallery.jsonl was not written: No space left on device" in capsys.readouterr().out
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_classifier_is_no_decoder_to_see_with(data, tmp_path, monkeypatch):
    tuned = gpt1.finetune()
    found = Saved(replace(tuned, model=gpt1.tiny().model), {"model": {}, "head": {}},
                  ByteTokenizer(), 1, "")  # fmt: skip
    monkeypatch.setattr(lm.train.saved, "read_run", lambda *_: found)
    with pytest.raises(CheckpointError, match="init=RUN holds a Finetune: name a run of a decoder"):
        config(data, init="RUN").resolved(tmp_path, one_device())


def test_another_resolution_is_seen_where_a_stage_that_began_with_another_run_goes_on(
    data, tmp_path
):
    first = config(data, init="RUN")
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    (tmp_path / "config.gin").write_text(dump(first))
    ByteTokenizer().save(tmp_path / "tokenizer")
    finer = bind(first, {"model.vision.image": "32", "model.text.layers": "7"})
    model = finer.resolved(tmp_path, one_device())[0].model
    assert model.vision.image == 32  # and is refused, where the two are compared
    assert model.text == first.model.text  # that of RUN


def test_a_stage_that_took_its_squares_from_another_run_goes_on_with_them(data, tmp_path):
    """As stages did whose commands did not say model.merge."""
    first = config(data, init="RUN")
    (tmp_path / "checkpoints" / "5").mkdir(parents=True)
    (tmp_path / "config.gin").write_text(dump(bind(first, {"model.merge": "2"})))
    ByteTokenizer().save(tmp_path / "tokenizer")
    model = first.resolved(tmp_path, one_device())[0].model
    assert model.merge == 2 and model.slots == 1
    larger = replace(first.model, merge=4, vision=replace(first.model.vision, image=32))
    other = replace(first, model=larger).resolved(tmp_path, one_device())[0]
    with pytest.raises(ConfigError, match=r"model.merge"):
        changed_bindings(tmp_path, [5], other, allow_data=False)


def test_the_text_of_weights_from_elsewhere_is_not_that_of_their_config(
    data, tmp_path, monkeypatch
):
    found = Saved(resolve("gpt2:tiny"), {}, ByteTokenizer(), 5, "")
    monkeypatch.setattr(visual, "read_init", lambda *_: found)
    made = config(data, init="RUN")
    assert made.resolved(tmp_path, one_device())[0].text == found.config.data
    found = replace(found, step=0)
    assert made.resolved(tmp_path, one_device())[0].text is None


def test_a_stage_goes_on_with_larger_squares_and_never_with_parts_of_them(
    data, tmp_path, monkeypatch
):
    seeing = config(data)
    found = Saved(seeing, {}, ByteTokenizer(), 0, "")
    monkeypatch.setattr(visual, "read_init", lambda *_: found)
    larger = replace(seeing.model, merge=2)
    model = config(data, init="RUN", model=larger).resolved(tmp_path, one_device())[0].model
    assert model == replace(larger, image_id=model.image_id) and model.slots == 1
    found = replace(found, config=replace(seeing, model=larger))
    with pytest.raises(ConfigError, match="model.merge 1, and 2 of RUN: set that or a multiple"):
        config(data, init="RUN").resolved(tmp_path, one_device())


def test_a_part_that_is_not_learned_and_that_nothing_supplies_is_refused(data, tmp_path):
    for learned, more, part in (
        (("connector",), {}, "text"), (("connector",), {"encoder": "vit"}, "text"),
        (("connector", "text"), {}, "vision"), (("vision", "text"), {}, "connector"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=f"nothing supplies the {part} part.*: name a"):
            config(data, learned=learned, **more).resolved(tmp_path, one_device())
    decoder, seeing = (
        Saved(made, None, 0, "", "") for made in (resolve("gpt2:tiny"), config(data))
    )  # fmt: skip
    with pytest.raises(ConfigError, match="nothing supplies the vision part"):
        config(data, learned=("connector",)).check_parts(decoder)
    config(data, learned=("connector",), encoder="vit").check_parts(decoder)
    config(data, learned=("connector", "text")).check_parts(seeing)
    config(data).check_parts(None)


def test_an_encoder_beside_a_run_that_has_one_is_refused(data, tmp_path, monkeypatch):
    found = Saved(config(data), {}, ByteTokenizer(), 0, "")
    monkeypatch.setattr(visual, "read_init", lambda *_: found)
    with pytest.raises(ConfigError, match="encoder VIT, and init RUN has one, which goes on"):
        config(data, init="RUN", encoder="VIT").resolved(tmp_path, one_device())
    config(data, init="RUN").resolved(tmp_path, one_device())  # the control


def test_an_image_of_no_whole_patches_is_told_of_the_encoder_that_is_given(data, monkeypatch):
    found = VisionConfig(layers=1, width=32, heads=2, patch=14, image=28)
    monkeypatch.setattr(visual, "read_encoder", lambda folder: (found, {}))
    told = "image 16 is not a multiple of 14, the patch of DIR: its own is 28, 2 x 2 patches"
    with pytest.raises(ConfigError, match=told):
        config(data, encoder="DIR").eye()


def test_settings_that_cannot_be_are_refused(data):
    with pytest.raises(ConfigError, match="text_rows 16 must be below batch 16"):
        config(data, text_rows=16)
    with pytest.raises(ConfigError, match="an image takes 4 places of rows of 4"):
        config(data, length=4)
    with pytest.raises(ConfigError, match="answer_tokens 44 leave no room"):
        config(data, answer_tokens=44)
    with pytest.raises(ConfigError, match="text_weight must not be negative"):
        config(data, text_weight=-1.0)
    with pytest.raises(ConfigError, match="valid_limit must be positive"):
        VisualConfig(valid_limit=0)
    with pytest.raises(ConfigError, match="learned is empty"):
        config(data, learned=())
    made = config(data)
    assert load(dump(made)) == made
