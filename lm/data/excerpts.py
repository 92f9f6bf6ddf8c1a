"""Excerpts of prose for a policy to go on from (Ziegler et al. 2019, section 3.1: of books)."""

import random
from collections.abc import Iterable

from lm.core.errors import DataError
from lm.data.prose import paragraphs, sentences
from lm.data.sources import Document
from lm.text.tokenizer import Tokenizer

LEAST = 8  # tokens of an excerpt


def excerpts(
    documents: Iterable[Document], tokenizer: Tokenizer, count: int, longest: int, seed: int
) -> list[str]:
    """`count` different runs of whole sentences, of at most `longest` tokens each.

    Each is of another paragraph, drawn from all of them alike; it begins with a sentence of it that
    is not the last, so that there is something to go on with.

    Raises:
      DataError: there are fewer.
    """
    draw = random.Random(seed)
    found = [one for document in documents for one in paragraphs(document.text)]
    draw.shuffle(found)
    kept: dict[str, None] = {}
    for paragraph in found:
        if len(kept) == count:
            break
        whole = list(sentences(paragraph))
        if len(whole) < 2:
            continue
        first = draw.randrange(len(whole) - 1)
        excerpt = ""
        for sentence in whole[first:-1]:
            longer = f"{excerpt} {sentence}".strip()
            if len(tokenizer.encode(longer)) > longest:
                break
            excerpt = longer
        if excerpt and len(tokenizer.encode(excerpt)) >= LEAST:
            kept[excerpt] = None
    if len(kept) < count:
        raise DataError(f"{count} excerpts were asked for and the text has {len(kept)}: ask fewer")
    return list(kept)
