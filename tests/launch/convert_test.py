"""Weights of each architecture become a run that training and `lm.load` go on from, and go back."""

import json
import shlex
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

import lm.models.pretrained
import lm.train.saved
from experiments import bert, chatgpt, gpt1, gpt2
from launch import convert
from lm.core.config import assignment, bind
from lm.core.config import read as read_config
from lm.core.errors import CheckpointError, ConfigError, DataError
from lm.core.mesh import MeshConfig, make_mesh
from lm.models.lstm import LstmConfig
from lm.models.pretrained import read, write
from lm.text.added import with_specials
from lm.text.auto_tokenizer import NONE
from lm.text.dialogue import Chat, conversation
from lm.text.tokenizer import TokenizerConfig, build, load
from lm.text.wordpiece import SPECIALS
from lm.train.optimizer import rising
from lm.train.saved import Saved, read_run
from lm.train.session import LoopConfig
from tests.models.pretrained.models import MODELS, drawn
from tests.text.tokenizers import BERT, BERT_MODEL, BYTE_LEVEL, learned_gpt2

pytest.importorskip("safetensors")
pytest.importorskip("tokenizers")
PIECES = ["<unk>", "\n</w>", "<|endoftext|>", "a", "b", "a</w>", "b</w>"]


@pytest.fixture(autouse=True)
def transformers(request, monkeypatch):
    """Hidden but from the slow tests: it takes seconds to import."""
    if not request.node.get_closest_marker("slow"):
        monkeypatch.setitem(sys.modules, "transformers", None)


def published(name, folder):
    """A small model and a vocabulary in their layout; the model has more rows than pieces."""
    config = MODELS[name]()
    params = drawn(config)
    write(config, params, folder)
    if name == "bert":
        (folder / "vocab.txt").write_text("\n".join([*SPECIALS.values(), "A", "b"]))
        (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    else:
        pieces = PIECES if name == "gpt1" else ["<|endoftext|>", "a", "b"]
        (folder / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(pieces)}))
        (folder / "merges.txt").write_text("#version: 0.2\n")
    return config, params


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "gpt1", "gpt2"])
def test_weights_become_a_run_and_go_back_with_their_vocabulary(name, tmp_path):
    config, params = published(name, tmp_path / "theirs")
    convert.read(tmp_path / "theirs", tmp_path / "run")
    mesh = make_mesh(MeshConfig(data=1), jax.local_devices()[:1])
    saved = read_run(tmp_path / "run", mesh)
    tokenizer = saved.tokenizer
    assert saved.config.model == config and saved.step == 0
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(saved.params), params)
    assert tokenizer is not None
    assert tokenizer.kind == {"bert": "wordpiece"}.get(name, name)
    assert name != "bert" or tokenizer.cased
    with pytest.raises(ConfigError, match="holds a run already"):
        convert.read(tmp_path / "theirs", tmp_path / "run")

    convert.write(tmp_path / "run", tmp_path / "back")
    again, found = read(tmp_path / "back")
    assert again == config
    jax.tree.map(np.testing.assert_array_equal, found, params)
    assert convert.vocabulary(tmp_path / "back", tokenizer.kind) is not None
    for file, data in tokenizer.files().items():
        assert (tmp_path / "back" / file).read_bytes() == data


@pytest.mark.parametrize("name", list(MODELS))
def test_the_figure_of_a_published_size_is_not_told_beside_a_model_of_any_size(name):
    assert convert.experiment(MODELS[name]()).reference is None


@pytest.mark.parametrize("name", ["bert", "gpt1", "gpt2"])
def test_a_vocabulary_comes_along_in_one_file_of_json_too(name, tmp_path):
    """As transformers 5 writes it, alone."""
    published(name, tmp_path)
    kind = "wordpiece" if name == "bert" else name
    wanted = build(convert.vocabulary(tmp_path, kind), lambda: ())
    if name == "bert":
        words = (tmp_path / "vocab.txt").read_text().split()
        model = BERT_MODEL | {"vocab": {word: i for i, word in enumerate(words)}}
    else:
        vocab = json.loads((tmp_path / "vocab.json").read_text())
        model = {"type": "BPE", "vocab": vocab, "merges": []}
        if name == "gpt1":
            model |= {"end_of_word_suffix": "</w>", "unk_token": "<unk>"}
    parts = {"pre_tokenizer": BYTE_LEVEL} if name == "gpt2" else BERT
    for file in ("vocab.txt", "vocab.json", "merges.txt"):
        (tmp_path / file).unlink(missing_ok=True)
    (tmp_path / "tokenizer.json").write_text(json.dumps(parts | {"model": model}))
    found = build(convert.vocabulary(tmp_path, kind), lambda: ())
    assert found.digest == wanted.digest


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("beside", [True, False])
def test_a_file_of_json_says_its_own_case(lower, beside, tmp_path):
    vocab = {word: i for i, word in enumerate([*SPECIALS.values(), "Paris", "paris"])}
    normalizer = BERT["normalizer"] | {"lowercase": lower}
    whole = BERT | {"model": BERT_MODEL | {"vocab": vocab}, "normalizer": normalizer}
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    if beside:
        (tmp_path / "vocab.txt").write_text("\n".join(vocab))
    found = build(convert.vocabulary(tmp_path, "wordpiece"), lambda: ())
    assert list(found.encode("Paris")) == [vocab["paris" if lower else "Paris"]]


@pytest.mark.parametrize("name", ["gpt1", "gpt2"])
def test_the_command_that_trains_imported_weights_on_can_be_given(name, tmp_path, capsys):
    published(name, tmp_path / "theirs")
    run = tmp_path / "a run's folder"
    convert.read(tmp_path / "theirs", run)
    told = capsys.readouterr().out.splitlines()[-1]
    words = shlex.split(told.removeprefix("to train on: python -m launch.train "))
    assert words[0] == f"--gin_file={run}/config.gin"
    sets = dict(map(assignment, words[2:-1:2]))
    config = bind(read_config(run / "config.gin"), sets)
    assert config.init == str(run) and config.data.train == "FOLDER"
    assert not rising(config.optim, 1000, 1000)


def test_weights_without_a_vocabulary_become_a_run_that_says_so(tmp_path, capsys):
    published("gpt2", tmp_path)
    (tmp_path / "merges.txt").unlink()
    assert convert.vocabulary(tmp_path, "gpt2") is None
    assert "merges.txt or tokenizer.json): the run has none" in capsys.readouterr().out


def test_weights_in_a_store_are_refused_and_not_written_to_a_folder_of_its_name(
    tmp_path, monkeypatch
):
    config, params = published("gpt2", tmp_path / "theirs")
    monkeypatch.chdir(tmp_path)
    for use in (lambda: read("gs://bucket/hf"), lambda: write(config, params, "gs://bucket/hf")):
        with pytest.raises(ConfigError, match="gs://bucket/hf: only a folder of this machine"):
            use()
    assert not (tmp_path / "gs:").exists()


def test_weights_that_come_back_as_others_are_refused_by_their_logits(tmp_path, monkeypatch):
    numpy_files = pytest.importorskip("safetensors.numpy")
    config, params = published("gpt2", tmp_path / "right")
    convert.check(config, params, tmp_path / "right")  # the control

    def wrong(config, params, folder, **ids):
        write(config, params, folder, **ids)
        arrays = numpy_files.load_file(folder / "model.safetensors")
        name = "transformer.h.1.attn.c_proj.weight"  # square: another layout has the same shape
        arrays[name] = np.ascontiguousarray(arrays[name].T)
        numpy_files.save_file(arrays, folder / "model.safetensors")

    convert.read(tmp_path / "right", tmp_path / "run")
    monkeypatch.setattr(lm.models.pretrained, "write", wrong)
    with pytest.raises(CheckpointError, match=r"back: its logits are .* off those of the run"):
        convert.write(tmp_path / "run", tmp_path / "back")
    assert {path.name for path in tmp_path.iterdir()} == {"right", "run"}


def test_a_folder_that_holds_something_is_not_written_over(tmp_path):
    published("gpt2", tmp_path / "theirs")
    before = {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()}
    with pytest.raises(ConfigError, match="theirs exists: remove it, or choose another folder"):
        convert.write(tmp_path / "run", tmp_path / "theirs")
    assert {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()} == before


def test_a_vocabulary_that_transformers_cannot_read_is_told_and_its_ids_are_its_own(
    tmp_path, monkeypatch, capsys
):
    tokenizer = build(TokenizerConfig(kind="bytes"), lambda: ())
    model = replace(MODELS["gpt2"](), vocab=tokenizer.vocab_size)
    saved = Saved(replace(gpt2.tiny(), model=model), drawn(model), tokenizer, 1, "")
    monkeypatch.setattr(lm.train.saved, "read_run", lambda *_: saved)
    convert.write(tmp_path / "run", tmp_path / "back")
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2 and told[1].startswith("its vocabulary (bytes) is not one that AutoTok")
    raw = json.loads((tmp_path / "back" / "config.json").read_text())
    ids = [raw[f"{name}_token_id"] for name in ("bos", "eos", "pad")]
    assert ids == [tokenizer.end, tokenizer.end, tokenizer.pad]
    modes = {path.name: path.stat().st_mode for path in (tmp_path / "back").iterdir()}
    assert modes["model.safetensors"] == modes["config.json"]


def exported(tokenizer, folder, monkeypatch, experiment=None):
    """A folder with this vocabulary and a model of GPT-2's layout."""
    model = replace(MODELS["gpt2"](), vocab=tokenizer.vocab_size)
    experiment = replace(experiment or gpt2.tiny(), model=model)
    saved = Saved(experiment, drawn(model), tokenizer, 1, "")
    monkeypatch.setattr(lm.train.saved, "read_run", lambda *_: saved)
    convert.write(folder / "run", folder / "back")
    return folder / "back"


@pytest.mark.slow
def test_auto_tokenizer_gives_our_ids_of_a_sentencepiece_and_of_a_foreign_one_none(
    tmp_path, monkeypatch, capsys
):
    auto = pytest.importorskip("transformers").AutoTokenizer
    text = " The quick brown fox\n\n  jumps — over it.\t"
    config = TokenizerConfig(kind="sentencepiece", vocab=300)
    tokenizer = build(config, lambda: ["The quick brown fox jumps over it. " * 9] * 9)
    theirs = auto.from_pretrained(exported(tokenizer, tmp_path, monkeypatch))
    assert theirs(text)["input_ids"] == tokenizer.encode(text) and len(theirs("fox").input_ids) < 3
    assert theirs.decode(tokenizer.encode(text)) == text
    assert (theirs.eos_token_id, theirs.pad_token_id) == (tokenizer.end, tokenizer.pad)
    assert len(capsys.readouterr().out.splitlines()) == 1
    for kind in ("bytes", "wordpiece"):
        tokenizer = build(TokenizerConfig(kind=kind, vocab=60), lambda: ["The quick fox. " * 9] * 9)
        with pytest.raises(ValueError):
            auto.from_pretrained(exported(tokenizer, tmp_path / kind, monkeypatch))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "sentencepiece"])
def test_an_exported_chat_that_transformers_saved_again_comes_back(tmp_path, monkeypatch, kind):
    transformers = pytest.importorskip("transformers")
    if kind == "gpt2":
        base = learned_gpt2(tmp_path / "vocabulary")
    else:
        base = build(TokenizerConfig(kind=kind, vocab=300), lambda: ["The quick fox. " * 9] * 9)
    chat = Chat(base)
    back = exported(chat.tokenizer, tmp_path, monkeypatch, chatgpt.sft())
    theirs = transformers.AutoTokenizer.from_pretrained(back)
    turns = [{"role": "user", "content": " The quick fox\n"}]
    found = theirs.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    assert found == chat.prompt(conversation(turns))
    theirs.save_pretrained(tmp_path / "kept")
    transformers.AutoModelForCausalLM.from_pretrained(back).save_pretrained(tmp_path / "kept")
    assert not (tmp_path / "kept" / "lm_tokenizer.json").exists()
    convert.read(tmp_path / "kept", tmp_path / "again")
    assert load(tmp_path / "again" / "tokenizer").digest == chat.tokenizer.digest


def test_a_chat_of_gpt2_s_vocabulary_is_exported_with_its_markers_and_one_of_gpt1_s_stops(
    tmp_path, monkeypatch, capsys
):
    tokenizer = Chat(learned_gpt2(tmp_path / "vocabulary")).tokenizer
    back = exported(tokenizer, tmp_path, monkeypatch, chatgpt.sft())
    whole = json.loads((back / "tokenizer.json").read_text())
    found = {row["content"]: row["id"] for row in whole["added_tokens"]}
    assert found["<|im_start|>"] == tokenizer.specials["im_start"]
    assert "chat_template" in json.loads((back / "tokenizer_config.json").read_text())
    assert load(back).digest == tokenizer.digest
    assert len(capsys.readouterr().out.splitlines()) == 1
    pytest.importorskip("ftfy")
    base = build(TokenizerConfig(kind="gpt1", vocab=60), lambda: ["The quick fox. " * 9] * 9)
    model = replace(MODELS["gpt1"](), vocab=base.vocab_size + 5)
    experiment = replace(chatgpt.sft(), model=model)
    saved = Saved(experiment, drawn(model), Chat(base).tokenizer, 1, "")
    monkeypatch.setattr(lm.train.saved, "read_run", lambda *_: saved)
    convert.write(tmp_path / "run", tmp_path / "gpt1")
    assert "(gpt1) is not one that AutoTokenizer" in capsys.readouterr().out
    options = json.loads((tmp_path / "gpt1" / "tokenizer_config.json").read_text())
    assert options["tokenizer_class"] == NONE


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece", "wordpiece", "gpt1"])
def test_whatever_vocabulary_a_run_exports_is_imported_again_with_the_weights(
    tmp_path, monkeypatch, kind
):
    pytest.importorskip("ftfy" if kind == "gpt1" else "sentencepiece")
    vocab = 300 if kind == "sentencepiece" else 60
    config = TokenizerConfig(kind=kind, vocab=vocab, cased=kind == "wordpiece")
    tokenizer = build(config, lambda: ["The quick brown fox jumps over it. " * 9] * 9)
    tokenizer = with_specials(tokenizer, ["im_start", "image"])  # some have them, some have not
    model = replace(MODELS["gpt2"](), vocab=tokenizer.vocab_size)
    saved = Saved(replace(gpt2.tiny(), model=model), drawn(model), tokenizer, 1, "")
    monkeypatch.setattr(lm.train.saved, "read_run", lambda *_: saved)
    convert.write(tmp_path / "run", tmp_path / "back")
    found = build(convert.vocabulary(tmp_path / "back", "gpt2"), lambda: ())
    assert found.kind == kind and found.digest == tokenizer.digest


def misread(folder):
    """Weights as a wrong map would read them: the rows of a kernel in another order."""
    config, params = read(folder)
    output = params["stack"]["blocks"]["mlp"]["output"]
    output["kernel"] = output["kernel"][:, ::-1]  # [L F D]
    return config, params


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MODELS))
def test_weights_that_transformers_reads_otherwise_become_no_run(
    name, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("torch"), pytest.importorskip("transformers")
    write(MODELS[name](), drawn(MODELS[name]()), tmp_path / "theirs")
    convert.read(tmp_path / "theirs", tmp_path / "right")  # the control
    assert "are those of transformers" in capsys.readouterr().out
    monkeypatch.setattr(lm.models.pretrained, "read", misread)
    with pytest.raises(CheckpointError, match=r"its logits are .* off those of transformers"):
        convert.read(tmp_path / "theirs", tmp_path / "wrong")
    assert not (tmp_path / "wrong" / "config.gin").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["BertForMaskedLM", "BertModel"])
def test_a_bert_that_lacks_a_head_is_compared_with_the_one_that_was_drawn(kind, tmp_path, capsys):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    shape = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4}
    shape |= {"intermediate_size": 48, "vocab_size": 50, "max_position_embeddings": 16}
    model = getattr(transformers, kind)(transformers.BertConfig(**shape))
    model.save_pretrained(tmp_path / "theirs")
    convert.read(tmp_path / "theirs", tmp_path / "run")
    told = capsys.readouterr().out
    assert "head of the next sentence: drawn anew" in told and "are those of transformers" in told


def test_without_transformers_a_line_says_that_nothing_was_compared(tmp_path, capsys):
    published("gpt2", tmp_path / "theirs")
    convert.compare(*read(tmp_path / "theirs"), tmp_path / "theirs")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("the logits were not compared with those of transformers and torch")


@pytest.mark.parametrize("kind", ["Finetune of a BertConfig", "Pretrain of a LstmConfig"])
def test_a_run_that_their_layout_has_no_place_for_is_named(tmp_path, monkeypatch, kind):
    config, params = published("bert", tmp_path / "theirs")
    if kind.startswith("Finetune"):
        experiment = replace(bert.finetune(), model=config)
        params = {"model": params, "head": {}}
    else:
        model = LstmConfig(vocab=50, length=16, width=8, units=8)
        experiment = replace(gpt1.tiny(), model=model, loop=LoopConfig())
        params = {"tokens": {}, "lstm": {}}
    saved = Saved(experiment, params, None, 1, "")
    monkeypatch.setattr(lm.train.saved, "read_run", lambda *_: saved)
    with pytest.raises(ConfigError, match=f"run holds a {kind}, and only .*: name such a run"):
        convert.write(tmp_path / "run", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_added_tokens_come_in_with_the_weights_and_must_have_embeddings(tmp_path):
    published("gpt2", tmp_path / "theirs")
    added = {"id": 3, "content": "<|im_end|>", "special": True}
    vocab = json.loads((tmp_path / "theirs" / "vocab.json").read_text())
    model = {"type": "BPE", "vocab": vocab, "merges": []}
    whole = {"pre_tokenizer": BYTE_LEVEL, "model": model, "added_tokens": [added]}
    (tmp_path / "theirs" / "tokenizer.json").write_text(json.dumps(whole))
    convert.read(tmp_path / "theirs", tmp_path / "run")
    found = load(tmp_path / "run" / "tokenizer")
    assert found.specials == {"end": 0, "im_end": 3} and found.vocab_size == 4
    config = replace(MODELS["gpt2"](), vocab=3)
    write(config, drawn(config), tmp_path / "theirs")
    with pytest.raises(CheckpointError, match="its vocabulary has 4 ids, its model 3 embeddings"):
        convert.read(tmp_path / "theirs", tmp_path / "other")


def test_a_vocabulary_of_another_splitting_stops_before_the_weights_are_read(tmp_path):
    published("gpt2", tmp_path / "theirs")
    vocab = json.loads((tmp_path / "theirs" / "vocab.json").read_text())
    whole = {"normalizer": {"type": "Lowercase"}, "pre_tokenizer": BYTE_LEVEL}
    whole |= {"model": {"type": "BPE", "vocab": vocab | {"A": 3}, "merges": []}}
    (tmp_path / "theirs" / "tokenizer.json").write_text(json.dumps(whole))
    (tmp_path / "theirs" / "merges.txt").unlink()
    (tmp_path / "theirs" / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"tokenizer\.json gives '.*its normalizer or pre-token"):
        convert.read(tmp_path / "theirs", tmp_path / "run")
    assert not (tmp_path / "run").exists()
