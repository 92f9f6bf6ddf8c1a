"""The implicit reward: whose log-probabilities are summed, and what is taken off."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lm.data.comparisons import ComparisonsConfig
from lm.models import gpt
from lm.models.gpt import GptConfig, forward
from lm.rlhf.dpo import Dpo, Preference, summed_logp
from lm.rlhf.ranking import Accuracy, abstract_rankings
from lm.rlhf.source import Source
from lm.text.byte import ByteTokenizer
from tests.rlhf.runs import MODEL, OPTIM, write_rows

CONFIG = GptConfig(layers=1, width=16, heads=2, vocab=20, length=12, std=0.5)


def drawn(config):
    numbers = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: numbers.standard_normal(leaf.shape, np.float32),
        nn.unbox(jax.eval_shape(lambda key: gpt.init(config, key), jax.random.key(0))),
    )


def test_a_score_is_beta_times_what_the_tokens_of_an_answer_gain_on_the_reference():
    numbers, params = np.random.default_rng(1), drawn(CONFIG)
    shapes = abstract_rankings(2, 12, answers=2)
    batch = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes).replace(
        tokens=numbers.integers(0, 20, (2, 2, 12), np.int32),
        start=np.array([[3, 3], [5, 5]], np.int32),
        read=np.array([[3, 9], [11, 7]], np.int32),  # an answer of one token, and to the row's end
        reference=numbers.standard_normal((2, 2)).astype(np.float32),
    )
    found = jax.jit(Preference(CONFIG, beta=0.3).scores)(params, batch)
    logits, _ = jax.jit(forward, static_argnums=0)(CONFIG, params, batch.tokens.reshape(4, 12))
    logp = np.asarray(jax.nn.log_softmax(logits)).reshape(2, 2, 12, 20)
    for row, answer in np.ndindex(2, 2):
        ids, (first, last) = batch.tokens[row, answer], (
            batch.start[row, answer], batch.read[row, answer]
        )  # fmt: skip
        said = sum(logp[row, answer, at - 1, ids[at]] for at in range(first, last + 1))
        expected = 0.3 * (said - batch.reference[row, answer])
        np.testing.assert_allclose(found[row, answer], expected, rtol=1e-4)


def test_what_is_learned_and_what_is_held_out_begin_at_a_loss_of_log_2(tmp_path, one_device):
    rows = [
        {"prompt": f"q{n}:", "answers": ["a" * (1 + n), f"b{n}", "c"][: 2 + n % 2],
         "ranks": [0, 1, 1][: 2 + n % 2], "labeler": "ann"} for n in range(8)
    ]  # fmt: skip
    data = ComparisonsConfig(train=write_rows(tmp_path / "rows.jsonl", rows), valid_fraction=0.25)
    config = Dpo(model=MODEL, data=data, optim=OPTIM, batch=4, length=16, seed=3)
    source = Source(MODEL, ByteTokenizer(), None, drawn(MODEL), "")
    material = config.material(ByteTokenizer(), source, one_device)
    objective, logp = config.objective(), jax.jit(summed_logp, static_argnums=0)
    sums = jax.jit(objective.sums)
    for some in (material.rows(0, 4), material.rows(4, 4), material.parts["valid"].rows):
        expected = logp(MODEL, source.params, some)
        np.testing.assert_allclose(some.reference, np.where(some.mask, expected, 0), rtol=1e-4)
        loss = sums(source.params, some)["prompts"] / objective.counts(some)["prompts"]
        assert loss == pytest.approx(np.log(2), rel=1e-4)
    assert not material.parts["train"].rows.mask.all()  # the control: some have an answer less


def test_the_implicit_rewards_of_the_best_and_worst_answers_are_told_beside_their_margin(
    one_device,
):
    class Given(Preference):
        def scores(self, params, batch, keys=None):
            return jnp.asarray(params)

    # of the third no pair; of the fourth the best answer is empty, and its pairs are left out
    ranks = np.array([[1, 0, 2], [0, 1, 1], [0, 0, 9], [0, 1, 2]], np.int32)
    scores = np.array(
        [[5.0, -1.0, -3.0], [-2.0, -4.0, -6.0], [7.0, 7.0, np.nan], [50.0, 1.0, 0.0]], np.float32
    )
    faults = np.zeros((4, 3, 3), bool)
    faults[3, 0] = True
    shapes = abstract_rankings(4, 1, answers=3)
    rows = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes).replace(
        ranks=ranks, mask=ranks < 9, faults=faults
    )
    valid = SimpleNamespace(rows=rows, items=[SimpleNamespace(prompt=name) for name in "abcd"])
    material = SimpleNamespace(parts={"train": None, "valid": valid})
    found = Accuracy(Given(CONFIG), material, one_device, 4)(0, scores)
    assert found["valid_rewards/chosen"] == pytest.approx((-1 - 2 + 1) / 3)
    assert found["valid_rewards/rejected"] == pytest.approx((-3 - 5 + 0) / 3)
    assert found["valid_rewards/margins"] == pytest.approx((2 + 3 + 1) / 3)
