"""Tokenizes text once, for many runs, and checks what was tokenized.

python -m launch.tokenize --text=books/ --out=data/books --kind=sentencepiece --vocab=8000
python -m launch.tokenize --text='wiki/*.jsonl.gz' --out=data/wiki --kind=gpt2 --path=vocab_gpt2
python -m launch.tokenize --verify=data/books

Writes OUT/tokenizer, OUT/train and OUT/valid; a run reads them with data.train=OUT. BERT cuts the
text into sentences, which WordPiece tokens do not give back: it reads the text, data.train=books/,
and may take the vocabulary alone, tokenizer.path=OUT/tokenizer.
"""

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from absl import flags

from launch.command import run, told_by_flags
from lm.core.errors import ConfigError, DataError
from lm.core.paths import at_home

if TYPE_CHECKING:
    from lm.data.sources import OnError
    from lm.data.tokens import TextConfig
    from lm.text.tokenizer import Kind, Tokenizer, TokenizerConfig

TEXT = flags.DEFINE_string(
    "text", None, "Text: files, folders, globs, stdlib: or hf:NAME, with commas between."
)
OUT = flags.DEFINE_string("out", None, "Folder to make; it must not exist, or be empty.")
KIND = flags.DEFINE_enum(
    "kind", "bytes", ["bytes", "sentencepiece", "gpt2", "gpt1", "wordpiece"], "Tokenizer."
)
VOCAB = flags.DEFINE_integer("vocab", 8192, "Pieces of a vocabulary trained on the text.")
CASED = flags.DEFINE_bool("cased", False, "Keep the case (wordpiece).")
PATH = flags.DEFINE_string("path", None, "Published or saved tokenizer to use instead of training.")
VALID = flags.DEFINE_string("valid", None, "Text to measure on; a part of --text if not given.")
VALID_FRACTION = flags.DEFINE_float("valid_fraction", 0.1, "Part of --text that is held out.")
ERRORS = flags.DEFINE_enum(
    "errors", "stop", ["stop", "replace"], "What to do about text that is not UTF-8."
)
VERIFY = flags.DEFINE_string("verify", None, "Folder to check instead: reads every byte of it.")
OF_TOKENIZER = ("kind", "path", "vocab", "cased")  # in a run, bindings tokenizer.*


def main() -> None:
    if VERIFY.value is not None:
        if TEXT.value is not None or OUT.value is not None:
            raise ConfigError("--verify checks a folder that exists: leave --text and --out out")
        verify(at_home(VERIFY.value))
        return
    for name, value in (("text", TEXT.value), ("out", OUT.value)):
        if not value:
            raise ConfigError(f"--{name} is missing: --text=SPEC --out=FOLDER, or --verify=FOLDER")
    from lm.data.tokens import TextConfig
    from lm.text.tokenizer import TokenizerConfig

    text = TextConfig(
        train=TEXT.value or "",
        valid=VALID.value,
        valid_fraction=VALID_FRACTION.value,
        on_error=cast("OnError", ERRORS.value),
    )
    with told_by_flags({f"tokenizer.{name}": f"--{name}" for name in OF_TOKENIZER}):
        config = TokenizerConfig(
            kind=cast("Kind", KIND.value), path=PATH.value, vocab=VOCAB.value, cased=CASED.value
        )
        tokenize(text, config, at_home(OUT.value or ""))


def tokenize(text: "TextConfig", config: "TokenizerConfig", out: Path) -> None:
    """Makes `out` with its three folders; it appears whole or not at all."""
    from lm.data.sources import refuse_among
    from lm.data.token_writer import made_whole, write_tokens
    from lm.data.tokens import Part
    from lm.text.tokenizer import build

    if text.made_by_tokenize("train") is not None:
        raise ConfigError(f"--text={text.train} holds tokens: name the text they were made from")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out={out} exists: remove it, or choose another folder")
    refuse_among((text.train, text.valid), out)
    began = time.monotonic()
    with made_whole(out) as work:
        if config.trained:
            print(f"training {config.vocab} {config.kind} pieces on {text.train}", flush=True)
        tokenizer = build(config, lambda: (d.text for d in text.documents("train")))
        tokenizer.save(work / "tokenizer")
        for part in get_args(Part):
            source = text.valid if part == "valid" and text.valid else text.train
            report = lambda line, part=part: print(f"{part}: {line}", flush=True)  # noqa: E731
            write_tokens(text.documents(part), tokenizer, work / part, source, report)
    tell(tokenizer, out, time.monotonic() - began)


def tell(tokenizer: "Tokenizer", out: Path, seconds: float) -> None:
    """One summary of what was made, and how a run uses it."""
    from lm.data.token_file import TokenFile
    from lm.data.tokens import Part

    print(f"{out}: {tokenizer.kind}, {tokenizer.vocab_size:,} ids, {tokenizer.digest[:12]}")
    parts = {
        part: TokenFile.open(
            out / part, vocab_size=tokenizer.vocab_size, tokenizer_digest=tokenizer.digest
        )
        for part in get_args(Part)
    }
    for part, file in parts.items():
        length = len(file.tokens)
        print(
            f"  {part}: {len(file.documents):,} documents, {file.bytes:,} bytes, {length:,} "
            f"tokens, {file.bytes / length:.2f} bytes a token"
        )
    size = sum(file.bytes for file in parts.values())
    print(f"  {seconds:.1f} s, {size / max(seconds, 1e-9) / 1e6:.1f} MB/s")
    words = [f"data.train={out}", f"tokenizer.kind={tokenizer.kind}"]
    words += [] if tokenizer.kind == "bytes" else [f"tokenizer.path={out / 'tokenizer'}"]
    words += ["tokenizer.cased=True"] if CASED.value else []
    words += [f"model.vocab={tokenizer.vocab_size}"]
    print("use:", *(f"--set {shlex.quote(word)}" for word in words))


def verify(folder: Path) -> None:
    """Checks every token file in `folder`, or `folder` itself, and the tokenizer beside them."""
    from lm.data.token_file import TokenFile
    from lm.text.tokenizer import load

    names = [folder, folder / "train", folder / "valid"]
    found = [path for path in names if (path / "manifest.json").is_file()]
    if not found:
        raise DataError(f"no token files in {folder}: name a folder that launch.tokenize made")
    beside = found[0].parent / "tokenizer"
    tokenizer = load(beside) if beside.is_dir() else None
    for path in found:
        file = TokenFile.open(
            path,
            vocab_size=tokenizer.vocab_size if tokenizer else None,
            tokenizer_digest=tokenizer.digest if tokenizer else None,
        )
        file.verify()
        print(f"{path}: {len(file.tokens):,} tokens in {len(file.documents):,} documents, sound")


if __name__ == "__main__":
    run(main)
