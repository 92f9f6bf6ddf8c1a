"""What GPT-1 has and GPT-2 has not: post-norm, a dropped table, heads over candidates."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import gpt1 as published
from lm.core import tree
from lm.core.mesh import MeshConfig, make_mesh
from lm.data.features import TaskBatch
from lm.data.gpt1_features import Gpt1Features, Specials, encode
from lm.data.records import Choice, Classification
from lm.data.tasks import TaskConfig
from lm.losses.language import token_losses
from lm.models.gpt import abstract_params, fold_keys
from lm.models.heads import TaskModel
from lm.nn.dropout import DropoutKeys, table_dropout
from lm.train.finetune import SPECIALS
from tests.data.toy import Toy
from tests.models.pretrained.models import drawn, gpt1

IDS = np.random.default_rng(0).integers(0, 50, (3, 10))
BACKBONE = gpt1(vocab=50 + SPECIALS, length=32)


@functools.cache
def program(config, method):
    return jax.jit(lambda p, *xs: config.module().apply({"params": p}, *xs, method=method)[0])


def logits_of(config, params, ids, keys=None):
    return np.asarray(program(config, "__call__")(params, ids, None, keys))


def hidden_of(config, params, ids):
    return np.asarray(program(config, "hidden")(params, ids))


# ------------------------------------------------------------------ sizes


def test_the_published_model_has_its_exact_count_with_specials_and_with_a_choice_head():
    config = published.base().model
    assert tree.count(abstract_params(config)) == config.parameters() == 116_534_784
    grown = replace(config, vocab=config.vocab + SPECIALS)
    assert tree.count(abstract_params(grown)) == grown.parameters() == 116_537_088
    story_cloze = replace(published.finetune(), data=TaskConfig(name="swag"), model=grown)
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    assert tree.count(story_cloze.abstract(mesh).params) == 116_537_857


def test_the_first_transformers_size_is_that_of_its_paper():
    config = published.original().model
    sizes = (config.layers, config.width, config.heads, config.hidden_width)
    assert sizes == (6, 512, 8, 2048)
    assert config.parameters() == (40_478 + 512) * 512 + 6 * (12 * 512**2 + 13 * 512)


# ------------------------------------------------------------- the decoder


def test_each_sum_is_normalised_and_nothing_after_the_last_block():
    config = gpt1()
    assert "norm" not in abstract_params(config) and "norm" in abstract_params(
        gpt1(final_norm=True)
    )
    params = drawn(config)
    norm = params["stack"]["blocks"]["norm2"]
    hidden = hidden_of(config, params, IDS)
    back = (hidden - norm["bias"][-1]) / norm["scale"][-1]  # what the last norm of all made
    np.testing.assert_allclose(back.mean(-1), 0, atol=1e-4)
    np.testing.assert_allclose(back.std(-1), 1, atol=1e-3)
    before = replace(config, norm="pre")
    pre = (hidden_of(before, params, IDS) - norm["bias"][-1]) / norm["scale"][-1]
    assert np.abs(pre.std(-1) - 1).max() > 0.1


def keys_of(rows, seed=7):
    return DropoutKeys(jax.random.key(seed), jnp.asarray(rows))


def test_input_and_output_read_the_same_dropped_table():
    config = gpt1(embedding_dropout=0.4)
    params, keys = drawn(config), keys_of([0, 1, 2])
    found = logits_of(config, params, IDS, keys)
    word_keys, place_keys, _ = fold_keys(keys)

    def dropped(name, keys):
        table = jnp.asarray(params[name]["table"])
        return {"table": np.asarray(jax.jit(table_dropout, static_argnums=1)(table, 0.4, keys))}

    words, places = dropped("tokens", word_keys), dropped("positions", place_keys)
    hidden = hidden_of(config, params | {"tokens": words, "positions": places}, IDS)
    np.testing.assert_allclose(found, hidden @ words["table"].T, atol=1e-5)
    assert np.mean(np.asarray(words["table"]) == 0) == pytest.approx(0.4, abs=0.05)
    # and the loss in training, which has no scores of its own
    targets = (IDS + 1) % 50
    in_training = jax.jit(functools.partial(config.module().apply, method="losses"))
    losses = in_training({"params": params}, IDS, targets, keys)
    np.testing.assert_allclose(losses, token_losses(found, targets), atol=1e-5)
    # with the whole table at either end it would show
    assert np.abs(hidden @ params["tokens"]["table"].T - found).max() > 0.1
    whole = hidden_of(config, params, IDS)
    assert np.abs(whole @ words["table"].T - found).max() > 0.1


def test_one_mask_of_the_table_serves_the_whole_batch():
    same = np.repeat(IDS[:1], 3, axis=0)
    config = gpt1(embedding_dropout=0.4)
    params = drawn(config)
    found = logits_of(config, params, same, keys_of([0, 1, 2]))
    np.testing.assert_allclose(found[1:], found[[0, 0]], atol=1e-6)
    by_row = logits_of(replace(config, dropped="sum"), params, same, keys_of([0, 1, 2]))
    assert np.abs(by_row[1] - by_row[0]).max() > 0.1  # the dropout of GPT-2 is each row's own


# ------------------------------------------------------------------- heads


@functools.cache
def heads(outputs, output, head_dropout=0.0):
    """The scores of a head of a model, as a function of rows and keys."""
    model = TaskModel(BACKBONE, outputs, output, head_dropout)
    kernel = np.random.default_rng(3).standard_normal((32, outputs)).astype(np.float32)
    params = {"model": drawn(BACKBONE), "head": {"kernel": kernel, "bias": np.ones(outputs, "f")}}
    apply = jax.jit(lambda batch, keys: model.apply({"params": params}, batch, keys)[0])
    return lambda batch, keys=None: np.asarray(apply(batch, keys))


TOKENIZER = Toy()


def rows_of(*records, **config) -> TaskBatch:
    features = Gpt1Features(length=32, **config)
    rows = encode(records, TOKENIZER, features, Specials.after(50)).rows
    assert len(TOKENIZER.pieces) <= 50  # within the model's vocabulary
    return rows


def similarity():
    """Rows of a pair of sentences and of the same two the other way round."""
    first, second = "the cat sat on a mat", "a dog ran"
    pair = Classification(id="a", text=first, pair=second, label=0)
    turned = Classification(id="b", text=second, pair=first, label=0)
    return rows_of(pair, turned, both_orders=True)


def test_swapping_the_two_sentences_of_a_similarity_changes_no_score():
    score, rows = heads(3, "classes"), similarity()
    both = score(rows)
    np.testing.assert_allclose(both[0], both[1], atol=1e-5)
    # in one order the two would be told apart
    first, pair = rows.tokens[:, [0, 0]], rows.read[:, [0, 0]]
    one = score(rows.replace(tokens=first, read=pair))
    assert np.abs(one[0] - one[1]).max() > 0.1


def test_the_head_reads_the_sum_of_the_last_hidden_states():
    rows = similarity()
    hidden = hidden_of(BACKBONE, drawn(BACKBONE), rows.tokens[0])
    last = rows.valid[0].sum(-1) - 1
    np.testing.assert_array_equal(rows.read[0], last)
    kernel = np.random.default_rng(3).standard_normal((32, 3))
    summed = hidden[0, last[0]] + hidden[1, last[1]]
    np.testing.assert_allclose(heads(3, "classes")(rows)[0], summed @ kernel + 1, atol=1e-4)


def stories(*endings):
    choice = Choice(id="a", context="the cat sat", question="then?", choices=endings, label=0)
    other = Choice(id="b", context="it ran", choices=("on", "off"), label=1)
    return rows_of(choice, other)


def test_candidates_in_another_order_have_their_scores_in_that_order():
    endings, order = ("he slept", "a mat ran off", "dogs"), [2, 0, 1]
    score = heads(1, "candidates")
    straight, turned = score(stories(*endings)), score(stories(*(endings[i] for i in order)))
    assert straight.shape == (2, 3) and len(set(straight[0].round(3))) == 3
    np.testing.assert_allclose(turned[0], straight[0, order], atol=1e-5)
    np.testing.assert_allclose(turned[1, :2], straight[1, :2], atol=1e-5)


def test_the_candidates_of_a_row_share_one_dropout_mask_and_rows_do_not():
    rows = stories("he slept", "he slept", "he slept")
    same = jax.tree.map(lambda leaf: leaf[[0, 0]], rows)
    dropped = heads(1, "candidates", head_dropout=0.5)(same, keys_of([0, 1]))
    np.testing.assert_allclose(dropped, dropped[:, [2, 0, 1]], atol=1e-5)
    assert abs(dropped[0, 0] - dropped[1, 0]) > 0.01
    assert abs(dropped[0, 0] - heads(1, "candidates")(same)[0, 0]) > 0.01
