import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.core.errors import DataError
from lm.data.bert_features import BertFeatures, encode
from lm.data.features import Candidate, Counts, TaskRows, in_order, pack, padded
from lm.data.records import Choice, Classification, Regression
from tests.data.toy import Toy


def numbered(count):
    items = [[Candidate([9, *range(10 + i % 3)], 4, 0)] for i in range(count)]
    return pack(items, np.arange(count, dtype=np.int32), range(count), width=16, pad=None)


def test_segments_valid_and_padding_follow_from_the_ids():
    batch = pack([[Candidate([5, 6, 7], 2, 1)]], np.zeros(1), [4], width=6, pad=8, lm=True)
    assert batch.tokens.tolist() == [[[5, 6, 7, 8, 8, 8]]] and batch.tokens.dtype == np.int32
    assert batch.segments.tolist() == [[[0, 0, 1, 0, 0, 0]]]
    assert batch.valid.tolist() == [[[True] * 3 + [False] * 3]]
    assert batch.lm_mask.tolist() == [[[True] * 2 + [False] * 4]]
    assert (batch.read.tolist(), batch.example.tolist()) == ([[1]], [4])


def test_without_a_padding_id_zero_stands_where_nothing_is():
    batch = pack([[Candidate([5], 1, 0)]], np.zeros(1), [0], width=3, pad=None)
    assert batch.tokens.tolist() == [[[5, 0, 0]]] and batch.valid.sum() == 1
    assert not batch.lm_mask.any()


def test_a_missing_candidate_is_one_token_and_no_candidate():
    rows = [[Candidate([5, 6], 2, 1)] * 3, [Candidate([7, 8], 2, 1)]]
    batch = pack(rows, np.zeros(2), [0, 1], width=2, pad=0)
    assert batch.candidates.tolist() == [[True] * 3, [True, False, False]]
    assert batch.tokens[1].tolist() == [[7, 8], [7, 0], [7, 0]]
    assert batch.valid.any(-1).all() and (batch.read < batch.valid.sum(-1)).all()


@pytest.mark.parametrize(("longest", "width"), [(1, 8), (8, 8), (9, 16), (97, 100)])
def test_rows_are_as_wide_as_the_longest_up_to_a_multiple_of_8(longest, width):
    assert padded(longest, 100) == width


@given(st.integers(1, 60), st.integers(1, 17), st.integers(0, 2**31))
def test_an_epoch_has_each_row_once_however_it_is_cut_into_steps(count, batch, seed):
    rows = TaskRows(numbered(count), seed)
    steps = [rows(step * batch, batch) for step in range(-(-3 * count // batch))]
    seen = np.concatenate([step.example for step in steps])
    for epoch in range(3):
        here = seen[epoch * count : (epoch + 1) * count]
        assert sorted(here.tolist()) == list(range(count))
    assert np.concatenate([s.rows for s in steps]).tolist() == list(range(len(steps) * batch))
    assert all(step.mask.all() and (step.label == step.example).all() for step in steps)


def test_a_row_depends_on_seed_and_number_alone():
    rows, again = TaskRows(numbered(50), 3), TaskRows(numbered(50), 3)
    late = again(73, 9)  # with no step before it
    for one, other in zip(
        jax.tree.leaves(jax.tree.map(lambda leaf: leaf[3:12], rows(70, 20))),
        jax.tree.leaves(late),
        strict=True,
    ):
        assert np.array_equal(one, other)
    assert (rows(0, 50).example != rows(50, 50).example).any()
    assert (rows(0, 50).example != TaskRows(numbered(50), 4)(0, 50).example).any()


def test_a_row_tells_which_item_it_is_and_what_that_is_called():
    rows = TaskRows(numbered(50), 3, [f"rows.jsonl:{n}" for n in range(50)])
    told = rows.origins(73, 9)
    assert [one["item"] for one in told] == rows(73, 9).example.tolist()
    assert [one["row"] for one in told] == [*range(73, 82)]
    assert all(one["name"] == f"rows.jsonl:{one['item']}" for one in told)
    assert "name" not in TaskRows(numbered(50), 3).origins(0, 1)[0]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16])
def test_evaluation_goes_in_order_and_the_last_batch_is_padded_by_masked_rows(count):
    batches = list(in_order(numbered(count), 8))
    assert len(batches) == -(-count // 8) and all(len(b.mask) == 8 for b in batches)
    mask = np.concatenate([b.mask for b in batches])
    example = np.concatenate([b.example for b in batches])
    assert mask.tolist() == [i < count for i in range(len(mask))]
    assert example[:count].tolist() == list(range(count)) and (example[count:] == count - 1).all()
    assert all(b.valid.any(-1).all() for b in batches)


@pytest.mark.parametrize(
    "records",
    [
        [],
        [Classification(id="a", text="x"), Regression(id="b", text="x")],
        [Classification(id="a", text="x", label=-1)],
        [Regression(id="a", text="x", label=float("nan"))],
        [Choice(id="a", context="x", choices=())],
        [Choice(id="a", context="x", choices=("y", "z"), label=2)],
    ],
)
def test_items_that_are_wrong_are_named(records):
    with pytest.raises(DataError, match="item a|no items"):
        encode(records, Toy(), BertFeatures())


def test_an_item_without_a_label_is_encoded_all_the_same():
    def label(*records):
        return encode(records, Toy(), BertFeatures()).rows.label

    assert label(Classification(id="a", text="x")).tolist() == [-1]
    assert label(Choice(id="a", context="x", choices=("y",))).tolist() == [-1]
    numbers = label(Regression(id="a", text="x"), Regression(id="b", text="x", label=2.5))
    assert np.isnan(numbers[0]) and numbers[1] == 2.5 and numbers.dtype == np.float32


def test_counts_say_what_was_cut():
    told = str(Counts(items=3, rows=4, truncated=1, cut=20, empty=2, lost=5))
    assert all(number in told for number in "3 4 1 20 2 5".split())
    assert str(Counts(items=3, rows=4)) == "3 items in 4 rows"
