"""Fine-tuning: each kind of task is learned, what comes of the other run, what is refused."""

import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

import experiments.bert
import experiments.gpt1
import experiments.gpt4
import lm.train.saved
from lm.core.config import bind
from lm.core.errors import CheckpointError, ConfigError, DataError
from lm.core.tree import named_leaves
from lm.data.sources import tell
from lm.data.tasks import TaskConfig, check_metrics, read
from lm.models.adapters import merged
from lm.models.bert import HEADS
from lm.rlhf.reward import RewardTraining
from lm.rlhf.sft import Sft
from lm.text.byte import ByteTokenizer
from lm.text.tokenizer import TokenizerConfig
from lm.train.finetune import Finetune, source_model, transferred
from lm.train.guard import GuardConfig, GuardState
from lm.train.masked import MaskedPretrain
from lm.train.optimizer import AdamWConfig
from lm.train.pretrain import Pretrain
from lm.train.process import Process
from lm.train.saved import Saved, read_config, read_run
from lm.train.session import LoopConfig
from lm.train.state import TrainState, create
from lm.train.supervised import steps_of
from tests.launched import ROOT, environment, final_digests, losses
from tests.models.pretrained.models import bert, drawn, gpt1
from tests.rlhf.runs import written
from tests.train.reading import rows_read

pytestmark = pytest.mark.usefixtures("one_device")

VOCAB = ByteTokenizer().vocab_size
SIZES = {"layers": 1, "width": 32, "heads": 2, "hidden": 64, "vocab": VOCAB, "length": 40}
ZERO = {"attention_dropout": 0.0, "residual_dropout": 0.0, "embedding_dropout": 0.0}
OPTIM = AdamWConfig(peak_lr=5e-3, b2=0.99, weight_decay=0.0)
MODELS = {"bert": bert(**SIZES | ZERO), "gpt1": gpt1(**SIZES | ZERO)}


def pretrained(folder, model, seed=0):
    """A run of bytes that somebody else has trained: random weights and a checkpoint of them."""
    settings = {"model": model, "optim": OPTIM, "steps": 1, "batch": 4,
                "tokenizer": TokenizerConfig(kind="bytes")}  # fmt: skip
    is_bert = model.init == "bert"
    config = MaskedPretrain(**settings, stages=((40, 1.0),)) if is_bert else Pretrain(**settings)
    params = drawn(model, seed)
    guard = jax.device_get(GuardState.empty(GuardConfig()))
    moments = jax.jit(config.optim.direction().init)(params)
    state = jax.device_put(TrainState(np.zeros((), np.int32), params, moments, guard))
    return written(folder, config, state)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return {
        name: pretrained(tmp_path_factory.mktemp(name), model) for name, model in MODELS.items()
    }


# -------------------------------------------------------------------- tasks

NUMBERS = random.Random(0)


def letters(count, among="abcd"):
    return "".join(NUMBERS.choice(among) for _ in range(count))


def classified(_):
    """Whether a letter stands in the text."""
    label = NUMBERS.randint(0, 1)
    text = letters(5) + "zy"[label] + letters(3)
    return {"text": text, "label": ["no", "yes"][label]}


def similar(_):
    """How alike two texts are: the share of "z" in them together."""
    a, b = letters(4, "az"), letters(4, "az")
    return {"sentence1": a, "sentence2": b, "score": 5 * (a + b).count("z") / 8}


def chosen(_):
    right = NUMBERS.randint(0, 2)
    endings = [letters(2, "abcd") for _ in range(3)]
    endings[right] = "z" + letters(1)
    return {"context": letters(4), "choices": endings, "label": right}


def asked(_):
    words = [letters(2) for _ in range(5)]
    place = NUMBERS.randint(0, 4)
    words[place] = "zz"
    return {"question": "what", "context": " ".join(words),
            "answers": [{"text": "zz", "answer_start": 3 * place}]}  # fmt: skip


def tagged(_):
    words = [letters(1, "abz") for _ in range(6)]
    return {"words": words, "tags": ["B-Z" if word == "z" else "O" for word in words]}


KINDS = {
    "classification": classified, "stsb": similar, "choice": chosen, "span": asked,
    "tagging": tagged,
}  # fmt: skip


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A folder of each task's files."""
    made = {}
    for name, make in KINDS.items():
        made[name] = folder = tmp_path_factory.mktemp(name)
        for part, count in (("train", 160), ("valid", 48)):
            rows = "".join(json.dumps(make(k)) + "\n" for k in range(count))
            (folder / f"{part}.jsonl").write_text(rows)
    return made


def tuning(runs, tasks, name, system, **changes):
    config = Finetune(
        data=TaskConfig(name=name, root=str(tasks[name]), train="train.jsonl", valid="valid.jsonl"),
        init=str(runs[system]),
        optim=OPTIM,
        batch=16,
        steps=90,
        length=40,
        head_dropout=0.0,
        guard=GuardConfig(spike="off"),
        loop=LoopConfig(log_every=10, evaluate_every=60, save_every=60),
    )
    return replace(config, **changes)


def summary_of(workdir):
    return json.loads((workdir / "summary.json").read_text())


def finetuned(config, workdir):
    config.run(workdir)
    return summary_of(workdir)


@pytest.fixture(scope="module")
def classifier(runs, tasks, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("classifier") / "run"
    tuning(runs, tasks, "classification", "bert").run(workdir)
    return workdir


@pytest.mark.slow
def test_bert_learns_to_classify(classifier):
    summary = summary_of(classifier)
    assert summary["accuracy"] > 0.9  # of two classes
    assert summary["items"] == {"train": 160, "valid": 48} and summary["cut"] == 0
    assert {"samples", "evaluations", "report.html", "config.gin", "tokenizer"} <= {
        path.name for path in classifier.iterdir()
    }
    answers = [
        json.loads(line)
        for line in (classifier / "evaluations" / "classification-valid.jsonl")
        .read_text()
        .splitlines()
    ]
    right = sum(row["answer"] == row["reference"] for row in answers)
    assert len(answers) == 48 and right / 48 == pytest.approx(summary["accuracy"])


@pytest.mark.slow
def test_labels_that_are_shuffled_cannot_be_learned(runs, tasks, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(tasks["classification"], folder)
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    labels = [row["label"] for row in rows]
    random.Random(1).shuffle(labels)
    rows = [row | {"label": label} for row, label in zip(rows, labels, strict=True)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = tuning(runs, {"classification": folder}, "classification", "bert")
    assert 0.25 < finetuned(config, tmp_path / "run")["accuracy"] < 0.75


@pytest.mark.slow
def test_gpt1_learns_similarity_in_both_orders_with_its_auxiliary_loss(runs, tasks, tmp_path):
    config = tuning(runs, tasks, "stsb", "gpt1", lm_weight=0.5)
    assert finetuned(config, tmp_path / "run")["pearson"] > 0.8
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    for row in rows:
        if "loss" in row:
            both = row["loss/task"] + 0.5 * row["loss/lm"]
            assert row["loss"] == pytest.approx(both, rel=1e-4)
    first, *_, last = [row["loss/lm"] for row in rows if "loss" in row]
    assert last < first  # it is descended as well


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "system", "metric", "more_than"),
    [
        ("classification", "gpt1", "accuracy", 0.9),
        ("choice", "gpt1", "accuracy", 0.8),
        ("choice", "bert", "accuracy", 0.8),
        ("span", "bert", "exact_match", 0.8),
        ("tagging", "bert", "entity_f1", 0.9),
    ],
)
def test_every_other_kind_is_learned(runs, tasks, tmp_path, name, system, metric, more_than):
    spans = {"question": 12, "stride": 16} if name == "span" else {}
    found = finetuned(tuning(runs, tasks, name, system, steps=150, **spans), tmp_path / "run")
    assert found[metric] > more_than


@pytest.mark.slow
@pytest.mark.parametrize(("name", "system"), [("classification", "bert"), ("choice", "gpt1")])
def test_norms_of_the_stream_are_logged_where_asked(runs, tasks, tmp_path, name, system):
    loop = LoopConfig(log_every=1, log_norms=True)
    tuning(runs, tasks, name, system, steps=1, loop=loop).run(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    (norms,) = [row["norm/stream"] for row in rows if "loss" in row]
    assert len(norms) == 2 and 0 < min(norms) < np.inf


@pytest.mark.slow
def test_features_are_read_and_left_as_they_are(runs, tasks, one_device, tmp_path):
    decaying = replace(OPTIM, weight_decay=0.1)
    config = tuning(runs, tasks, "tagging", "bert", features=1, optim=decaying, steps=150)
    assert finetuned(config, tmp_path / "run")["entity_f1"] > 0.9
    tuned = read_run(tmp_path / "run", one_device)  # an optimizer's state without the model's
    found, known = (named_leaves(p) for p in (tuned.params["model"], read_run(
        runs["bert"], one_device).params))  # fmt: skip
    assert len(found) > 10
    for name, leaf in found.items():
        np.testing.assert_array_equal(leaf, known[name])
    words = [sys.executable, "-m", "launch.evaluate", f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0 and "entity_f1" in done.stdout, done.stderr


@pytest.mark.slow
def test_going_on_from_a_checkpoint_repeats_every_bit(runs, tasks, classifier, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(classifier, workdir)
    shutil.rmtree(workdir / "checkpoints" / "90")
    tuning(runs, tasks, "classification", "bert", init=None).run(workdir)
    again = losses(workdir)
    del again[61]  # the first step of a process is always told
    assert again == losses(classifier)
    assert final_digests(workdir, 90) == final_digests(classifier, 90)


@pytest.mark.slow
def test_after_another_batch_no_row_is_left_out_and_none_is_read_again(
    runs, tasks, tmp_path, monkeypatch
):
    read = rows_read(monkeypatch)
    first = tuning(runs, tasks, "classification", "bert", steps=2)
    first.run(tmp_path)
    replace(first, steps=4, batch=8).run(tmp_path, Process(allow_data_change=True))
    assert read == [(0, 15), (16, 31), (32, 39), (40, 47)]


@pytest.mark.slow
def test_gpt1_goes_on_with_the_vocabulary_that_it_began_with(runs, tasks, tmp_path):
    workdir = tmp_path / "run"
    loop = LoopConfig(log_every=1, evaluate_every=60, save_every=2)
    config = tuning(runs, tasks, "choice", "gpt1", steps=4, loop=loop)
    config.run(workdir)
    whole = final_digests(workdir, 4)
    shutil.rmtree(workdir / "checkpoints" / "4")
    config.run(workdir)
    assert final_digests(workdir, 4) == whole
    assert read_config(workdir).model.vocab == VOCAB + 3


@pytest.mark.slow
def test_evaluating_a_run_gives_its_own_answers_and_metrics(classifier, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(classifier, workdir)
    shutil.rmtree(workdir / "evaluations")
    evaluated(workdir, "--batch=16")  # as in training: probabilities are of the same program
    name = "classification-valid.jsonl"
    written = (workdir / "evaluations" / name).read_text()
    assert written == (classifier / "evaluations" / name).read_text()
    figures = json.loads((workdir / "evaluations" / "classification-valid.json").read_text())
    assert figures["step"] == 90 and figures["items"] == 48
    assert figures["accuracy"] == summary_of(classifier)["accuracy"]


def evaluated(workdir, *flags):
    words = [sys.executable, "-m", "launch.evaluate", f"--workdir={workdir}", *flags]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows_in(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_every_row_of_a_file_is_measured_beside_what_was_measured_before(classifier, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(classifier, workdir)
    folder = workdir / "evaluations"
    before = (folder / "classification-valid.jsonl").read_text()
    for stem, count in (("a", 30), ("b", 5)):
        made = [{"text": letters(5) + "z", "label": "no"} for _ in range(count)]
        path = tmp_path / f"{stem}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in made))
        told = evaluated(workdir, f"--file={path}")
        assert f"\n{count} items\n" in told and told.startswith(f"{path}: {count} ")
        assert len(rows_in(folder / f"classification-file-{stem}.jsonl")) == count
        figures = json.loads((folder / f"classification-file-{stem}.json").read_text())
        assert figures["items"] == count and figures["file"] == str(path)
        assert figures["accuracy"] > 0.8  # "no" is the class that it was in training
    assert (folder / "classification-valid.jsonl").read_text() == before
    assert len(list(folder.iterdir())) == 5


@pytest.mark.slow
def test_a_file_alone_is_enough_for_a_decoder_that_was_never_tuned(runs, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(runs["gpt1"], workdir)
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(chosen(k)) + "\n" for k in range(30)))
    assert "30 items\n" in evaluated(workdir, "--task=choice", f"--file={path}")
    assert len(rows_in(workdir / "evaluations" / "choice-file-mine.jsonl")) == 30


@pytest.mark.slow
def test_a_decoder_that_was_never_tuned_answers_by_likelihood(runs, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(runs["gpt1"], workdir)
    rows = "".join(f"s\t{k % 2}\t\t{'abcd'[k % 4] * (k + 1)}\n" for k in range(8))
    for part in ("train", "dev"):
        (tmp_path / f"{part}.tsv").write_text("source\tlabel\tmark\tsentence\n" + rows)
    words = [sys.executable, "-m", "launch.evaluate", f"--workdir={workdir}", f"--root={tmp_path}"]
    done = subprocess.run(
        [*words, "--task=cola"], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0 and "matthews" in done.stdout, done.stderr
    written = (workdir / "evaluations" / "cola-valid.jsonl").read_text().splitlines()
    assert {json.loads(row)["answer"] for row in written} <= {"acceptable", "unacceptable"}
    assert len(written) == 8
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 1 and "--task is empty" in done.stderr
    done = subprocess.run(
        [*words, "--task=cola", "--batch=4"], cwd=ROOT, env=environment(), capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 1 and "--batch=4 is for a fine-tuned run, and " in done.stderr


# ------------------------------------------------- what comes from the other run


def started(runs, tasks, system, mesh, **changes):
    """The first parameters of a fine-tuning, and those of the run it starts from."""
    config = tuning(runs, tasks, "classification", system, **changes)
    source = read_run(runs[system], mesh)
    config = config.resolved(read(config.data), source_model(source))
    with jax.set_mesh(mesh):
        state = config.create(config.abstract(mesh), source)
    return (named_leaves(jax.device_get(tree)) for tree in (state.params["model"], source.params))


def test_scratch_takes_nothing_and_a_transfer_all_but_the_heads(runs, tasks, one_device):
    fresh, known = started(runs, tasks, "bert", one_device, scratch=True)
    drawn_names = [n for n in fresh if n.endswith(("kernel", "table"))]
    assert all(np.abs(fresh[name] - known[name]).min() > 0 for name in drawn_names)
    taken, known = started(runs, tasks, "bert", one_device)
    assert {name.partition("/")[0] for name in known} - {n.partition("/")[0] for n in taken} == set(
        HEADS
    )
    for name, leaf in taken.items():
        np.testing.assert_array_equal(leaf, known[name])


def test_the_grown_table_keeps_its_old_rows_and_draws_three(runs, tasks, one_device):
    taken, known = started(runs, tasks, "gpt1", one_device)
    table = taken["tokens/table"]
    assert table.shape == (VOCAB + 3, 32)
    np.testing.assert_array_equal(table[:VOCAB], known["tokens/table"])
    assert 0.01 < table[VOCAB:].std() < 0.03  # and not those of the run, of deviation 0.1


def test_a_fine_tuned_gpt1_has_its_three_specials_already(runs, tasks, one_device):
    config = tuning(runs, tasks, "classification", "gpt1")
    first = read_run(runs["gpt1"], one_device)
    tuned = config.resolved(read(config.data), source_model(first))
    with jax.set_mesh(one_device):
        params = tuned.create(tuned.abstract(one_device), first).params
        source = replace(first, config=tuned, params=params)
        again = config.resolved(read(config.data), source_model(source))
        taken = again.create(again.abstract(one_device), source).params
    tables = [jax.device_get(one["model"]["tokens"]["table"]) for one in (params, taken)]
    assert tables[1].shape == (VOCAB + 3, 32)
    np.testing.assert_array_equal(*tables)


@pytest.mark.parametrize("layers", [0, 2, 3, None])
def test_exactly_the_first_layers_are_taken(layers):
    shape = (3, 4, 5)
    fresh = {
        "stack": {"blocks": {"kernel": np.zeros(shape)}},
        "tokens": {"table": np.zeros((6, 2))},
    }
    known = {"stack": {"blocks": {"kernel": np.ones(shape)}}, "tokens": {"table": np.ones((6, 2))}}
    merged = transferred(fresh, known, layers)
    by_layer = np.asarray(merged["stack"]["blocks"]["kernel"]).reshape(3, -1)
    count = 3 if layers is None else layers
    assert by_layer[:count].min(initial=1) == 1 and by_layer[count:].max(initial=0) == 0
    assert np.asarray(merged["tokens"]["table"]).min() == 1  # embeddings always come along


@pytest.mark.parametrize("layers", [0, 1, None])
def test_exactly_the_first_layers_of_an_lstm_are_taken(layers):
    names = ["recurrences_0", "recurrences_1", "projection"]
    fresh, known = ({name: {"kernel": one(2)} for name in names} for one in (np.zeros, np.ones))
    merged = transferred(fresh, known, layers)
    taken = [np.asarray(merged[name]["kernel"]).tolist() for name in names]
    count = 2 if layers is None else layers
    assert taken == [[float(number < count)] * 2 for number in range(2)] + [[1.0, 1.0]]


@pytest.mark.slow
def test_a_fine_tuned_run_can_be_fine_tuned_again(runs, tasks, classifier, one_device):
    config = tuning(runs, tasks, "classification", "bert", init=str(classifier))
    source = read_run(classifier, one_device)
    config = config.resolved(read(config.data), source_model(source))
    with jax.set_mesh(one_device):
        state = jax.device_get(config.create(config.abstract(one_device), source))
    found, known = named_leaves(state.params["model"]), named_leaves(source.params["model"])
    for name, leaf in found.items():
        np.testing.assert_array_equal(leaf, known[name])


def saved_run(config, params):
    return Saved(config, params, ByteTokenizer(), 1, "")


@pytest.mark.slow
def test_a_run_of_adapters_and_a_reward_model_lend_their_decoder(
    runs, tasks, one_device, monkeypatch
):
    model = MODELS["gpt1"]
    tuned = Sft(optim=OPTIM, batch=4, init="RUN", model=model, lora_rank=2)
    with jax.set_mesh(one_device):
        state = create(tuned.initial(), tuned.abstract(one_device), 0)
    lora = jax.tree.map(lambda leaf: leaf + 1.0, state.params["lora"])
    adapted = saved_run(tuned, state.params | {"lora": lora})
    judge = RewardTraining(optim=OPTIM, batch=4, model=model)
    headed = saved_run(judge, {"model": state.params["base"], "head": {}})
    for found, known in (
        (adapted, merged(adapted.params)), (headed, state.params["base"]),
    ):  # fmt: skip
        monkeypatch.setattr(lm.train.saved, "read_run", lambda *_, found=found: found)
        config = tuning(runs, tasks, "classification", "gpt1")
        source = config.source(one_device)
        config = config.resolved(read(config.data), source_model(source))
        with jax.set_mesh(one_device):
            taken = config.create(config.abstract(one_device), source).params["model"]
        kernel = taken["stack"]["blocks"]["mlp"]["hidden"]["kernel"]
        wanted = known["stack"]["blocks"]["mlp"]["hidden"]["kernel"]
        np.testing.assert_allclose(kernel, wanted, rtol=1e-6)


# ------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("system", "other", "said"),
    [
        ("bert", {"layers": 2}, "model.layers is 2, and 1 in init=.*: --set model=None takes"),
        ("bert", {"segments": 3}, "model.segments is 3, and 2 in"),
        ("gpt1", {"width": 64}, "model.width is 64, and 32 in"),
        ("gpt1", {"vocab": VOCAB + 4}, f"model.vocab is {VOCAB + 4}, and {VOCAB + 3} in"),
        ("gpt1", None, "model is a BertConfig, and a GptConfig in"),
    ],
)
def test_a_model_that_is_not_that_of_init_is_refused(runs, tasks, one_device, system, other, said):
    source = read_run(runs[system], one_device)
    config = tuning(runs, tasks, "classification", system)
    task = read(config.data)
    model = source_model(source)
    same = replace(model, residual_dropout=0.1)  # which is no other shape
    assert replace(config, model=same).resolved(task, model).model == same
    changed = MODELS["bert"] if other is None else replace(model, **other)
    with pytest.raises(ConfigError, match=said):
        replace(config, model=changed).resolved(task, model)


def test_a_run_that_sees_is_no_beginning_of_a_task_about_text(runs, tasks, one_device, monkeypatch):
    seen = saved_run(experiments.gpt4.tiny(), {})
    monkeypatch.setattr(lm.train.saved, "read_run", lambda *_: seen)
    with pytest.raises(CheckpointError, match="holds a VisualTuning: name a run of a model of tex"):
        tuning(runs, tasks, "classification", "gpt1").source(one_device)


@pytest.mark.parametrize(
    ("system", "changes", "said"),
    [
        ("bert", {"init": None}, "init is not set: --set init=RUN names the run to start from$"),
        (
            "bert",
            {"init": None, "scratch": True},
            r"start from \(its shape and tokenizer alone are",
        ),
        ("bert", {"length": 41}, "length 41 is longer than model.length 40: set length"),
        ("bert", {"transfer": 2}, "transfer 2 is more than the 1 layers"),
        ("bert", {"features": 1}, "features=1 reads BERT for tagging, and classification is"),
        (
            "bert",
            {"lm_weight": 0.5},
            "init is a BERT, and lm_weight 0.5 is of GPT-1: use bert:finetune",
        ),
        ("gpt1", {"length": 41}, "length 41 is longer than model.length 40: set length"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(
    runs, tasks, tmp_path, system, changes, said
):
    with pytest.raises(ConfigError, match=said):
        tuning(runs, tasks, "classification", system, **changes).run(tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("tag", [3, "U-PER"])
def test_tags_that_spell_no_entities_are_refused_before_the_first_step(runs, tmp_path, tag):
    folder = tmp_path / "task"
    folder.mkdir()
    rows = [{"words": [f"a{n}", "b"], "tags": [tag, 0]} for n in range(20)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = tuning(runs, {"tagging": folder}, "tagging", "bert")
    data = replace(config.data, valid=None)
    with pytest.raises(
        DataError, match=r"tag '.*': .* data\.labels=.* or .* data\.metrics="
    ) as one:
        replace(config, data=data).run(tmp_path / "run")
    assert not (tmp_path / "run").exists() and "\n" not in str(one.value)
    check_metrics(("tag_accuracy",), read(data).labels)  # the control


def test_a_task_that_is_measured_on_its_training_rows_says_so(runs, tasks, tmp_path, capsys):
    for valid, said in (("train", 1), ("valid", 0)):
        tell.cache_clear()
        config = tuning(runs, tasks, "classification", "bert", length=41)
        config = replace(config, data=replace(config.data, valid=f"{valid}.jsonl"))
        with pytest.raises(ConfigError, match="length 41"):
            config.run(tmp_path / "run")
        assert capsys.readouterr().err.count("warning: data.valid is what is learned") == said


@pytest.mark.parametrize(
    ("system", "name"),
    [("bert", name) for name in KINDS]
    + [("gpt1", n) for n in KINDS if n not in ("span", "tagging")],
)
def test_a_published_fine_tuning_reads_rows_as_long_as_a_tiny_model_does(tasks, system, name):
    generation = {"bert": experiments.bert, "gpt1": experiments.gpt1}[system]
    config, tiny = generation.finetune(task=name), generation.tiny().model
    published = {"gpt1": 512}.get(system, 384 if name == "span" else 128)
    data = replace(config.data, root=str(tasks[name]), train="train.jsonl", valid="valid.jsonl")
    config, task = replace(config, data=data), read(data)
    tuned = config.resolved(task, tiny)
    assert tuned.length == tiny.length and tuned.encode(task, "valid", ByteTokenizer()).counts.rows
    assert config.resolved(task, generation.base().model).length == published
    said = f"length {published + 1} is longer than model.length {tiny.length}: set length"
    with pytest.raises(ConfigError, match=said):  # the control: a length that is asked for
        replace(config, length=published + 1).resolved(task, tiny)


@pytest.mark.parametrize("length, moved", [(384, 128), (128, 42)])
def test_windows_of_a_passage_overlap_in_ones_own_task_too(tmp_path, length, moved):
    passage = " ".join("abcdefghi" for _ in range(90))
    row = {"question": "who", "context": passage, "answers": [{"text": "abc", "answer_start": 0}]}
    for part in ("train", "valid"):
        (tmp_path / f"{part}.jsonl").write_text(json.dumps(row) + "\n")
    config = experiments.bert.finetune(task="span")
    config = replace(config, data=replace(config.data, root=str(tmp_path)))
    task = read(config.data)
    config = config.resolved(task, bert(**SIZES | {"length": length}))
    places = config.encode(task, "valid", ByteTokenizer()).passages
    steps = np.diff(places.first)[:-1]
    assert set(steps.tolist()) == {moved} and (steps < places.size[:-2]).all()
    wide = replace(config, stride=length).encode(task, "valid", ByteTokenizer()).passages
    assert (np.diff(wide.first) == wide.size[:-1]).all()  # the control: nothing is seen twice


def test_a_folder_that_is_no_run_and_a_run_without_checkpoints_are_named(runs, tasks, tmp_path):
    with pytest.raises(CheckpointError, match="is not a run directory: it has no config.gin"):
        tuning(runs, tasks, "classification", "bert", init=str(tmp_path)).run(tmp_path / "run")
    shutil.copy(runs["bert"] / "config.gin", tmp_path / "config.gin")
    with pytest.raises(CheckpointError, match="has no checkpoint yet; train it first"):
        tuning(runs, tasks, "classification", "bert", init=str(tmp_path)).run(tmp_path / "run")


def test_epochs_beside_other_steps_are_said_to_be_left_out(capsys):
    run = Finetune(optim=OPTIM, batch=16)  # 3 epochs
    quiet = (replace(run, epochs=5.0), replace(run, epochs=5.0, steps=50), replace(run, steps=50))
    assert [steps_of(config, 160, 16) for config in quiet] == [50, 50, 50]
    assert capsys.readouterr().out == ""
    assert steps_of(replace(run, epochs=5.0, steps=30), 160, 16) == 30  # as of a saved config.gin
    assert "steps=30 is set, and epochs=5, which are 50 steps, is left" in capsys.readouterr().out
    assert bind(Finetune(optim=OPTIM, batch=8, steps=9), {"steps": "None"}).steps is None


@pytest.mark.parametrize("changes", [{"transfer": -1}, {"lm_weight": -0.5}, {"head_dropout": 1.0}])
def test_a_setting_that_cannot_be_is_refused_by_value(changes):
    (value,) = changes.values()
    with pytest.raises(ConfigError, match=str(value)):
        Finetune(optim=OPTIM, batch=8, **changes)
