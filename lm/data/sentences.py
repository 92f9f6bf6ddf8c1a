"""Tokenised text that knows where its sentences and documents begin.

A token file (`lm.data.tokens`) with one index more:

    <folder>/sentences.npy   where each sentence begins, and after each document's last sentence
                             where that one ends, which is the document's end token

Every sentence is encoded by itself behind one blank, so that a word has the same pieces wherever
it stands, and sentences that follow one another can be joined.
"""

import dataclasses
import hashlib
import json
import re
import zlib
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from lm.core.config import require_positive
from lm.core.errors import DataError
from lm.data.prose import is_heading, paragraphs, sentences, shortened
from lm.data.sources import Document, fingerprint
from lm.data.split import DIVISION
from lm.data.token_file import FORMAT, TokenFile
from lm.data.token_writer import Row, write_rows
from lm.data.tokens import Part, TextConfig, cache_folder
from lm.text.tokenizer import Tokenizer

CUTTING = 2  # of the rules by which text is cut; another number makes the files again
TOGETHER = 4096  # sentences a call of the tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentencesConfig:
    """How text becomes documents of sentences.

    "prose" is cut by the rules of `lm.data.prose`, and a file or record is a document. "lines" is
    the form of BERT's own code: a sentence a line, an empty line between documents.
    """

    form: Literal["prose", "lines"] = "prose"
    chapters: bool = False  # a chapter's heading begins a document
    paragraphs: int | None = None  # of a document at most, then another begins

    def __post_init__(self) -> None:
        require_positive(self, "paragraphs")

    def documents(self, document: Document) -> Iterator[list[str]]:
        """The sentences of each document in a file or record; none is empty."""
        if self.form == "lines":
            for block in re.split(r"\n\s*\n", document.text.replace("\r\n", "\n")):
                lines = [part for line in block.split("\n") for part in shortened(line.strip())]
                if lines:
                    yield lines
            return
        held: list[str] = []
        count = 0
        for paragraph in paragraphs(document.text):
            if held and ((self.chapters and is_heading(paragraph)) or count == self.paragraphs):
                yield held
                held, count = [], 0
            held.extend(sentences(paragraph))
            count += 1
        if held:
            yield held


@dataclasses.dataclass(frozen=True)
class SentenceFile:
    """An opened token file and its sentences: document `d` has the bounds `firsts[d]`, ...,
    `firsts[d + 1] - 1`, and each of its sentences lies between one bound and the next."""

    file: TokenFile
    bounds: np.ndarray  # memory-mapped positions, int64
    firsts: np.ndarray  # [documents + 1] int64

    @classmethod
    def open(
        cls, folder: Path, *, vocab_size: int | None, tokenizer_digest: str | None
    ) -> "SentenceFile":
        """Raises DataError: what `TokenFile.open` refuses, or a damaged index of sentences."""
        file = TokenFile.open(folder, vocab_size=vocab_size, tokenizer_digest=tokenizer_digest)
        try:
            bounds = np.load(folder / "sentences.npy", mmap_mode="r", allow_pickle=False)
            fits = zlib.crc32(bounds.data) == file.manifest.get("sentences")
            firsts = np.searchsorted(bounds, file.documents)
        except (OSError, ValueError, EOFError):
            fits = False
        if not fits:
            raise DataError(
                f"{folder}/sentences.npy is missing or damaged; remove the folder, it is made again"
            )
        return cls(file, bounds, np.append(firsts, len(bounds)))

    @property
    def documents(self) -> int:
        return len(self.firsts) - 1

    @property
    def sentences(self) -> int:
        return len(self.bounds) - self.documents

    @property
    def digest(self) -> str:
        """Identity of tokens, sentences and documents."""
        manifest = self.file.manifest
        identity = [self.file.digest, manifest["sentences"], manifest["tokenizer"]]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def write_sentences(
    texts: Iterator[Document],
    config: SentencesConfig,
    tokenizer: Tokenizer,
    folder: Path,
    source: str = "",
    report: Callable[[str], None] = print,
) -> None:
    """Cuts and tokenises documents into `folder`, which appears whole or not at all.

    Raises:
      DataError: there is no text.
    """
    bounds = array("q")

    def rows() -> Iterator[Row]:
        length = 0
        for text in texts:
            for document in config.documents(text):
                ids: list[np.ndarray] = []
                for first in range(0, len(document), TOGETHER):
                    some = [f" {sentence}" for sentence in document[first : first + TOGETHER]]
                    ids += [row for row in tokenizer.encode_arrays(some) if len(row)]
                if not ids:
                    continue
                for row in ids:
                    bounds.append(length)
                    length += len(row)
                bounds.append(length)
                length += 1
                size = sum(len(sentence.encode()) for sentence in document)
                yield np.concatenate([*ids, [tokenizer.end]]), size, True

    write_rows(rows(), tokenizer, folder, source, report, {"sentences": bounds})


def prepare_sentences(
    text: TextConfig,
    config: SentencesConfig,
    tokenizer: Tokenizer,
    part: Part,
    report: Callable[[str], None] = print,
) -> SentenceFile:
    """The sentences to train or to measure on, tokenised now or by an earlier run.

    Raises:
      DataError: the text is named by tokens that do not give it back.
    """
    ready = text.made_by_tokenize(part)
    documents = text.documents(part)
    source = text.valid if part == "valid" and text.valid else text.train
    key = [
        (ready / "manifest.json").read_text() if ready else fingerprint(source),
        None if ready or text.valid else text.valid_fraction,
        text.on_error,
        dataclasses.astuple(config),
        tokenizer.digest,
        FORMAT,
        CUTTING,
        DIVISION,
    ]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]
    folder = cache_folder(text) / "sentences" / name / part
    if not (folder / "manifest.json").exists():
        write_sentences(documents, config, tokenizer, folder, source, report)
    return SentenceFile.open(
        folder, vocab_size=tokenizer.vocab_size, tokenizer_digest=tokenizer.digest
    )
