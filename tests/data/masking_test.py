import random
from dataclasses import replace

import numpy as np
import pytest

from lm.data.masking import (
    KIND,
    ORDER,
    TOKEN,
    Masks,
    draws,
    gathered,
    smallest,
    whole_words,
    word_starts,
)
from lm.data.permutation import mix
from tests.text.tokenizers import tokenizer

CLS, SEP, PAD, MASK, VOCAB = 1, 2, 0, 3, 1000
MASKS = Masks(mask_id=MASK, vocab_size=VOCAB, fraction=0.15, most=20, masked=0.8, kept=0.1)


def rows(count, length=128, seed=0, full=True):
    """Rows of one segment of ids from 10 on: tokens, words, used, keys."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(10, VOCAB, (count, length)).astype(np.int32)
    used = np.full(count, length) if full else rng.integers(3, length + 1, count)
    column = np.arange(length)
    tokens[:, 0] = CLS
    tokens[np.arange(count), used - 1] = SEP
    tokens[column >= used[:, None]] = PAD
    words = (column > 0) & (column < used[:, None] - 1)
    return tokens, words, used, mix(np.arange(count, dtype=np.uint64), seed)


def test_of_a_hundred_thousand_chosen_tokens_eight_tenths_are_masked_and_one_tenth_each_differs():
    tokens, words, used, keys = rows(6000)
    seen, positions, targets, mask = MASKS(tokens, words, used, keys)
    every, place = np.nonzero(mask)
    at = positions[every, place]
    now, before = seen[every, at], targets[every, place]
    count = len(now)
    assert count >= 100_000 and np.array_equal(before, tokens[every, at])
    hit = 1 / VOCAB  # a random item may be [MASK], or what stood there
    shares = {"mask": (now == MASK).mean(), "kept": (now == before).mean()}
    other = now[(now != MASK) & (now != before)]
    expected = {"mask": 0.8 + 0.1 * hit, "kept": 0.1 + 0.1 * hit}
    for name, share in shares.items():
        sigma = (expected[name] * (1 - expected[name]) / count) ** 0.5
        assert abs(share - expected[name]) < 3 * sigma, (name, share)
    assert abs(len(other) / count - 0.1 * (1 - 2 * hit)) < 3 * (0.09 / count) ** 0.5
    # random items are uniform over the whole vocabulary
    counts = np.bincount(other, minlength=VOCAB)
    chi2 = ((counts - len(other) / VOCAB) ** 2 / (len(other) / VOCAB)).sum()
    assert abs(chi2 - VOCAB) < 4 * (2 * VOCAB) ** 0.5
    # the control: other shares are told apart at this count
    sigma = (0.16 / count) ** 0.5
    assert abs(shares["mask"] - 0.78) > 3 * sigma


@pytest.mark.parametrize("whole", [False, True])
def test_cls_sep_and_padding_are_never_chosen_and_the_rest_stays(whole):
    tokens, words, used, keys = rows(2000, full=False)
    begins = np.random.default_rng(1).random(VOCAB) < 0.6
    masks = replace(MASKS, starts_word=begins if whole else None)
    seen, positions, targets, mask = masks(tokens, words, used, keys)
    every, place = np.nonzero(mask)
    chosen = np.zeros_like(words)
    chosen[every, positions[every, place]] = True
    assert not (chosen & ~words).any()
    assert np.array_equal(seen[~chosen], tokens[~chosen])
    assert not np.isin(targets[mask], [CLS, SEP, PAD]).any()
    assert not positions[~mask].any() and not targets[~mask].any()
    assert chosen.sum() == mask.sum()  # none twice
    assert all((np.diff(row[there]) > 0).all() for row, there in zip(positions, mask, strict=True))


def test_as_many_are_chosen_as_the_official_code_chooses():
    for length in range(3, 140):
        tokens, words, used, keys = rows(3, length)
        count = MASKS(tokens, words, used, keys)[3].sum(1)
        wanted = min(20, max(1, round(length * 0.15)), length - 2)
        assert (count == wanted).all(), length


def test_every_token_is_chosen_equally_often():
    tokens, words, used, keys = rows(20_000, 32)
    seen, positions, _, mask = MASKS(tokens, words, used, keys)
    counts = np.bincount(positions[mask], minlength=32)[1:31]
    assert mask.sum(1).tolist() == [5] * 20_000
    share = 5 / 30
    sigma = (20_000 * share * (1 - share)) ** 0.5
    assert np.abs(counts - 20_000 * share).max() < 4 * sigma


def test_masks_of_a_row_depend_on_its_key_and_on_no_other_row():
    tokens, words, used, keys = rows(40, full=False)
    together = MASKS(tokens, words, used, keys)
    some = np.array([7, 3, 30])
    apart = MASKS(tokens[some], words[some], used[some], keys[some])
    for one, other in zip(together, apart, strict=True):
        assert np.array_equal(one[some], other)
    fresh = MASKS(tokens, words, used, keys + np.uint64(1))
    long = used > 40
    assert (together[1][long] != fresh[1][long]).any(1).all()


def test_no_two_positions_nor_kinds_of_draw_share_a_number():
    key, positions = np.array([[7]], np.uint64), np.arange(512)
    numbers = np.concatenate([draws(key, positions, kind) for kind in (ORDER, KIND, TOKEN)])
    assert len(np.unique(numbers)) == 3 * 512


def test_masking_leaves_its_arguments_alone():
    given = rows(5)
    copies = [array.copy() for array in given]
    MASKS(*given)
    assert all(np.array_equal(one, other) for one, other in zip(given, copies, strict=True))


def slow_whole_words(order, words, begins, wanted):
    """Words in the order of their first pieces; one that does not fit is skipped."""
    groups = []
    for at in np.flatnonzero(words):
        if begins[at]:
            groups.append([at])
        else:
            groups[-1].append(at)
    chosen = np.zeros(len(words), bool)
    for group in sorted(groups, key=lambda group: order[group[0]]):
        if chosen.sum() + len(group) <= wanted:
            chosen[group] = True
    return chosen


def test_whole_words_equal_the_written_out_choice():
    rng = np.random.default_rng(0)
    tokens, words, used, _ = rows(300, 64, full=False)
    words[::3, 20] = False  # a [SEP] between A and B
    begins = rng.random(words.shape) < 0.5
    begins |= ~np.pad(words, ((0, 0), (1, 0)))[:, :-1]
    order = rng.integers(0, 2**63, words.shape).astype(np.uint64)
    wanted = rng.integers(1, 12, len(words))
    chosen = whole_words(order, words, begins, wanted)
    expected = [slow_whole_words(*row) for row in zip(order, words, begins, wanted, strict=True)]
    assert np.array_equal(chosen, expected)
    assert (chosen.sum(1) <= wanted).all()


def test_whole_words_are_masked_whole_and_single_pieces_are_not():
    tokens, words, used, keys = rows(500)
    begins = np.random.default_rng(1).random(VOCAB) < 0.5

    def torn(masks):
        """Words of which some pieces are chosen and some not."""
        _, positions, _, mask = masks(tokens, words, used, keys)
        chosen = np.zeros_like(words)
        every, place = np.nonzero(mask)
        chosen[every, positions[every, place]] = True
        inside = ~begins[tokens] & words & np.pad(words, ((0, 0), (1, 0)))[:, :-1]
        before = np.pad(chosen, ((0, 0), (1, 0)))[:, :-1]
        assert chosen.sum() > 0.9 * 500 * 19
        return int((inside & (chosen != before)).sum())

    assert torn(replace(MASKS, starts_word=begins)) == 0
    assert torn(MASKS) > 1000  # the control


def test_the_rest_of_a_word_that_a_row_or_its_second_text_begins_with_is_a_word():
    tokens = np.full((200, 6), 10, np.int32)  # a piece that begins no word
    tokens[:, [0, 3, 5]], tokens[:, 2] = (CLS, SEP, SEP), 11
    words = np.isin(tokens, (10, 11))
    masks = replace(MASKS, starts_word=np.arange(VOCAB) == 11)  # one of six tokens is wanted
    keys = mix(np.arange(200, dtype=np.uint64), 0)
    _, positions, _, mask = masks(tokens, words, np.full(200, 6), keys)
    assert mask.sum(1).tolist() == [1] * 200 and set(positions[mask].tolist()) == {1, 2, 4}


def test_a_row_whose_words_are_all_too_long_has_no_mask():
    words = np.array([[False, True, True, True, False]])
    begins = np.array([[False, True, False, False, False]])
    order = np.arange(5, dtype=np.uint64)[None]
    assert not whole_words(order, words, begins, np.array([2])).any()
    assert whole_words(order, words, begins, np.array([3])).sum() == 3


def test_the_smallest_are_chosen_among_words_only():
    order = np.array([[0, 9, 3, 7, 1]], np.uint64)
    words = np.array([[False, True, True, True, True]])
    assert smallest(order, words, np.array([2])).tolist() == [[False, False, True, False, True]]
    positions, mask = gathered(smallest(order, words, np.array([2])), 3)
    assert positions.tolist() == [[2, 4, 0]] and mask.tolist() == [[True, True, False]]


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece", "wordpiece"])
def test_words_begin_where_blanks_stand(kind):
    chosen = tokenizer(kind)
    begins = word_starts(chosen)
    rng = random.Random(0)
    words = "the quick brown fox jumps over lazy dog unbelievably intergalactic".split()
    for _ in range(20):
        some = rng.choices(words, k=6)
        ids = np.array(chosen.encode(" " + " ".join(some)))
        starts = np.flatnonzero(begins[ids])
        pieces = np.split(ids, starts[1:])
        assert starts[0] == 0
        assert [chosen.decode(part.tolist()).strip() for part in pieces] == some
    assert begins[list(chosen.specials.values())].all()
    assert not begins.all()
