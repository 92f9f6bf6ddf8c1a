from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.core.errors import ConfigError, DataError
from lm.data.batches import BatchRamp, BatchSizes, Windows, check_divisible, gather
from lm.data.permutation import permute
from lm.data.token_file import TokenFile


def windows(count=1000, length=8, seed=0):
    return Windows(TokenFile(Path("t"), {}, np.arange(count, dtype=np.uint16)), length, seed)


@pytest.mark.parametrize("size", [*range(1, 70), 127, 128, 129, 255, 256, 257, 1000, 4097, 20_000])
def test_permute_is_a_bijection(size):
    index = np.arange(size, dtype=np.uint64)
    for seed, epoch in ((0, 0), (0, 1), (1337, 5), (2**31, 3)):
        assert np.array_equal(np.sort(permute(index, size, seed, epoch)), index)
    assert np.array_equal(index, np.arange(size))  # the argument is left alone


@given(st.integers(1, 5000), st.integers(-(2**40), 2**40), st.integers(0, 10**6))
def test_permute_is_a_bijection_for_any_seed_and_epoch(size, seed, epoch):
    out = permute(np.arange(size, dtype=np.uint64), size, seed, epoch)
    assert len(np.unique(out)) == size and int(out.max()) == size - 1


def test_permutations_differ_by_seed_and_epoch_and_leave_few_in_place():
    index = np.arange(10_000, dtype=np.uint64)
    drawn = [permute(index, 10_000, *key) for key in ((0, 0), (0, 1), (1, 0), (1, 1))]
    for i, one in enumerate(drawn):
        assert (one == index).sum() < 12
        assert all((one == other).sum() < 12 for other in drawn[:i])
    neighbours = np.abs(np.diff(drawn[0].astype(np.int64)))
    assert (neighbours == 1).sum() < 12
    assert abs(np.corrcoef(index, drawn[0])[0, 1]) < 0.05


@pytest.mark.parametrize(("count", "length"), [(1000, 8), (16, 8), (23, 8), (97, 3), (50, 1)])
def test_an_epoch_shows_every_window_once(count, length):
    data = windows(count, length)
    offsets = set()
    for epoch in range(4):
        batch = data(epoch * data.count, data.count)
        starts = np.sort(batch.tokens[:, 0])
        offset = int(starts[0])
        offsets.add(offset)
        assert 0 <= offset < length
        assert starts.tolist() == [offset + length * i for i in range(data.count)]
    assert len(offsets) > 1 or length == 1


def test_each_epoch_shows_the_windows_in_an_order_of_its_own():
    data = windows(10_000)
    rows = np.arange(4 * data.count, dtype=np.uint64)
    orders = (data.starts(rows) // data.length).reshape(4, -1)
    for i, one in enumerate(orders):
        assert all((one == other).sum() < 12 for other in orders[:i])


def test_targets_are_the_tokens_that_follow():
    batch = windows()(5, 7)
    assert np.array_equal(batch.targets[:, :-1], batch.tokens[:, 1:])
    assert np.array_equal(batch.targets, batch.tokens + 1)
    assert batch.mask.all() and batch.mask.shape == batch.tokens.shape == (7, 8)
    assert batch.tokens.dtype == batch.targets.dtype == np.int32
    assert batch.rows.tolist() == list(range(5, 12)) and batch.rows.dtype == np.uint32


@given(st.integers(0, 2000), st.integers(1, 8), st.integers(1, 6), st.integers(0, 99))
def test_rows_do_not_depend_on_how_many_processes_read_them(first, processes, each, seed):
    data = windows(500, 8, seed)
    whole = data(first, processes * each)
    slices = [data(first + p * each, each) for p in range(processes)]
    for name in ("tokens", "targets", "rows"):
        together = np.concatenate([getattr(part, name) for part in slices])
        assert np.array_equal(together, getattr(whole, name))


def test_another_seed_is_another_order():
    assert not np.array_equal(windows(seed=0)(0, 20).tokens, windows(seed=1)(0, 20).tokens)
    assert np.array_equal(windows(seed=1)(0, 20).tokens, windows(seed=1)(0, 20).tokens)


def test_a_file_shorter_than_a_row_and_its_offset_is_refused():
    assert windows(16, 8).count == 1
    with pytest.raises(
        DataError, match="t: 15 tokens to train on are too few for one row of 8 at every offset.*"
        "need at least 16: give more text, or set a smaller model.length",
    ):  # fmt: skip
        windows(15, 8)


def test_a_file_that_is_too_short_is_named_by_its_text_and_by_what_it_is_for():
    file = TokenFile(Path("cache/09b4/valid"), {"source": "my.txt"}, np.zeros(9, np.uint16))
    with pytest.raises(DataError, match=r"^my\.txt: 9 tokens held out are .* data\.valid or"):
        Windows(file, 8, 0, held_out=True)


@given(st.lists(st.integers(0, 40), max_size=9), st.integers(1, 9))
def test_gather_cuts_each_start(starts, length):
    tokens = np.arange(60, dtype=np.uint16) * 3
    out = gather(tokens, np.array(starts, np.int64), length)
    assert out.shape == (len(starts), length) and out.dtype == np.int32
    assert all(
        np.array_equal(row, tokens[s : s + length]) for row, s in zip(out, starts, strict=True)
    )


RAMPS = st.builds(
    lambda start, more, sizes, length, tokens: (start, start + more, sizes, length, tokens),
    st.integers(1, 640), st.integers(1, 2000), st.integers(1, 8),
    st.sampled_from([1, 7, 64, 1024]), st.integers(1, 200_000),
)  # fmt: skip


@given(RAMPS)
def test_a_ramp_grows_in_at_most_eight_multiples_of_its_first_and_its_rows_add_up(drawn):
    start, full, most, length, tokens = drawn
    sizes = BatchSizes(full, length, BatchRamp(start=start, tokens=tokens, sizes=most))
    stages = [size for _, _, size in sizes.stages]
    assert len(stages) <= most and stages == sorted(set(stages))
    assert all(size % start == 0 for size in stages[:-1])
    assert stages[-1] == full and stages[0] == (start if most > 1 else full)
    last = sizes.stages[-1][0]
    for step in {0, 1, 2, *(s + d for s, _, _ in sizes.stages for d in (-1, 0, 1) if s + d >= 0)}:
        assert sizes.rows_before(step + 1) == sizes.rows_before(step) + sizes.rows(step)
        assert sizes.tokens_before(step) == sizes.rows_before(step) * length
    assert sizes.rows_before(0) == 0 and sizes.rows(last) == full
    if len(stages) > 1:  # full once the tokens are seen, and not a whole step later
        assert sizes.tokens_before(last) >= tokens
        assert last == 0 or sizes.tokens_before(last - 1) < tokens


def test_the_fewest_steps_that_have_seen_some_tokens_are_told():
    sizes = BatchSizes(8, 4, BatchRamp(start=2, tokens=70, sizes=3))
    for tokens in range(1, 300):
        steps = sizes.steps_to(tokens)
        assert sizes.tokens_before(steps - 1) < tokens <= sizes.tokens_before(steps)


def test_without_a_ramp_every_step_is_the_full_batch():
    sizes = BatchSizes(32, 8)
    assert [sizes.rows(step) for step in (0, 1, 10**6)] == [32] * 3
    assert sizes.rows_before(10**9) == 32 * 10**9


def test_rows_that_fill_a_batch_up_do_not_count():
    batch = windows()(20, 6)
    for rows, counting in ((4, 4), (6, 6), (9, 6), (0, 0), (-8, 0)):
        kept = batch.counting(rows)
        assert kept.mask[:counting].all() and not kept.mask[counting:].any()
        assert np.array_equal(kept.tokens, batch.tokens)


def test_sizes_that_do_not_divide_or_grow_are_refused():
    with pytest.raises(ConfigError, match="batch 30 is not divisible by 8 .* nearest: 24 or 32"):
        check_divisible("batch", 30, 8)
    with pytest.raises(ConfigError, match="batch 3 is not divisible by 8 .* nearest: 8"):
        check_divisible("batch", 3, 8)
    with pytest.raises(ConfigError, match="ramp.start 32 must be below batch 32"):
        BatchSizes(32, 8, BatchRamp(start=32, tokens=10))
    with pytest.raises(ConfigError, match="sizes must be at most 8"):
        BatchRamp(start=1, tokens=1, sizes=9)
