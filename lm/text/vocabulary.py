"""Vocabularies of the `tokenizers` library: their files, and learning one from text.

Files are read offline as they were published, plain or gzipped, or under the names that Hugging
Face gave them. No special is registered with the library, so text that spells one is text.
"""

import gzip
import json
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm.core.errors import ConfigError, DataError
from lm.text.interface import outside, require_utf8

if TYPE_CHECKING:
    import tokenizers

Merges = list[tuple[str, str]]
WHOLE = "tokenizer.json"  # all of a vocabulary, and since transformers 5 the only file of one
OPTIONS = "tokenizer_config.json"  # Hugging Face's, of what the vocabulary's own files do not say
ALPHABET = 1000  # characters that a learned vocabulary spells; rarer ones are unknown
LIMIT = 1 << 28  # characters of text that are learned from


def library():  # type: ignore[no-untyped-def]  # the module `tokenizers`, an optional extra
    try:
        import tokenizers
    except ImportError:
        raise ConfigError(
            "tokenizers of kind gpt2, gpt1 and wordpiece need the package tokenizers: "
            "pip install 'lm[text]'"
        ) from None
    return tokenizers


def learn(
    encoder: "tokenizers.Tokenizer",
    texts: Callable[[], Iterable[str]],
    vocab: int,
    first: Sequence[str],
    inner: str = "",
    last: str = "",
) -> tuple[list[str], Merges]:
    """Pieces in the order of their ids, and the merges that made them, learned by pair counts.

    Byte-pair encoding (Sennrich et al. 2016) over the words that `encoder` splits text into:
    `first`, the alphabet, then what merging makes. `inner` marks a character that does not begin
    its word, `last` one that ends it. The same texts give the same pieces: the library alone
    numbers marked characters by a hash table's order, so they are all given to it beforehand.
    A text that fills fewer than `vocab` has these, which is said.

    Raises:
      ConfigError: `vocab` pieces cannot hold the characters of the text.
      DataError: there is no text.
    """
    counts: Counter[str] = Counter()
    for text in within_limit(texts()):
        counts.update(encoder.normalizer.normalize_str(text))
    seen = sorted((c for c in counts if not c.isspace()), key=lambda c: (-counts[c], c))
    if not seen:
        raise DataError("no text to train a tokenizer on: name files that hold some")
    characters = sorted(seen[: min(ALPHABET, vocab // 3)])
    joins = [c for c in characters if _joins(encoder, c)] if inner else characters
    marked = [inner + c + last for c in joins]
    pieces = [*first, *characters, *marked]
    if len(set(pieces)) > vocab:
        raise ConfigError(
            f"tokenizer.vocab={vocab} is too small for the specials and characters of this text: "
            f"use {3 * len(first)} or more"
        )
    trainer = library().trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=pieces,
        initial_alphabet=characters,
        limit_alphabet=len(characters),
        min_frequency=2,
        continuing_subword_prefix=inner,
        end_of_word_suffix=last,
        show_progress=False,
    )
    encoder.train_from_iterator(within_limit(texts()), trainer)
    model = json.loads(encoder.to_str())["model"]
    learned = sorted(model["vocab"], key=model["vocab"].__getitem__)
    if len(learned) < vocab:
        filled(len(learned), vocab)
    return learned, [(left, right) for left, right in model["merges"]]


def filled(pieces: int, vocab: int) -> None:
    """Says that a text has fewer pieces than were asked for."""
    print(f"warning: the text fills {pieces} of {vocab} pieces: learning these", file=sys.stderr)


def _joins(encoder: "tokenizers.Tokenizer", character: str) -> bool:
    """Whether the character can stand inside a word."""
    text = encoder.normalizer.normalize_str(f"a{character}a")
    return len(encoder.pre_tokenizer.pre_tokenize_str(text)) == 1


def within_limit(texts: Iterable[str]) -> Iterator[str]:
    """The first `LIMIT` characters of the texts."""
    left = LIMIT
    for text in texts:
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return


def encode(encoder: "tokenizers.Tokenizer", texts: Sequence[str]) -> list[list[int]]:
    require_utf8(texts)
    return [row.ids for row in encoder.encode_batch_fast(list(texts), add_special_tokens=False)]


def spelled(kind: str, words: dict[int, str], ids: Iterable[int]) -> str:
    """What the ids stand for, one after the other; DataError on one that is not in `words`."""
    pieces = []
    for i in map(int, ids):
        if i not in words:
            raise outside(kind, i, len(words))
        pieces.append(words[i])
    return "".join(pieces)


def need(vocab: dict[str, int], piece: str, kind: str) -> int:
    if piece not in vocab:
        raise DataError(
            f"this is no {kind} vocabulary: {piece!r} is not among its {len(vocab)} pieces; "
            "check tokenizer.kind and tokenizer.path"
        )
    return vocab[piece]


def existing(folder: Path, *names: str) -> Path | None:
    """The first of these files that is there, plain or gzipped."""
    files = (folder / f"{name}{end}" for name in names for end in ("", ".gz"))
    return next((file for file in files if file.is_file()), None)


def find(folder: Path, *names: str) -> Path:
    if file := existing(folder, *names):
        return file
    raise DataError(
        f"no {' or '.join(names)} (or .gz) in {folder}: point tokenizer.path at the folder that "
        "holds the vocabulary"
    )


def read_text(file: Path) -> str:
    try:
        data = file.read_bytes()
        text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode()
        return text.removeprefix("\ufeff").replace("\r\n", "\n")  # as a Windows editor leaves it
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the vocabulary {file}: {error}; copy it again") from None


def read_json(file: Path) -> Any:
    try:
        return json.loads(read_text(file))
    except ValueError as error:
        raise DataError(f"{file} is not JSON ({error}): copy it again") from None


def numbered(vocab: object, file: Path) -> dict[str, int]:
    """The vocabulary that a file holds; DataError unless its ids are 0, 1, 2, ..."""
    if not isinstance(vocab, dict) or sorted(map(str, vocab.values())) != sorted(
        map(str, range(len(vocab)))
    ):
        raise DataError(f"{file} does not give its pieces the ids 0, 1, 2, ...: copy it again")
    return vocab


def read_merges(file: Path) -> Merges:
    merges = []
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        left, _, right = line.partition(" ")
        if not right or " " in right:
            raise DataError(f"{file}:{number}: {line!r} is not a merge of two pieces")
        merges.append((left, right))
    return merges


def read_whole(file: Path, kind: str) -> dict[str, Any]:
    """A tokenizer.json whose model is of a kind of the library's, BPE or WordPiece."""
    try:
        whole = json.loads(read_text(file))
        found = whole["model"]["type"]
        numbered(whole["model"]["vocab"], file)
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{file} holds no vocabulary: copy it again") from None
    if found != kind:
        raise DataError(f"{file} holds a {found} vocabulary, not {kind}: check tokenizer.kind")
    return whole


def read_options(folder: Path) -> dict[str, Any]:
    """What the options beside a vocabulary say; nothing where there are none."""
    file = folder / OPTIONS
    if not file.is_file():
        return {}
    try:
        options = json.loads(file.read_text())
        if not isinstance(options, dict):
            raise ValueError(f"a {type(options).__name__}")
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is not a JSON object ({error}): copy it again") from None
    return {name: value for name, value in options.items() if value is not None}


def read_bpe(folder: Path, vocab: Sequence[str], merges: Sequence[str]) -> tuple[Any, Merges]:
    """Pieces with their ids, and merges: of a file of each, or of tokenizer.json.

    Args:
      vocab, merges: names of the files, the first that is there counts.
    """
    whole = existing(folder, WHOLE)
    if whole is None or existing(folder, *merges):
        file = find(folder, *vocab)
        return numbered(read_json(file), file), read_merges(find(folder, *merges))
    model = read_whole(whole, "BPE")["model"]
    try:  # before its version 0.20 the library wrote a merge as one text
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        return model["vocab"], [(left, right) for left, right in pairs]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{whole} holds no merges of two pieces: copy it again") from None


def check_merges(vocab: dict[str, int], merges: Merges) -> None:
    """Raises DataError where a merge is of pieces that the vocabulary has not, or makes one."""
    for left, right in merges:
        for piece in (left, right, left + right):
            if piece not in vocab:
                raise DataError(
                    f"the merge {left!r} {right!r} is not of this vocabulary, which has no "
                    f"{piece!r}: copy both files from one place"
                )


def bpe_files(vocab: dict[str, int], merges: Merges) -> dict[str, bytes]:
    ordered = dict(sorted(vocab.items(), key=lambda item: item[1]))
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    return {
        "vocab.json": json.dumps(ordered, ensure_ascii=False).encode(),
        "merges.txt": "".join(f"{line}\n" for line in lines).encode(),
    }
