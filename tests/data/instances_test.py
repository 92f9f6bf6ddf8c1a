"""Rows of BERT's pre-training: what stands in them, in which order, on which process."""

import random

import numpy as np
import pytest

from lm.core.errors import ConfigError
from lm.data.instances import Instances
from lm.data.pairs import InstancesConfig
from lm.data.sentences import SentenceFile, SentencesConfig, write_sentences
from lm.data.sources import Document
from lm.text.byte import ByteTokenizer

LENGTH = 64


@pytest.fixture(scope="module")
def prose(tmp_path_factory):
    rng = random.Random(1)
    words = ["alpha", "be", "gamma", "delta", "e", "zeta", "eta", "theta"]
    documents = [
        "\n".join(
            " ".join(rng.choices(words, k=rng.randint(1, 5))) + "."
            for _ in range(rng.randint(1, 30))
        )
        for _ in range(30)
    ]
    folder = tmp_path_factory.mktemp("prose") / "s"
    write_sentences(
        iter([Document("a", "\n\n".join(documents))]),
        SentencesConfig(form="lines"),
        ByteTokenizer(),
        folder,
    )
    tokenizer = ByteTokenizer()
    return SentenceFile.open(
        folder, vocab_size=tokenizer.vocab_size, tokenizer_digest=tokenizer.digest
    )


def instances(prose, seed=0, length=LENGTH, **config):
    return Instances(prose, length, seed, InstancesConfig(**config), ByteTokenizer())


def restored(batch):
    """The tokens before masking."""
    tokens = batch.tokens.copy()
    rows, places = np.nonzero(batch.mask)
    tokens[rows, batch.positions[rows, places]] = batch.targets[rows, places]
    return tokens


def test_a_row_tells_where_its_texts_are_from(prose):
    data, special = instances(prose), ByteTokenizer().specials
    origins, file = data.origins(10, 40), prose.file
    for tokens, follows, one in zip(
        restored(data(10, 40)), data(10, 40).next, origins, strict=True
    ):
        first, last = np.flatnonzero(tokens == special["sep"])
        texts = [file.tokens[slice(*text["tokens"])].tolist() for text in one["texts"]]
        assert texts == [tokens[1:first].tolist(), tokens[first + 1 : last].tolist()]
        (a,), (b,) = ({*text["documents"]} for text in one["texts"])  # neither leaves its document
        assert (a == b) == (not follows)
    assert [one["row"] for one in origins] == [*range(10, 50)]


def test_a_row_is_cls_a_sep_b_sep_and_padding(prose):
    data, special = instances(prose), ByteTokenizer().specials
    batch = data(0, 50)
    spans = data.passes[0]
    drawn = {span.tobytes() for span in spans}
    for tokens, segments, valid, torn in zip(
        restored(batch), batch.segments, batch.valid, batch.next, strict=True
    ):
        first, last = np.flatnonzero(tokens == special["sep"])
        assert tokens[0] == special["cls"] and (tokens[last + 1 :] == special["pad"]).all()
        assert valid.tolist() == [True] * (last + 1) + [False] * (LENGTH - last - 1)
        assert segments.tolist() == (
            [0] * (first + 1) + [1] * (last - first) + [0] * (LENGTH - last - 1)
        )
        flat = prose.file.tokens
        a, b = tokens[1:first], tokens[first + 1 : last]
        matching = [
            span
            for span in spans
            if (span["a_length"], span["b_length"], span["random"]) == (len(a), len(b), torn)
            and np.array_equal(flat[span["a"] : span["a"] + len(a)], a)
            and np.array_equal(flat[span["b"] : span["b"] + len(b)], b)
        ]
        assert matching and all(span.tobytes() in drawn for span in matching)
    assert not np.isin(batch.targets[batch.mask], [*special.values()]).any()  # words alone
    assert batch.next_mask.all() and set(batch.next.tolist()) == {0, 1}
    for name in ("tokens", "segments", "positions", "targets", "next"):
        assert getattr(batch, name).dtype == np.int32, name
    assert batch.rows.tolist() == list(range(50)) and batch.rows.dtype == np.uint32


def test_without_pairs_a_row_is_one_segment_that_says_nothing_of_the_next(prose):
    data, special = instances(prose, pairs=False), ByteTokenizer().specials
    batch = data(0, 40)
    assert ((restored(batch) == special["sep"]).sum(1) == 1).all()
    assert not batch.segments.any() and not batch.next_mask.any() and not batch.next.any()
    assert (batch.valid.sum(1) <= LENGTH).all() and batch.valid.all(1).any()


def test_left_to_right_has_the_same_rows_and_the_token_after_each(prose):
    masked, plain = instances(prose)(3, 20), instances(prose, objective="next")(3, 20)
    assert np.array_equal(restored(masked), plain.tokens)
    assert np.array_equal(masked.valid, plain.valid) and np.array_equal(masked.next, plain.next)
    assert np.array_equal(plain.positions, np.tile(np.arange(LENGTH), (20, 1)))
    assert np.array_equal(
        plain.targets[:, :-1][plain.mask[:, :-1]], plain.tokens[:, 1:][plain.mask[:, :-1]]
    )
    assert np.array_equal(plain.mask.sum(1), plain.valid.sum(1) - 1)
    assert not (masked.tokens == plain.tokens).all()  # the control: masks do hide something


def same(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in one.__dataclass_fields__
    )


def test_rows_do_not_depend_on_how_many_processes_read_them(prose):
    data = instances(prose, duplication=2)
    first = len(data.passes[0]) - 7  # across the end of a pass
    whole = data(first, 24)
    for processes in (2, 3, 4, 24):
        fresh = instances(prose, duplication=2)
        each = 24 // processes
        parts = [fresh(first + p * each, each) for p in reversed(range(processes))][::-1]
        for name in whole.__dataclass_fields__:
            together = np.concatenate([getattr(part, name) for part in parts])
            assert np.array_equal(together, getattr(whole, name)), name


def test_a_pass_shows_every_instance_once_and_masks_are_fresh_until_it_comes_again(prose):
    data = instances(prose, duplication=2, short_probability=0.0, pairs=False)
    counts = [data.count]
    data(data.count, 1)
    counts.append(len(data.passes[1]))
    once = sum(counts)
    shown = [data(0, counts[0]), data(counts[0], counts[1]), data(once, counts[0])]

    def rows(batch, masked):
        tokens = batch.tokens if masked else restored(batch)
        return sorted(map(bytes, tokens))

    in_order = np.concatenate([restored(batch) for batch in data.in_order(16)])[: counts[0]]
    assert rows(shown[0], False) == sorted(map(bytes, in_order))
    assert rows(shown[0], True) == rows(shown[2], True)  # the first pass again, masks and all
    assert not np.array_equal(shown[0].tokens, shown[2].tokens)  # in another order
    assert rows(shown[0], True) != rows(shown[1], True)
    # the same instance in two passes: another mask
    tokens = {
        bytes(row): seen for row, seen in zip(restored(shown[0]), shown[0].tokens, strict=True)
    }
    both = [
        (tokens[bytes(row)], seen)
        for row, seen in zip(restored(shown[1]), shown[1].tokens, strict=True)
        if bytes(row) in tokens
    ]
    assert len(both) > 10
    assert sum(np.array_equal(one, other) for one, other in both) <= 1


def test_a_step_far_on_needs_no_step_before_it(prose):
    data, fresh = instances(prose, duplication=3), instances(prose, duplication=3)
    for first in range(0, 5000, 100):
        last = data(first, 100)
    assert same(fresh(4900, 100), last)


def test_seed_length_and_configuration_are_in_the_digest(prose):
    digests = [
        instances(prose).digest,
        instances(prose, seed=1).digest,
        instances(prose, length=65).digest,
        instances(prose, whole_word=True).digest,
        instances(prose, duplication=3).digest,
        instances(prose, mask_fraction=0.2).digest,
    ]
    assert len(set(digests)) == 6 and digests[0] == instances(prose).digest
    assert not np.array_equal(instances(prose)(0, 9).tokens, instances(prose, seed=1)(0, 9).tokens)


def test_the_share_that_truncation_cuts_is_that_of_the_tokens_in_no_row(prose):
    data = instances(prose, short_probability=0.0)
    seen = np.zeros(len(prose.file.tokens), int)
    for a, b, a_length, b_length, torn in data.passes[0].tolist():
        seen[a : a + a_length] += 1
        if not torn:
            seen[b : b + b_length] += 1
    assert seen.max() == 1
    unseen = (seen == 0).sum() - prose.documents  # the end tokens are in no row
    assert data.cut == pytest.approx(unseen / (len(seen) - prose.documents)) and data.cut > 0.01


def test_held_out_batches_show_each_instance_once_in_order(prose):
    data = instances(prose)
    batches = list(data.in_order(16))
    counted = sum(int(batch.next_mask.sum()) for batch in batches)
    assert counted == data.count and all(batch.tokens.shape == (16, LENGTH) for batch in batches)
    last = batches[-1]
    assert last.mask[last.next_mask].any(1).all() and not last.mask[~last.next_mask].any()
    a_first = [int(row[1]) for batch in batches for row in restored(batch)][: data.count]
    assert a_first == prose.file.tokens[data.passes[0]["a"]].tolist()


def test_rows_too_short_and_a_tokenizer_without_a_mask_are_refused(prose):
    with pytest.raises(ConfigError, match="length must be between 8 and 65536 tokens, got 7"):
        instances(prose, length=7)
    plain = ByteTokenizer()
    plain.specials = {"end": plain.end, "cls": plain.specials["cls"]}
    with pytest.raises(ConfigError, match="'bytes' has no sep, mask, which BERT needs; use wordp"):
        Instances(prose, LENGTH, 0, InstancesConfig(), plain)
