"""BERT's pairs against a slow transcription of the algorithm, and the properties it must have."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lm.core.errors import ConfigError, DataError
from lm.data.pairs import InstancesConfig, build, measure, shrink, stored
from lm.data.permutation import mix
from lm.data.sentences import SentenceFile
from lm.data.token_file import TokenFile

PLAIN = InstancesConfig()
LENGTH = 64


def corpus(folder: Path, documents: list[list[int]]) -> SentenceFile:
    """Documents of sentences of so many tokens; token `i` of the file is the number `i`."""
    bounds, firsts, starts, at = [], [0], [], 0
    for sizes in documents:
        starts.append(at)
        for size in sizes:
            bounds.append(at)
            at += size
        bounds.append(at)
        at += 1  # the end token
        firsts.append(len(bounds))
    manifest = {"digest": str(documents), "sentences": 0, "tokenizer": ""}
    folder.mkdir(exist_ok=True)
    file = TokenFile(folder, manifest, np.arange(at, dtype=np.uint32))
    return SentenceFile(file, np.array(bounds), np.array(firsts))


def drawn(documents=300, most=30, seed=0):
    rng = random.Random(seed)
    return [
        [rng.randint(1, most) for _ in range(rng.choice([1, 2, 5, 40]))] for _ in range(documents)
    ]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("text"), drawn())


def sentence_lists(text):
    """Each document as lists of tokens."""
    tokens, bounds = text.file.tokens.tolist(), text.bounds.tolist()
    return [
        [tokens[bounds[i] : bounds[i + 1]] for i in range(first, after - 1)]
        for first, after in zip(text.firsts[:-1], text.firsts[1:], strict=True)
    ]


def slowly(text, length, config, seed, turn):
    """The official algorithm over lists of tokens: (A, B, is random, where, chunk) per instance:
    `where` is its document and the sentences that it used up, `chunk` how many it could use."""
    documents, room = sentence_lists(text), length - (3 if config.pairs else 2)
    inner = int(mix(np.array([turn], np.uint64), seed)[0])
    for number, document in enumerate(documents):
        stream = int(mix(np.array([number], np.uint64), inner)[0])
        rng = random.Random(stream)

        def below(n, rng=rng):
            return int(rng.random() * n)

        def target(rng=rng, below=below):
            return 2 + below(room - 1) if rng.random() < config.short_probability else room

        goal, chunk, held, i = target(), [], 0, 0
        while i < len(document):
            chunk.append(document[i])
            held += len(document[i])
            if held < goal and i < len(document) - 1:
                i += 1
                continue
            first = i + 1 - len(chunk)
            if not config.pairs:
                a, b, is_random = sum(chunk, []), [], False
            else:
                split = 1 + below(len(chunk) - 1) if len(chunk) > 1 else 1
                a, b = sum(chunk[:split], []), []
                is_random = len(chunk) == 1 or rng.random() < 0.5
                if is_random:
                    other = [k for k in range(len(documents)) if k != number][
                        below(len(documents) - 1)
                    ]
                    for sentence in documents[other][below(len(documents[other])) :]:
                        b += sentence
                        if len(b) >= goal - len(a):
                            break
                    i -= len(chunk) - split
                else:
                    b = sum(chunk[split:], [])
            while len(a) + len(b) > room:
                longer = a if len(a) > len(b) else b
                longer.pop(0 if rng.random() < 0.5 else -1)
            i += 1
            yield a, b, is_random, (number, first, i), len(chunk)
            chunk, held = [], 0
            if config.short_per == "chunk" and i < len(document):
                goal = target()


def told(spans):
    for a, b, a_length, b_length, is_random in spans.tolist():
        yield list(range(a, a + a_length)), list(range(b, b + b_length)), bool(is_random)


@pytest.mark.parametrize(
    "config",
    [
        PLAIN,
        replace(PLAIN, short_per="chunk"),
        replace(PLAIN, short_probability=1.0, short_per="chunk"),
        replace(PLAIN, pairs=False),
    ],
)
@pytest.mark.parametrize("length", [16, 64, 512])
def test_instances_equal_a_transcription_of_the_algorithm(text, config, length):
    for seed, turn in ((0, 0), (7, 3)):
        expected = [instance[:3] for instance in slowly(text, length, config, seed, turn)]
        assert list(told(build(text, length, config, seed, turn))) == expected


@pytest.mark.parametrize("pairs", [True, False])
def test_every_sentence_is_used_once_or_put_back(text, pairs):
    """What an instance uses of its document begins where the one before it ended, to the end."""
    config = replace(PLAIN, pairs=pairs)
    at: dict[int, int] = {}
    for (a, _, _, (number, first, after), _), span in zip(
        slowly(text, LENGTH, config, 0, 0), build(text, LENGTH, config, 0, 0), strict=True
    ):
        assert first == at.get(number, 0) and after > first
        at[number] = after
        begins = text.bounds[text.firsts[number] + first]
        assert begins <= span["a"] < text.bounds[text.firsts[number] + after]
        assert span["a"] == a[0]
    assert at == {number: len(sizes) for number, sizes in enumerate(drawn())}


def test_no_token_is_lost_where_no_pair_is_truncated(tmp_path):
    """One token a sentence: every chunk has its target's length exactly, so all is used."""
    text = corpus(tmp_path, [[1] * 500, [1] * 700])
    seen = np.zeros(len(text.file.tokens), int)
    for a, b, is_random in told(build(text, LENGTH, PLAIN, 0, 0)):
        seen[a] += 1
        if not is_random:
            seen[b] += 1
    ends = text.bounds[text.firsts[1:] - 1]
    assert (np.delete(seen, ends) == 1).all() and (seen[ends] == 0).all()


def documents_of(text, positions):
    return np.searchsorted(text.bounds[text.firsts[:-1]], positions, side="right") - 1


def test_a_random_b_is_from_another_document_and_a_real_one_follows_a(text):
    spans = np.concatenate([build(text, LENGTH, PLAIN, 0, turn) for turn in range(5)])
    torn = spans["random"] == 1
    a, b = documents_of(text, spans["a"]), documents_of(text, spans["b"])
    assert (a[torn] != b[torn]).all() and (a[~torn] == b[~torn]).all()
    a_end = spans["a"] + spans["a_length"]
    assert (spans["b"][~torn] >= a_end[~torn]).all()
    uncut = spans["a_length"] + spans["b_length"] < LENGTH - 3
    assert (spans["b"][~torn & uncut] == a_end[~torn & uncut]).all()
    assert set(b[torn]) == set(range(text.documents))  # every other document has its turn


def test_half_of_the_chunks_of_two_sentences_or_more_are_torn(text):
    rows = [row for turn in range(20) for row in slowly(text, LENGTH, PLAIN, 1, turn)]
    spans = np.concatenate([build(text, LENGTH, PLAIN, 1, turn) for turn in range(20)])
    torn, several = spans["random"] == 1, np.array([row[4] > 1 for row in rows])
    assert several.sum() > 10_000
    assert abs(torn[several].mean() - 0.5) < 3 * 0.5 / several.sum() ** 0.5
    assert torn[~several].all()
    assert torn.mean() - 0.5 > 3 * 0.5 / len(torn) ** 0.5  # the control: chunks of one tell


def test_a_chunk_of_one_sentence_always_has_a_random_b(tmp_path):
    text = corpus(tmp_path, [[200], [5], [90]])
    spans = np.concatenate([build(text, LENGTH, PLAIN, 0, turn) for turn in range(50)])
    assert spans["random"].all() and len(spans) == 150


def test_rows_are_never_too_long_nor_a_segment_empty(text):
    for length in (8, 16, 128):
        spans = build(text, length, replace(PLAIN, short_per="chunk"), 0, 0)
        assert (spans["a_length"].astype(int) + spans["b_length"] <= length - 3).all()
        assert (spans["a_length"] > 0).all() and (spans["b_length"] > 0).all()


def test_a_tenth_of_the_documents_or_of_the_chunks_is_short(tmp_path):
    long = corpus(tmp_path, [[1] * 200 for _ in range(4000)])
    full, expected = 126, 0.1 * 124 / 125  # a short target is uniform over 2, ..., 126
    size = {}
    for per in ("document", "chunk"):
        config = InstancesConfig(pairs=False, short_per=per)
        spans = build(long, 128, config, 0, 0)
        document = documents_of(long, spans["a"])
        size[per] = spans["a_length"]
        heads = size[per][np.unique(document, return_index=True)[1]]  # each document's first row
        assert abs((heads < full).mean() - expected) < 3 * (0.1 * 0.9 / 4000) ** 0.5
        short = heads[heads < full]
        assert short.min() < 10 and abs(short.mean() - 63.5) < 3 * 36 / len(short) ** 0.5
    # drawn for a document, a short target makes many rows, as in the official code
    assert (size["document"] < 74).mean() > 0.2 > (size["chunk"] < 74).mean()


def test_truncation_takes_from_front_and_back_alike():
    rng = random.Random(0)
    cuts = np.array([shrink(0, 40, 20, rng.random) for _ in range(5000)])
    assert (cuts[:, 1] - cuts[:, 0] == 20).all()
    front = cuts[:, 0].sum() / (20 * 5000)
    assert abs(front - 0.5) < 3 * 0.5 / (20 * 5000) ** 0.5


def test_truncation_of_pairs_is_balanced_and_takes_from_the_longer(tmp_path):
    text = corpus(tmp_path, [[100]] * 3000)
    spans = build(text, LENGTH, replace(PLAIN, short_probability=0.0), 0, 0)
    assert set(zip(spans["a_length"].tolist(), spans["b_length"].tolist(), strict=True)) == {
        (31, 30)
    }
    begins = text.bounds[text.firsts[:-1]]
    for side, kept in (("a", 31), ("b", 30)):
        front = spans[side] - begins[documents_of(text, spans[side])]
        total = (100 - kept) * 3000
        assert abs(front.sum() / total - 0.5) < 3 * 0.5 / total**0.5


def test_one_document_is_refused_with_the_way_out(tmp_path):
    text = corpus(tmp_path, [[5] * 50])
    text.file.manifest["source"] = "mine.txt"
    said = r"^mine.txt: .*needs another document.*chapters=True.*pairs=False"
    with pytest.raises(DataError, match=said):
        build(text, LENGTH, PLAIN, 0, 0)
    assert len(build(text, LENGTH, replace(PLAIN, pairs=False), 0, 0)) > 3


def test_passes_and_seeds_pair_anew_and_the_same_one_is_the_same(text):
    one = build(text, LENGTH, PLAIN, 0, 0)
    assert np.array_equal(one, build(text, LENGTH, PLAIN, 0, 0))
    for other in (build(text, LENGTH, PLAIN, 0, 1), build(text, LENGTH, PLAIN, 1, 0)):
        assert not np.array_equal(one, other)
        assert len(set(one.tolist()) & set(other.tolist())) < 0.5 * len(one)


def test_a_pass_is_stored_once_for_each_seed_length_and_text(tmp_path, monkeypatch):
    text = corpus(tmp_path, drawn(20))
    first = stored(text, LENGTH, PLAIN, 0, 0)
    with monkeypatch.context() as patch:
        patch.setattr("lm.data.pairs.build", None)
        assert np.array_equal(stored(text, LENGTH, PLAIN, 0, 0), first)
        assert np.array_equal(  # masks and objective change nothing in a pass
            stored(text, LENGTH, replace(PLAIN, whole_word=True, objective="next"), 0, 0), first
        )
    assert len(list(tmp_path.iterdir())) == 1
    text_2 = replace(
        text, file=replace(text.file, manifest=text.file.manifest | {"tokenizer": "other"})
    )
    stored(text, LENGTH, PLAIN, 1, 0)
    stored(text, LENGTH, PLAIN, 0, 1)
    stored(text, LENGTH + 1, PLAIN, 0, 0)
    stored(text, LENGTH, replace(PLAIN, short_probability=0.2), 0, 0)
    stored(text, LENGTH, replace(PLAIN, short_per="chunk"), 0, 0)
    stored(text_2, LENGTH, PLAIN, 0, 0)
    assert len(list(tmp_path.iterdir())) == 7


@pytest.mark.parametrize("damage", ["cut", "flip", "longer", "gone", "manifest", "no manifest"])
def test_a_damaged_pass_is_refused(tmp_path, damage):
    text = corpus(tmp_path, drawn(20))
    stored(text, LENGTH, PLAIN, 0, 0)
    (folder,) = tmp_path.iterdir()
    path = folder / "spans.bin"
    data = bytearray(path.read_bytes())
    match damage:
        case "cut":
            path.write_bytes(data[:-21])
        case "flip":
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        case "longer":
            path.write_bytes(data + bytes(3))
        case "gone":
            path.unlink()
        case "no manifest":
            (folder / "manifest.json").unlink()
        case "manifest":
            (folder / "manifest.json").write_text(json.dumps({"count": 3}))
    with pytest.raises(DataError, match="is damaged; remove it, it is made again"):
        stored(text, LENGTH, PLAIN, 0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"short_probability": 1.5}, "short_probability must be between 0 and 1, got 1.5"),
        ({"mask_fraction": 0.0}, "mask_fraction must be above 0 and below 1, got 0.0"),
        ({"masked": 0.95}, "masked 0.95 and kept 0.1 must be shares"),
        ({"duplication": 0}, "duplication must be positive, got 0"),
        ({"max_predictions": -1}, "max_predictions must be positive, got -1"),
    ],
)
def test_values_out_of_range_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        InstancesConfig(**changes)


def test_the_builder_reads_a_million_tokens_a_second(tmp_path):
    """Measured: some ten million on one core; an algorithm that copies tokens has no chance."""
    rng = np.random.default_rng(0)
    documents = [rng.integers(5, 45, 200).tolist() for _ in range(200)]
    text = corpus(tmp_path, documents)
    tokens, seconds = min((measure(text, 128, PLAIN) for _ in range(3)), key=lambda run: run[1])
    assert tokens > 9e5 and tokens / seconds > 1e6
