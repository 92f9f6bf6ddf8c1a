from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.core.config import bind
from lm.core.errors import ConfigError, DataError
from lm.data.batches import Windows
from lm.data.mixture import ROWS, Mixture, apportioned, told
from lm.data.sources import Document
from lm.data.token_file import TokenFile
from lm.data.token_writer import write_tokens
from lm.data.tokens import Source, TextConfig, prepare
from lm.text.added import with_specials
from lm.text.byte import ByteTokenizer

TABLE_2_2 = (410_000, 19_000, 12_000, 55_000, 3_000), (0.60, 0.22, 0.08, 0.08, 0.03)
LENGTH = 8


def source(name, count, weight, first=0):
    """A text of the tokens `first`, ..., which tell where a row was cut."""
    ids = np.arange(first, first + count, dtype=np.uint32)
    return Source(name, TokenFile(Path(name), {"digest": f"{name} {count}"}, ids), weight)


def mixture(counts=(4000, 600, 88), weights=(6, 3, 1), seed=0):
    firsts = [10_000_000 * n for n in range(len(counts))]
    some = zip(counts, weights, firsts, strict=True)
    sources = [source(f"t{n}", c, w, first) for n, (c, w, first) in enumerate(some)]
    return Mixture(sources, LENGTH, seed)


def of(batch):
    """The source that each row of a batch was cut from."""
    return batch.tokens[:, 0] // 10_000_000


def test_each_thousand_rows_have_the_exact_shares_in_an_order_of_their_own():
    data = mixture()
    orders = [of(data(block * ROWS, ROWS)) for block in range(3)]
    for order in orders:
        assert np.bincount(order).tolist() == [600, 300, 100]
    assert not np.array_equal(orders[0], orders[1])
    # drawn, not dealt in turn: a batch of 10 has about a binomial spread
    spread = np.array([(of(data(10 * n, 10)) == 0).sum() for n in range(100)])
    assert 1.0 < spread.std() < 2.2


def test_a_row_tells_from_which_documents_of_which_text_it_is_cut(tmp_path):
    sources = []
    for name in "ab":
        words = (Document("", f"{name}{n} " * (1 + n % 7)) for n in range(90))
        write_tokens(words, ByteTokenizer(), tmp_path / name, "s", print)
        file = TokenFile.open(tmp_path / name, vocab_size=None, tokenizer_digest=None)
        sources.append(Source(name, file, 1.0))
    data, end = Mixture(sources, LENGTH, 0), ByteTokenizer().end
    batch, origins = data(40, 50), data.origins(40, 50)
    assert [one["row"] for one in origins] == [*range(40, 90)]
    assert {one["text"] for one in origins} == {"a", "b"}
    for tokens, targets, one in zip(batch.tokens, batch.targets, origins, strict=True):
        file = sources["ab".index(one["text"])].file
        assert one["file"] == str(file.folder)
        start, stop = one["tokens"]
        assert file.tokens[start:stop].tolist() == [*tokens, targets[-1]]
        first, last = one["documents"]
        assert (
            file.documents[first] <= start < stop <= [*file.documents, len(file.tokens)][last + 1]
        )
        ends = int((file.tokens[start : stop - 1] == end).sum())
        assert last - first == ends  # a document more behind each end but the last token's
    assert origins == data.origins(0, 90)[40:]  # and depends on the row alone


def test_a_text_is_read_without_replacement_until_all_of_it_has_come():
    data = mixture()
    rows = data(0, 5 * ROWS)
    for number, windows in enumerate(data.windows):
        starts = rows.tokens[of(rows) == number, 0]
        epochs = [starts[i : i + windows.count] for i in range(0, len(starts), windows.count)]
        assert all(len(np.unique(epoch)) == len(epoch) for epoch in epochs)
        assert len(epochs) > 3 or number == 0
    # the control: drawn at random, a text comes again before its end
    random = np.random.default_rng(0).integers(0, 500, 500)
    assert len(np.unique(random)) < 400


@settings(max_examples=30)
@given(st.integers(0, 5000), st.integers(1, 60), st.integers(1, 5), st.integers(0, 99))
def test_rows_do_not_depend_on_how_many_processes_read_them(first, each, processes, seed):
    data = mixture(seed=seed)
    whole = data(first, processes * each)
    again = mixture(seed=seed)  # another process, which starts there
    parts = [again(first + p * each, each) for p in reversed(range(processes))][::-1]
    for name in ("tokens", "targets", "mask", "rows"):
        together = np.concatenate([getattr(part, name) for part in parts])
        assert np.array_equal(together, getattr(whole, name))


def test_another_seed_is_another_order_and_two_texts_have_two_orders():
    a, b = mixture(), mixture(seed=1)
    assert not np.array_equal(of(a(0, 100)), of(b(0, 100)))
    twins = mixture((800, 800), (1, 1))(0, 400)
    first, second = (twins.tokens[of(twins) == n, 0] % 10_000_000 for n in (0, 1))
    size = min(len(first), len(second))
    assert (first[:size] == second[:size]).mean() < 0.2


def test_one_text_alone_is_read_as_without_a_mixture():
    one = source("a", 500, 0.3)
    alone, windows = Mixture([one], LENGTH, 7), Windows(one.file, LENGTH, 7)
    for first, count in ((0, 5), (990, 50), (123_456, 9)):
        for name in ("tokens", "targets", "mask", "rows"):
            found, expected = (getattr(rows(first, count), name) for rows in (alone, windows))
            assert np.array_equal(found, expected) and found.dtype == expected.dtype
    assert alone.table(1000) == [] and alone.digest == one.file.digest


@settings(max_examples=30)
@given(st.integers(0, 20_000))
def test_the_table_counts_the_rows_that_were_drawn(rows):
    data = mixture()
    assert data.drawn(rows).sum() == rows
    if rows < 4000:
        drawn = np.bincount(of(data(0, rows)), minlength=3) if rows else np.zeros(3)
        assert data.drawn(rows).tolist() == drawn.tolist()


def test_table_22_of_gpt3_comes_out_of_its_sizes_and_weights():
    """A millionth of it. The paper prints 2.9 and 3.4 epochs of WebText2 and Wikipedia, which its
    own tokens and weights do not give."""
    counts, weights = TABLE_2_2
    data = mixture(counts, weights)
    table = data.table(300_000 // LENGTH)
    epochs = [round(row["epochs"], 2) for row in table]
    assert epochs == pytest.approx([0.44, 3.44, 1.98, 0.43, 2.97], abs=0.05)
    assert [row["weight"] for row in table] == [0.594, 0.218, 0.079, 0.079, 0.03]
    lines = told(table).splitlines()
    assert len(lines) == 6 and lines[1].split() == ["t0", "410,000", "59.4%", "0.435"]
    lines = told([row | {"valid_loss": 3.25} for row in table]).splitlines()
    assert lines[0].endswith("held-out loss") and lines[1].split()[-1] == "3.2500"


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=12))
def test_shares_fill_a_block_and_are_within_a_row_of_the_weights(weights):
    shares = apportioned(weights)
    assert shares.sum() == ROWS
    assert np.abs(shares - ROWS * np.array(weights) / sum(weights)).max() < 1


def test_a_mixture_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"weight 0\.0001 of t1 is below a row in 1000"):
        mixture((100, 100), (1, 0.0001))
    with pytest.raises(DataError, match="too few for one row"):
        mixture((100, 3), (1, 1))
    for value, said in (
        ((("a", "x", 1.0), ("a", "y", 1.0)), "names a text twice"),
        ((("a", "", 1.0),), "lacks name or text"),
        ((("a", "x", 0.0),), "weight of a must be positive"),
    ):
        with pytest.raises(ConfigError, match=said):
            TextConfig(mixture=value)
    with pytest.raises(ConfigError, match="for one text set data.mixture="):
        TextConfig(train="books", mixture=(("a", "x", 1.0),))


@pytest.fixture
def texts(tmp_path):
    for name in ("web", "books"):
        (tmp_path / name).mkdir()
        for n in range(20):
            (tmp_path / name / f"{n}.txt").write_text(f"{name} {n} " * 50)
    return {"cache": str(tmp_path / "cache")}, tmp_path


def test_a_mixture_is_bound_as_text_and_prepared_text_by_text(texts):
    cache, root = texts
    value = f"(('web', '{root}/web', 2), ('books', '{root}/books', 1))"
    config = bind(TextConfig(**cache), {"mixture": value})
    assert config.mixture[0] == ("web", f"{root}/web", 2.0)
    sources, valid = prepare(config, ByteTokenizer())
    assert [(s.name, s.weight) for s in sources] == [("web", 2.0), ("books", 1.0)]
    valid.verify()
    # held out is a part of each, and no document is on both sides
    held = Counter(d.text.split()[0] for d in config.documents("valid"))
    trained = Counter(d.text.split()[0] for d in config.documents("train"))
    assert held + trained == {"web": 20, "books": 20} and min(held["web"], held["books"]) > 0
    assert valid.manifest["documents"] == held.total()
    assert valid.bytes == sum(len(d.text) for d in config.documents("valid"))
    assert sum(s.file.manifest["documents"] for s in sources) == trained.total()
    # the files are those that each text has by itself
    alone, _ = prepare(TextConfig(train=f"{root}/books", **cache), ByteTokenizer())
    assert alone[0].file.folder == sources[1].file.folder and alone[0].held_out is None
    # and each has what is held out of it
    parts = [source.held_out.manifest["documents"] for source in sources]
    assert parts == [held["web"], held["books"]]
    assert prepare(config, ByteTokenizer())[1].digest == valid.digest


def test_tokenizers_with_the_same_ids_have_a_held_out_file_each(texts):
    cache, root = texts
    mixed = tuple((name, str(root / name), 1.0) for name in ("web", "books"))
    config = TextConfig(mixture=mixed, **cache)
    more = with_specials(ByteTokenizer(), ["extra"])
    files = [prepare(config, tokenizer)[1] for tokenizer in (ByteTokenizer(), more)]
    assert files[0].digest == files[1].digest and files[0].folder != files[1].folder


def test_named_text_is_held_out_instead_and_tokens_made_before_are_a_source(texts):
    cache, root = texts
    write_tokens([Document("a", "ready " * 99)], ByteTokenizer(), root / "ready")
    mixed = (("ready", str(root / "ready"), 1.0), ("books", str(root / "books"), 1.0))
    with pytest.raises(DataError, match="set data.valid"):
        prepare(TextConfig(mixture=mixed, **cache), ByteTokenizer())
    config = TextConfig(mixture=mixed, valid=str(root / "web" / "3.txt"), **cache)
    sources, valid = prepare(config, ByteTokenizer())
    assert sources[0].file.folder == root / "ready" and valid.bytes == len("web 3 " * 50)
    assert [d.text for d in config.documents("valid")] == ["web 3 " * 50]


def test_weights_and_names_are_part_of_what_a_checkpoint_remembers():
    digests = {
        mixture().digest,
        mixture(weights=(6, 2, 1)).digest,
        mixture(counts=(4000, 608, 88)).digest,
    }
    assert len(digests) == 3
