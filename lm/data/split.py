"""Which documents of a text are trained on, and which are held out."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from lm.core.errors import DataError
from lm.data.held_out import dividing, place
from lm.data.sources import Document, Listing, OnError, documents, documents_in, listing

FEW = 100  # documents of which a fraction may hold out none, or far more or less than it asks
DIVISION = 3  # of the rules by which a text is divided: names what is kept of its parts


def split(
    spec: str, valid: str | None, fraction: float, part: Literal["train", "valid"],
    on_error: OnError = "stop",
) -> Iterator[Document]:  # fmt: skip
    """The documents to train on, or those held out.

    With a `valid` spec, that. Otherwise whole documents, chosen by a hash of their names, of those
    that are not empty at least one and never all; the last characters where there is only one such
    document (as nanoGPT holds out the end of Tiny Shakespeare).

    Raises:
      DataError: no document has text in it, and what `documents` refuses.
    """
    if valid is not None:
        yield from documents(spec if part == "train" else valid, on_error=on_error)
        return
    found = listing(spec)  # once, however often it is read
    names, filled = first_names(found, on_error)
    if not filled:
        raise DataError(f"no text in {spec!r}: it has no documents, or empty ones alone")
    if len(filled) == 1:
        yield side_of_one(found, fraction, part, on_error)
        return
    parts = 2  # of a name; more where the files are called alike
    while 2 * len({tail(name, parts) for name in names}) <= len(names) and parts < deepest(names):
        parts += 1
    if len(filled) <= FEW:  # the fraction by chance holds out none, or all
        fraction = dividing(fraction, {place(tail(name, parts)) for name in filled})
    for document in documents_in(found, on_error):
        if (place(tail(document.name, parts)) < fraction) == (part == "valid"):
            yield document


def side_of_one(
    found: Listing, fraction: float, part: Literal["train", "valid"], on_error: OnError
) -> Document:
    """What is trained on, or held out, of the one document that is not empty. It is cut as bytes,
    of which a text with characters beyond Latin-1 has half as many as it takes in memory."""
    (whole,) = (d for d in documents_in(found, on_error) if d.text)
    name, rest = whole.name, whole.text[int(len(whole.text) * (1 - fraction)) :].encode()
    data = whole.text.encode()
    del whole
    if part == "valid":
        return Document(name, rest.decode())
    return Document(name, str(memoryview(data)[: len(data) - len(rest)], "utf-8"))


def first_names(found: Listing, on_error: OnError = "stop") -> tuple[list[str], list[str]]:
    """The names of the first documents, and those of the first that are not empty: of either
    `FEW` and one more at most."""
    names, filled = [], []
    for document in documents_in(found, on_error):
        names.append(document.name)
        if document.text:
            filled.append(document.name)
        if len(filled) > FEW:
            break
    return names[: FEW + 1], filled


def tail(name: str, parts: int) -> str:
    """The last parts of a name: without the folders above, it is the same wherever the data lie."""
    return "/".join(Path(name).parts[-parts:])


def deepest(names: Sequence[str]) -> int:
    """Parts of the longest name below the folders that all have in common."""
    every = [Path(name).parts for name in names]
    return max(map(len, every)) - len(os.path.commonprefix(every))
