"""The text of a run as its configuration names it, and the token files that are made of it."""

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from lm.core.config import require
from lm.core.errors import DataError
from lm.core.paths import at_home
from lm.data.sources import STDLIB, Document, OnError, fingerprint, listing, tell_same
from lm.data.split import DIVISION, FEW, first_names, split
from lm.data.token_file import FORMAT, TokenFile
from lm.data.token_writer import Row, write_rows, write_tokens
from lm.text.tokenizer import Tokenizer, load

FAR = 2  # times more or less than was asked

Part = Literal["train", "valid"]


class Source(NamedTuple):
    """A text to train on, and its weight beside others."""

    name: str
    file: TokenFile
    weight: float
    held_out: TokenFile | None = None  # of this text alone, where it is one of several


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Text to learn from and text to measure on."""

    train: str = STDLIB  # files, folder, glob, `stdlib:`, or a folder of launch.tokenize
    mixture: tuple[tuple[str, str, float], ...] = ()  # (name, text, weight) of several, instead
    valid: str | None = None  # a part of `train`, or of each text of the mixture, where None
    valid_fraction: float = 0.1
    on_error: OnError = "stop"  # text that is not UTF-8
    cache: str | None = None  # of tokenised text; $LM_CACHE or ~/.cache/lm where None

    def __post_init__(self) -> None:
        require(bool(self.train), "data.train is empty: name a file, a folder, a glob or stdlib:")
        fraction = self.valid_fraction
        require(0 < fraction < 1, f"valid_fraction must be above 0 and below 1, got {fraction}")
        require(
            not self.mixture or self.train == STDLIB,
            f"data.train={self.train} beside data.mixture: for one text set data.mixture=()",
        )
        names = [name for name, _, _ in self.mixture]
        require(len(set(names)) == len(names), f"data.mixture names a text twice: {names}")
        for name, spec, weight in self.mixture:
            require(bool(name and spec), f"data.mixture: {(name, spec, weight)} lacks name or text")
            require(
                weight > 0, f"data.mixture: the weight of {name} must be positive, got {weight}"
            )

    def sources(self) -> dict[str, "TextConfig"]:
        """The texts of the mixture by name; the one text, where there is no mixture."""
        if not self.mixture:
            return {"text": self}
        return {
            name: dataclasses.replace(self, train=spec, mixture=())
            for name, spec, _ in self.mixture
        }

    def documents(self, part: Part) -> Iterator[Document]:
        """The text itself; decoded again where the configuration names a folder of tokens.

        Of a mixture, one text after the other, each once.

        Raises:
          DataError: the tokens do not give their text back.
        """
        if self.mixture and (part == "train" or self.valid is None):
            some = (config.documents(part) for config in self.sources().values())
            return itertools.chain.from_iterable(some)
        ready = self.made_by_tokenize(part)
        if ready is not None:
            return decoded(ready)
        return split(self.train, self.valid, self.valid_fraction, part, self.on_error)

    def made_by_tokenize(self, part: Part) -> Path | None:
        """The token file that the configuration names, where it names one instead of text.

        Raises:
          DataError: the file is for training and nothing is named to measure on.
        """
        spec = self.train if part == "train" or self.valid is None else self.valid
        folder = at_home(spec)
        if os.path.isfile(folder / part / "manifest.json"):
            return folder / part
        if not os.path.isfile(folder / "manifest.json"):
            return None
        if part == "valid" and self.valid is None:
            raise DataError(
                f"{folder} is one token file, and nothing is held out: set data.valid, or name a "
                "folder that launch.tokenize made"
            )
        return folder


def prepare(
    config: TextConfig, tokenizer: Tokenizer, report: Callable[[str], None] = print
) -> tuple[list[Source], TokenFile]:
    """What to train on, and the one file to measure on, tokenised now or by an earlier run."""
    texts = config.sources()
    weights = [weight for _, _, weight in config.mixture] or [1.0]
    train = [
        Source(name, prepare_part(text, tokenizer, "train", report), weight)
        for (name, text), weight in zip(texts.items(), weights, strict=True)
    ]
    some = [config] if config.valid else list(texts.values())
    valid = [prepare_part(text, tokenizer, "valid", report) for text in some]
    for source in train:
        tell_same(source.file.digest, valid[0].digest)
    if config.valid is None:
        for text, source, held_out in zip(some, train, valid, strict=True):
            tell_share(text, source.file, held_out, report)
        if len(train) > 1:
            both = zip(train, valid, strict=True)
            train = [source._replace(held_out=held_out) for source, held_out in both]
    return train, valid[0] if len(valid) == 1 else joined(config, valid, tokenizer, report)


def tell_share(
    config: TextConfig, train: TokenFile, valid: TokenFile, report: Callable[[str], None]
) -> None:
    """Says where what is held out of a few documents is not nearly the share that was asked for:
    whole ones, or of a very short one its last characters."""
    asked, share = config.valid_fraction, valid.bytes / max(1, train.bytes + valid.bytes)
    documents = sum(int(file.manifest["documents"]) for file in (train, valid))
    apart = not asked / FAR < share < asked * FAR or not (1 - asked) / FAR < 1 - share
    if apart and documents <= FEW and config.made_by_tokenize("valid") is None:
        if documents == 2 and len(first_names(listing(config.train), config.on_error)[1]) == 1:
            why = "one short document, whose end is held out; set data.valid, or give more text"
        else:
            why = f"{documents} documents, which are held out whole; set data.valid, or give more "
            why += "files"
        report(
            f"warning: held out {share:.0%} of the text of {config.train} where "
            f"data.valid_fraction asks {asked:.0%}: it has {why}"
        )


def prepare_part(
    config: TextConfig, tokenizer: Tokenizer, part: Part, report: Callable[[str], None]
) -> TokenFile:
    ready = config.made_by_tokenize(part)
    if ready is None:
        source = config.valid if part == "valid" and config.valid else config.train
        key = [
            fingerprint(source),
            None if config.valid else config.valid_fraction,
            config.on_error,
            tokenizer.digest,
            FORMAT,
            DIVISION,
        ]
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]
        ready = cache_folder(config) / "tokens" / name / part
        if not (ready / "manifest.json").exists():
            write_tokens(config.documents(part), tokenizer, ready, source, report)
    return TokenFile.open(ready, vocab_size=tokenizer.vocab_size, tokenizer_digest=tokenizer.digest)


def joined(
    config: TextConfig,
    files: list[TokenFile],
    tokenizer: Tokenizer,
    report: Callable[[str], None],
) -> TokenFile:
    """The documents of several files as one."""

    def rows() -> Iterator[Row]:
        for file in files:
            ends = [*file.documents[1:].tolist(), len(file.tokens)]
            for start, end in zip(file.documents.tolist(), ends, strict=True):
                yield file.tokens[start:end], 0 if start else file.bytes, True

    key = json.dumps([FORMAT, tokenizer.digest, [file.digest for file in files]])
    folder = cache_folder(config) / "tokens" / hashlib.sha256(key.encode()).hexdigest()[:20]
    if not (folder / "manifest.json").exists():
        source = ", ".join(str(file.manifest["source"]) for file in files)
        write_rows(rows(), tokenizer, folder, source, report)
    return TokenFile.open(
        folder, vocab_size=tokenizer.vocab_size, tokenizer_digest=tokenizer.digest
    )


def decoded(folder: Path) -> Iterator[Document]:
    """The documents of a token file that lies beside its tokenizer.

    Raises:
      DataError: its tokenizer loses what text it had: line ends, or capitals.
    """
    beside = folder.parent / "tokenizer"
    tokenizer = load(beside)
    if not tokenizer.lossless:
        raise DataError(
            f"{folder} holds {tokenizer.kind} tokens, which do not give their text back: name the "
            f"text itself, and tokenizer.path={beside}"
        )
    file = TokenFile.open(
        folder, vocab_size=tokenizer.vocab_size, tokenizer_digest=tokenizer.digest
    )
    ends = [*file.documents[1:].tolist(), len(file.tokens)]
    return (
        Document(f"{folder}:{number}", tokenizer.decode(file.tokens[start : end - 1].tolist()))
        for number, (start, end) in enumerate(zip(file.documents.tolist(), ends, strict=True))
    )


def cache_folder(config: TextConfig) -> Path:
    chosen = config.cache or os.environ.get("LM_CACHE")
    return at_home(chosen) if chosen else Path.home() / ".cache" / "lm"
