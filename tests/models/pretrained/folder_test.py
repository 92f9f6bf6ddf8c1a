"""Weights in Hugging Face's layout: files, names, and what cannot be read or written."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.core.errors import CheckpointError, ConfigError
from lm.models.pretrained import read, write
from tests.models.pretrained.models import MODELS, bert, drawn, gpt1, gpt2, neo

numpy_files = pytest.importorskip("safetensors.numpy")


@pytest.fixture(params=MODELS)
def exported(request, tmp_path):
    config = MODELS[request.param]()
    params = drawn(config)
    write(config, params, tmp_path / "hf")
    return config, params, tmp_path / "hf"


def rewritten(folder, change):
    arrays = numpy_files.load_file(folder / "model.safetensors")
    numpy_files.save_file(change(arrays), folder / "model.safetensors")


def configured(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def same(found, params):
    jax.tree.map(np.testing.assert_array_equal, found, params)


def test_what_is_written_reads_back_exactly(exported):
    config, params, folder = exported
    again, found = read(folder)
    assert again == config
    same(found, params)
    assert config.parameters() == sum(array.size for array in jax.tree.leaves(found))


def test_names_without_their_prefix_and_with_old_buffers_load(exported):
    _, params, folder = exported

    def old(arrays):
        bare = {
            name.removeprefix("transformer.").removeprefix("bert."): array
            for name, array in arrays.items()
        }
        if "wpe.weight" in bare or "positions_embed.weight" in bare:
            return bare | {"h.0.attn.bias": np.ones((1, 1, 16, 16), np.float32)}
        return bare | {"embeddings.position_ids": np.arange(16)[None]}

    rewritten(folder, old)
    same(read(folder)[1], params)


def test_norms_named_as_tensorflow_did_load(tmp_path):
    params = drawn(bert())
    write(bert(), params, tmp_path)

    def old(arrays):
        return {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): array
            for name, array in arrays.items()
        }

    rewritten(tmp_path, old)
    assert any(
        name.endswith("gamma") for name in numpy_files.load_file(tmp_path / "model.safetensors")
    )
    same(read(tmp_path)[1], params)


@pytest.mark.parametrize(
    ("model", "copy", "original"),
    [
        (gpt1, "lm_head.weight", "transformer.tokens_embed.weight"),
        (gpt2, "lm_head.weight", "transformer.wte.weight"),
        (bert, "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        (bert, "cls.predictions.decoder.bias", "cls.predictions.bias"),
    ],
)
def test_a_tied_array_may_be_there_twice_but_not_two_ways(tmp_path, model, copy, original):
    params = drawn(model())
    write(model(), params, tmp_path)
    rewritten(tmp_path, lambda arrays: arrays | {copy: arrays[original].copy()})
    same(read(tmp_path)[1], params)
    rewritten(tmp_path, lambda arrays: arrays | {copy: arrays[original] + 1})
    with pytest.raises(CheckpointError, match=f"{copy} is not {original}; only tied"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("model", "missing", "misshapen"),
    [
        (gpt1, "transformer.positions_embed.weight", "transformer.h.1.ln_2.bias"),
        (gpt2, "transformer.wpe.weight", "transformer.ln_f.bias"),
        (bert, "bert.encoder.layer.1.attention.self.key.weight", "bert.pooler.dense.bias"),
    ],
)
def test_all_wrong_keys_are_told_at_once(tmp_path, model, missing, misshapen):
    write(model(), drawn(model()), tmp_path)

    def spoil(arrays):
        arrays = {name: array for name, array in arrays.items() if name != missing}
        return arrays | {misshapen: np.zeros(3, np.float32), "cls.more": np.zeros(1, np.float32)}

    rewritten(tmp_path, spoil)
    with pytest.raises(CheckpointError) as error:
        read(tmp_path)
    for part in (f"missing {missing}", f"{misshapen} is (3,), not (32,)", "cls.more"):
        assert part in str(error.value)


def test_arrays_that_are_no_weights_are_told_all_at_once(tmp_path):
    write(gpt2(), drawn(gpt2()), tmp_path)
    whole, half, large = "wte.weight", "wpe.weight", "ln_f.bias"

    def spoil(arrays):
        arrays = {name.removeprefix("transformer."): array for name, array in arrays.items()}
        arrays[half] = arrays[half].astype(np.float16) + np.float16(np.nan)
        arrays[large] = arrays[large].astype(np.float64) + 1e300  # more than float32 has
        return arrays | {whole: arrays[whole].astype(np.int32)}

    rewritten(tmp_path, spoil)
    with pytest.raises(CheckpointError) as error:
        read(tmp_path)
    for part in (f"{whole} is int32, not floating", f"{half} is not all", f"{large} is not all"):
        assert part in str(error.value)


def test_weights_of_half_precision_are_read(tmp_path):
    write(gpt2(), drawn(gpt2()), tmp_path)
    rewritten(tmp_path, lambda arrays: {n: a.astype(jnp.bfloat16) for n, a in arrays.items()})
    same(read(tmp_path)[1], jax.tree.map(lambda x: x.astype(jnp.bfloat16), drawn(gpt2())))


def test_an_index_of_weights_names_no_file_outside_its_folder(exported):
    folder = exported[2]
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    for name, fits in (("model-1.safetensors", True), ("../hf/model-1.safetensors", False)):
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"x": name}})
        )
        if fits:
            read(folder)
        else:
            with pytest.raises(CheckpointError, match="not an index of weights"):
                read(folder)


@pytest.mark.parametrize(
    ("kind", "kept", "absent", "told"),
    [
        ("BertForMaskedLM", ("bert.e", "cls.predictions"), ["pooler", "next"],
         "no pooler, no head of the next sentence: drawn anew"),
        ("BertModel", ("bert.",), ["transform", "transform_norm", "output_bias", "next"],
         "no head of masked words, no head of the next sentence: drawn anew"),
    ],
)  # fmt: skip
def test_a_bert_without_a_head_has_it_drawn_anew_and_says_so(
    tmp_path, capsys, kind, kept, absent, told
):
    config = bert(width=64)
    params = drawn(config)
    write(config, params, tmp_path)
    bare = len("bert.") if kind == "BertModel" else 0
    rewritten(
        tmp_path,
        lambda arrays: {n[bare:]: array for n, array in arrays.items() if n.startswith(kept)},
    )
    again, found = read(tmp_path)
    assert told in capsys.readouterr().out and again == config
    same(
        {n: found[n] for n in found if n not in absent},
        {n: params[n] for n in params if n not in absent},
    )
    assert found.keys() == params.keys()
    assert abs(found["next"]["kernel"].std() - 0.02) < 0.005 and not found["next"]["bias"].any()
    rewritten(tmp_path, lambda arrays: {n: a for n, a in arrays.items() if "layer.1" not in n})
    configured(tmp_path, architectures=[kind])
    with pytest.raises(CheckpointError, match=rf"missing bert\..*\(it holds a {kind}, not a BertF"):
        read(tmp_path)


def test_a_head_of_which_a_part_is_there_is_no_head_that_is_left_out(tmp_path):
    write(bert(), drawn(bert()), tmp_path)
    part = "bert.pooler.dense.bias"
    rewritten(tmp_path, lambda arrays: {n: array for n, array in arrays.items() if n != part})
    with pytest.raises(CheckpointError, match=f": missing {part}$"):
        read(tmp_path)


def test_a_head_that_is_another_s_is_told_with_the_class_that_has_it(tmp_path):
    write(gpt2(), drawn(gpt2()), tmp_path)
    rewritten(tmp_path, lambda arrays: arrays | {"score.weight": np.ones((2, 32), np.float32)})
    configured(tmp_path, architectures=["GPT2ForSequenceClassification"])
    with pytest.raises(CheckpointError, match=r"score\.weight \(it holds a GPT2ForSequenceClassif"):
        read(tmp_path)


@pytest.mark.parametrize(("model", "field"), [(gpt2, "activation_function"), (bert, "hidden_act")])
def test_gelu_by_each_of_its_names_is_read_and_written_by_the_first(tmp_path, model, field):
    config = model(activation="gelu_tanh")
    write(config, drawn(config), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())[field] == "gelu_new"
    configured(tmp_path, **{field: "gelu_pytorch_tanh"})
    assert read(tmp_path)[0] == config


def test_a_folder_that_is_not_there_is_told_with_what_it_must_hold(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"nope/config\.json: no such file; name a folder that"
    ):
        read(tmp_path / "nope")


def test_pickles_and_cut_files_are_refused(exported):
    folder = exported[2]
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match="model.safetensors"):
        read(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pytorch_model.bin is a pickle"):
        read(folder)


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": 5}'])
def test_an_index_of_weights_that_is_none_is_refused(exported, index):
    folder = exported[2]
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=r"index\.json: not an index of weights"):
        read(folder)


@pytest.mark.parametrize(
    ("model", "change", "message"),
    [
        (gpt2, {"scale_attn_weights": False}, "not scaled"),
        (bert, {"position_embedding_type": "relative_key"}, "positions are not absolute"),
        (gpt1, {"afn": "swish"}, "afn is 'swish'; what can be read: gelu, relu"),
        (gpt2, {"activation_function": "silu"}, "activation_function is 'silu'; what can be read"),
        (neo, {"activation_function": "silu"}, "activation_function is 'silu'; what can be read"),
        (bert, {"hidden_act": "silu"}, "hidden_act is 'silu'; what can be read: gelu, gelu_new"),
        (bert, {"hidden_size": 33}, "33 is not divisible"),
        (neo, {"num_layers": 3}, "attention_types are of 2 layers, not 3"),
        (neo, {"attention_types": [[["global", "sparse"], 1]]}, "'sparse'"),
        (
            bert,
            {"model_type": "t5"},
            "model_type is 't5'; what can be read: bert, openai-gpt, gpt2, gpt_neo",
        ),
    ],
)
def test_a_config_that_means_another_model_is_refused(tmp_path, model, change, message):
    write(model(), drawn(model()), tmp_path)
    configured(tmp_path, **change)
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (gpt2(final_norm=False), "gpt2 has no stack without a final norm"),
        (gpt2(norm="post"), "openai-gpt has no final norm"),
        (gpt2(pattern=("dense", "banded")), "gpt_neo has no bias of q, k and v; it cannot be"),
        (gpt2(pattern=("dense", "strided"), qkv_bias=False), r"gpt_neo has no pattern .'strided'"),
        (neo(pattern=(("dense", "banded"),)), "gpt_neo has no layer whose heads differ"),
        (gpt1(hidden=48), "openai-gpt has no hidden=48"),
        (gpt1(activation="gelu_erf"), "openai-gpt has no activation=gelu_erf"),
        (bert(causal=True), "bert has no left-to-right attention"),
    ],
)
def test_a_model_that_theirs_cannot_express_is_refused(tmp_path, config, message):
    with pytest.raises(ConfigError, match=message):
        write(config, {}, tmp_path)


def test_published_sizes_of_gpt1_and_bert_have_their_exact_counts():
    sizes = {
        116_534_784: gpt1(layers=12, width=768, heads=12, length=512, vocab=40_478),
        110_106_428: bert(layers=12, width=768, heads=12, hidden=3072, length=512, vocab=30_522),
    }
    for count, config in sizes.items():
        assert config.parameters() == count
