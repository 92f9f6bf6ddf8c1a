"""What others' files say beside a vocabulary: the tokens behind it, and the ids that texts have.

`tokenizer.json` holds a normalizer and a pre-tokenizer of its own, of which our kinds know one
each. Nothing is made of them: the ids of texts are compared, and another splitting stops here.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lm.core.errors import DataError
from lm.text.added import with_specials
from lm.text.interface import SPECIALS, Tokenizer
from lm.text.vocabulary import WHOLE, existing, library, read_json, read_options

if TYPE_CHECKING:
    import tokenizers

ADDED = "added_tokens.json"  # of transformers before 5, beside files that know no added tokens
OVERRIDDEN = {  # parts of tokenizer.json -> what options beside it say -> its own name there
    "normalizer": {
        "do_lower_case": "lowercase",
        "strip_accents": "strip_accents",
        "tokenize_chinese_chars": "handle_chinese_chars",
    },
    "pre_tokenizer": {"add_prefix_space": "add_prefix_space"},
}
PROBES = (  # short ones first: the first that differs is told
    "The QUICK fox", "I'LL don't", "year 2024, 12345", " a", "a  b ", "f(x)[0] += A.b", "x\n\n\n y",
    "    return\n", "\t\u00a0x\u2028", "é É ﬁ ½ Straße e\u0301", "漢字 かな 한국어 Привет",
    "  \0ﬁ\r\n \U0001f600\t",
)  # fmt: skip
WORDS = ("the quick brown fox", "The QUICK fox jumps over", "a  b ", " red  AND green")


def with_added(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    """The tokenizer with the tokens that were added behind its vocabulary, under their ids.

    They are specials, which text never becomes; one of ours has our name, another its spelling.

    Raises:
      DataError: some are no specials, or their ids do not follow those of the vocabulary.
    """
    names = {spelling: name for name, spelling in SPECIALS.items()}
    behind, lost, size = [], [], tokenizer.vocab_size
    after = size
    for i, content, special in sorted(added_tokens(folder)):
        if i in tokenizer.specials.values():
            continue
        if not special or content in SPECIALS or i > after:  # the second names another of ours
            lost.append(content)
        elif i == after:
            behind.append(content)
        after += i >= size
    if lost:
        raise DataError(
            f"{folder}: the added tokens {', '.join(map(repr, lost))} cannot be kept: only "
            f"specials can, under the ids from {size} on"
        )
    known = tokenizer.specials
    renamed = [names.get(each, each) for each in behind]
    return with_specials(
        tokenizer,
        [each if name in known else name for each, name in zip(behind, renamed, strict=True)],
    )


def added_tokens(folder: Path) -> list[tuple[int, str, bool]]:
    """Id, spelling and whether it is a special, of each token that the files call added."""
    file = existing(folder, WHOLE)
    try:
        if file:
            rows = read_json(file).get("added_tokens") or []
            return [(int(row["id"]), str(row["content"]), bool(row["special"])) for row in rows]
        decoder = read_options(folder).get("added_tokens_decoder", {})
        found = {str(row["content"]): (int(i), bool(row["special"])) for i, row in decoder.items()}
        if file := existing(folder, ADDED):  # it does not say which are specials
            found = {str(name): (int(i), True) for name, i in read_json(file).items()} | found
        return [(i, content, special) for content, (i, special) in found.items()]
    except (ValueError, KeyError, TypeError, AttributeError):
        named = file or folder
        raise DataError(f"{named} does not list its added tokens: copy it again") from None


def require_alike(tokenizer: Tokenizer, folder: Path) -> None:
    """Raises DataError where the folder's tokenizer.json gives some text other ids."""
    file = existing(folder, WHOLE)
    if file is None:
        return
    theirs = alone(read_json(file), read_options(folder), file)
    # transformers has but an approximation of GPT-1's splitting, the same for plain words
    texts = WORDS if tokenizer.kind == "gpt1" else probes(tokenizer)
    rows = theirs.encode_batch(texts, add_special_tokens=False)
    for text, ours, row in zip(texts, tokenizer.encode_batch(texts), rows, strict=True):
        if ours != row.ids:
            raise DataError(
                f"{file} gives {text[:30]!r} the ids {row.ids[:12]}, {tokenizer.kind} as it was "
                f"published {ours[:12]}: its normalizer or pre-tokenizer is another, which cannot "
                "be read; without this file and others of a vocabulary the weights can"
            )


def probes(tokenizer: Tokenizer) -> list[str]:
    """Texts that are hard to split alike, each piece, which another splitting may have as a whole,
    and pieces at random."""
    pieces = [[i] for i in range(tokenizer.vocab_size)]
    rows = np.random.default_rng(0).integers(0, tokenizer.vocab_size, (300, 30)).tolist()
    return [*PROBES, *map(tokenizer.decode, pieces + rows)]


def alone(whole: dict[str, Any], options: dict[str, Any], file: Path) -> "tokenizers.Tokenizer":
    """Their tokenizer of a text that spells no special, with what the options say instead."""
    whole = whole | dict.fromkeys(("truncation", "padding", "post_processor"), None)
    whole["added_tokens"] = []
    for part, names in OVERRIDDEN.items():
        if isinstance(found := whole.get(part), dict):
            said = {theirs: options[name] for name, theirs in names.items() if name in options}
            whole[part] = found | {name: said[name] for name in said.keys() & found.keys()}
    try:
        return library().Tokenizer.from_str(json.dumps(whole))
    except Exception as error:  # its class is made in Rust
        raise DataError(f"{file} cannot be read ({error}): copy it again") from None
