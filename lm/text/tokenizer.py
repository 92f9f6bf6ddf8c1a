"""The tokenizer of a run: which one, made or loaded, and kept with the run.

tokenizer = build(TokenizerConfig(kind="sentencepiece", vocab=8000), texts)
tokenizer.save(workdir / "tokenizer")
tokenizer = load(workdir / "tokenizer")
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lm.core.errors import ConfigError, DataError
from lm.core.paths import at_home, run_path
from lm.text import gpt1, gpt2, sentencepiece, wordpiece
from lm.text.added import with_specials
from lm.text.byte import ByteTokenizer
from lm.text.interface import FORMAT, MANIFEST, SPECIALS, Tokenizer
from lm.text.whole import require_alike, with_added

__all__ = ["SPECIALS", "Tokenizer", "TokenizerConfig", "build", "load"]

Kind = Literal["bytes", "sentencepiece", "gpt2", "gpt1", "wordpiece"]


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """Which tokenizer. `path` is a published or saved one: a folder, or a sentencepiece .model.

    Sentencepiece, WordPiece and GPT-1's BPE without a path are trained on the run's own text, with
    `vocab` pieces, or as many as it fills; `vocab` means nothing otherwise. `cased` keeps the case,
    for WordPiece alone.
    """

    kind: Kind = "bytes"
    path: str | None = None
    vocab: int = 8192
    cased: bool = False

    def __post_init__(self) -> None:
        if self.kind == "gpt2" and not self.path:
            raise ConfigError(
                f"tokenizer.kind={self.kind!r} with tokenizer.path={self.path!r}: set the path to "
                "the folder that holds the published vocabulary"
            )
        if self.kind == "bytes" and self.path:
            raise ConfigError(
                f"tokenizer.kind='bytes' with tokenizer.path={self.path!r}: bytes are not loaded; "
                "leave the path unset, or name the kind that is in it"
            )
        if self.trained and self.vocab < 1:
            raise ConfigError(
                f"tokenizer.kind={self.kind!r} with tokenizer.vocab={self.vocab}: train at "
                "least a few hundred pieces"
            )
        if self.cased and self.kind != "wordpiece":
            raise ConfigError(
                f"tokenizer.kind={self.kind!r} with tokenizer.cased=True: only wordpiece has the "
                "choice; leave it unset"
            )

    @property
    def trained(self) -> bool:
        """Whether it is learned on the run's own text."""
        return self.kind in ("sentencepiece", "wordpiece", "gpt1") and not self.path


def build(config: TokenizerConfig, texts: Callable[[], Iterable[str]]) -> Tokenizer:
    """The tokenizer that `config` names; `texts` is called only where one has to be trained."""
    if config.trained and config.kind == "sentencepiece":
        return sentencepiece.train(texts, config.vocab)
    if config.trained and config.kind == "wordpiece":
        return wordpiece.train(texts, config.vocab, cased=config.cased)
    if config.trained and config.kind == "gpt1":
        return gpt1.train(texts, config.vocab)
    if not config.path:
        return ByteTokenizer()
    path = at_home(config.path)
    if not path.exists():
        raise DataError(f"tokenizer.path={config.path}: no such file or folder")
    saved = (path / MANIFEST).is_file()
    tokenizer = load(path) if saved else _given(config.kind, path, config.cased)
    if tokenizer.kind != config.kind:
        raise ConfigError(
            f"tokenizer.path={config.path} holds a {tokenizer.kind} tokenizer, "
            f"tokenizer.kind is {config.kind!r}: change one of the two"
        )
    if isinstance(tokenizer, wordpiece.WordPieceTokenizer) and tokenizer.cased != config.cased:
        raise ConfigError(
            f"tokenizer.path={config.path} says that its words are "
            f"{'cased' if tokenizer.cased else 'lower-cased'}, tokenizer.cased is "
            f"{config.cased}: --set tokenizer.cased={tokenizer.cased}"
        )
    return tokenizer


def load(folder: str | Path) -> Tokenizer:
    """The tokenizer that `save` wrote into `folder`, its digest compared with the manifest's.

    DataError where files are missing, changed, or of a later version of this program.
    """
    folder = run_path(folder)
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text())
        version, kind, digest = manifest["format"], manifest["kind"], manifest["digest"]
        names = sorted(manifest["specials"], key=manifest["specials"].__getitem__)
    except OSError:
        raise DataError(f"no tokenizer in {folder}: {MANIFEST} is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{file} is damaged: copy the folder again, or make it anew") from None
    if version != FORMAT:
        raise DataError(f"{file} has format {version}, this program reads {FORMAT}: update it")
    tokenizer = with_specials(_read(kind, folder), names)
    if tokenizer.digest != digest:
        raise DataError(
            f"the tokenizer in {folder} was changed after it was saved (digest "
            f"{tokenizer.digest[:12]}, manifest {str(digest)[:12]}): restore its files"
        )
    return tokenizer


def _given(kind: str, path: Path, cased: bool) -> Tokenizer:
    """One that others wrote, with what they say beside it."""
    tokenizer = _read(kind, path, cased)
    folder = path if path.is_dir() else path.parent
    if kind == "sentencepiece" and not sentencepiece.embedded(folder):  # its model says all of it
        return tokenizer
    tokenizer = with_added(tokenizer, folder)
    require_alike(tokenizer, folder)
    return tokenizer


def _read(kind: str, path: Path, cased: bool = False) -> Tokenizer:
    match kind:
        case "bytes":
            return ByteTokenizer()
        case "sentencepiece":
            return sentencepiece.read(path)
        case "gpt2":
            return gpt2.read(path)
        case "gpt1":
            return gpt1.read(path)
        case "wordpiece":
            return wordpiece.read(path, cased=cased)
    raise DataError(f"{path} holds a tokenizer of the unknown kind {kind!r}: update this program")
