"""Prepares raw text as GPT-3 did: by quality, without near copies, without what test sets hold.

python -m launch.prepare --input='crawl/*.jsonl.gz' --output=data/crawl --curated=books/,wiki/ \\
    --against=webtext/ --held_out='tests/*/*.jsonl'
python -m launch.tokenize --text=data/crawl --out=data/crawl_tokens --kind=gpt2 --path=vocab_gpt2

Writes OUTPUT/text-*.jsonl.gz and OUTPUT/report.json, which says what each step took; the same
command goes on with what was killed, after its last full file in OUTPUT.part. A step whose text is
not named is left out. Where the input is small, name other raw text with --raw: pages that the
classifier has learned from it surely calls raw.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from absl import flags

from launch.command import run
from lm.core.errors import ConfigError
from lm.core.paths import at_home

if TYPE_CHECKING:
    from lm.data.sources import OnError

INPUT = flags.DEFINE_string(
    "input", None, "Raw text: files, folders, globs, stdlib: or hf:NAME, with commas between."
)
OUTPUT = flags.DEFINE_string("output", None, "Folder to make; it must not exist.")
CURATED = flags.DEFINE_string("curated", None, "Good text, from which a classifier learns.")
RAW = flags.DEFINE_string("raw", None, "Text it learns to tell from it; --input if not given.")
COPIES = flags.DEFINE_bool("copies", True, "Remove near copies of earlier documents.")
AGAINST = flags.DEFINE_string("against", None, "Text whose near copies are removed as well.")
HELD_OUT = flags.DEFINE_string(
    "held_out", None, "Test sets (.jsonl, .json, .tsv, .txt), whose 13-grams are cut out."
)
SEED = flags.DEFINE_integer("seed", 0, "Of the draws of the quality filter.")
ERRORS = flags.DEFINE_enum(
    "errors", "stop", ["stop", "replace"], "What to do about text that is not UTF-8."
)


def main() -> None:
    for name, value in (("input", INPUT.value), ("output", OUTPUT.value)):
        if not value:
            raise ConfigError(f"--{name} is missing: --input=SPEC --output=FOLDER")
    from lm.data.cleaning import CleaningConfig, clean

    config = CleaningConfig(
        input=INPUT.value or "",
        curated=CURATED.value,
        raw=RAW.value,
        copies=COPIES.value,
        against=AGAINST.value,
        held_out=HELD_OUT.value,
        seed=SEED.value,
        on_error=cast("OnError", ERRORS.value),
    )
    out = at_home(OUTPUT.value or "")
    tell(clean(config, out), out)


def tell(figures: dict[str, Any], out: Path) -> None:
    """What each step took, one a line."""
    print(f"read:     {figures['input']['documents']:,} documents, "
          f"{figures['input']['characters']:,} characters")  # fmt: skip
    for name, title in (("quality", "quality"), ("copies", "copies")):
        if name in figures:
            print(f"{title + ':':<9} {share(figures[name])} removed")
    if "overlaps" in figures:
        cut = figures["overlaps"]
        print(
            f"overlaps: {cut['documents_touched']:,} documents cut, {cut['documents_dropped']:,} "
            f"of them dropped, {cut['share_of_characters']:.2%} of the characters removed"
        )
    print(f"written:  {figures['output']['documents']:,} documents, "
          f"{figures['output']['characters']:,} characters in {out}")  # fmt: skip


def share(figures: dict[str, Any]) -> str:
    return (
        f"{figures['documents']:,} documents ({figures['share_of_documents']:.1%}, "
        f"{figures['share_of_characters']:.1%} of the characters)"
    )


if __name__ == "__main__":
    run(main)
