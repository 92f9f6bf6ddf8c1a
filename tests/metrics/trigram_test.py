from collections import Counter
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.core.errors import DataError
from lm.metrics import trigram
from lm.metrics.trigram import WittenBell

TEXT = [b"the cat sat on the mat. ", b"a", b"", b"the dog sat on the log", b"\x00\xff\xff\x00\xff"]
OTHER = [b"the cog sat", b"zebra \x80", b"th", b"", b"q"]


def written_out(fitted: list[bytes], context: bytes, byte: int) -> float:
    """The formula of the docstring, one count at a time."""
    followers = Counter(
        chunk[i]
        for chunk in fitted
        for i in range(len(context), len(chunk))
        if chunk[i - len(context) : i] == context
    )
    lower = written_out(fitted, context[1:], byte) if context else 1 / 256
    total, kinds = sum(followers.values()), len(followers)
    return (followers[byte] + kinds * lower) / (total + kinds) if total else lower


def written_out_bits(fitted: list[bytes], scored: list[bytes]) -> float:
    bits = [
        -log2(written_out(fitted, chunk[max(0, i - 2) : i], chunk[i]))
        for chunk in scored
        for i in range(len(chunk))
    ]
    return sum(bits) / len(bits)


@pytest.mark.parametrize("scored", [TEXT, OTHER])
def test_bits_per_byte_equals_the_written_out_formula(scored):
    got = WittenBell().fit(TEXT).bits_per_byte(scored)
    assert got == pytest.approx(written_out_bits(TEXT, scored), rel=1e-12)


chunks = st.lists(st.binary(max_size=12), max_size=6)


@settings(max_examples=8)
@given(fitted=chunks, scored=chunks.filter(any))
def test_any_bytes_score_as_the_written_out_formula(fitted, scored):
    got = WittenBell().fit(fitted).bits_per_byte(scored)
    assert got == pytest.approx(written_out_bits(fitted, scored), rel=1e-12)


@pytest.mark.parametrize("context", [b"", b"t", b"\x01", b"th", b"zz", b"zt", b"long context th"])
def test_probabilities_sum_to_one_over_all_bytes(context):
    probabilities = WittenBell().fit(TEXT).probabilities(context)
    assert probabilities.shape == (256,)
    assert (probabilities > 0).all()
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)


def test_a_model_that_saw_nothing_is_uniform():
    assert WittenBell().bits_per_byte([b"anything"]) == 8


def test_context_does_not_cross_from_chunk_to_chunk():
    model = WittenBell().fit([b"ab"] * 50)
    first = -log2(model.probabilities(b"")[ord("b")])
    assert model.bits_per_byte([b"a", b"b"]) > model.bits_per_byte([b"ab"])
    assert model.bits_per_byte([b"b"]) == pytest.approx(first)
    assert model.trigrams.sum() == 0


def test_joining_chunks_in_smaller_blocks_changes_nothing(monkeypatch):
    text = [bytes(np.random.default_rng(i).integers(97, 103, 5 + 7 * i)) for i in range(30)]
    whole = WittenBell().fit(text).bits_per_byte(OTHER)
    monkeypatch.setattr(trigram, "BLOCK_BYTES", 16)
    assert WittenBell().fit(text).bits_per_byte(OTHER) == pytest.approx(whole, rel=1e-12)


def test_fitting_twice_adds_the_counts():
    together = WittenBell().fit(TEXT + OTHER)
    apart = WittenBell().fit(TEXT).fit(OTHER)
    assert (together.trigrams == apart.trigrams).all()
    assert together.bits_per_byte(TEXT) == apart.bits_per_byte(TEXT)


def test_nothing_to_score_is_refused():
    with pytest.raises(DataError, match="zero bytes"):
        WittenBell().fit(TEXT).bits_per_byte([b"", b""])
