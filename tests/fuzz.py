"""Files that something has happened to, and what every reader owes: the old content, or one error.

Each reader is a folder of files that it has written, and a function that reads the folder and
checks what it was given. It may raise an error of the user's; nothing else may come out of it.
"""

import json
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from experiments import gpt2
from lm.core.config import dump, load
from lm.core.errors import UserError
from lm.data import sources
from lm.data.sources import Document
from lm.data.token_file import TokenFile
from lm.data.token_writer import write_tokens
from lm.models.pretrained import read, write
from lm.text import sentencepiece, tokenizer
from lm.text.byte import ByteTokenizer
from lm.train.checkpoint import Checkpoints
from tests.models.pretrained.models import drawn
from tests.models.pretrained.models import gpt2 as small_gpt2
from tests.train.checkpoint_test import abstract, state_of


@dataclass
class Reader:
    """Files as they were written, and how they are read again."""

    folder: Path
    read: Callable[[Path], None]


def mutate(chosen: random.Random, data: bytes) -> bytes:
    """Something that happens to a file."""
    at = chosen.randrange(len(data) + 1)
    some = bytes(chosen.randrange(256) for _ in range(chosen.choice([1, 2, 8, 100])))
    kind = chosen.randrange(7)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + some + data[at:]
    if kind == 2:
        return data[:at] + some + data[at + len(some) :]
    if kind == 3:
        return data[:at] + data[at + chosen.randrange(1, 50) :]
    if kind == 4:
        return b""
    if kind == 5:  # another number, sign, bracket or quote where there is one
        places = [i for i, byte in enumerate(data[:4096]) if chr(byte) in '0123456789-.[]{}",:']
        if places:
            i = chosen.choice(places)
            return (
                data[:i]
                + chosen.choice([b"9", b"-", b"[", b'"', b"1e999", b"null"])
                + data[i + 1 :]
            )
    flipped = bytearray(data or b"\0")
    for _ in range(chosen.choice([1, 1, 5])):
        flipped[chosen.randrange(len(flipped))] ^= 1 << chosen.randrange(8)
    return bytes(flipped)


def fuzz(reader: Reader, work: Path, seconds: float, seed: int) -> tuple[int, int]:
    """Reads mutated copies for so long; how many were refused, and of how many.

    An assertion that fails names the seed that makes the same mutation again.
    """
    files = sorted(
        path.relative_to(reader.folder) for path in reader.folder.rglob("*") if path.is_file()
    )
    limit, refused, tried = time.monotonic() + seconds, 0, 0
    while time.monotonic() < limit:
        chosen = random.Random(seed + tried)
        folder = work / "mutated"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(reader.folder, folder)
        name = chosen.choice(files)
        (folder / name).write_bytes(mutate(chosen, (folder / name).read_bytes()))
        try:
            reader.read(folder)
        except UserError as error:
            assert "\n" not in str(error), f"seed {seed + tried}, {name}: {error}"
            refused += 1
        except BaseException as error:
            raise AssertionError(f"seed {seed + tried}, {name}: {error!r}") from error
        tried += 1
    return refused, tried


def readers(root: Path) -> dict[str, Reader]:
    """One of each kind, written below `root`."""
    made = {}

    texts = [Document(str(i), f"text {i} " * 50) for i in range(20)]
    bytes_of = ByteTokenizer()
    write_tokens(texts, bytes_of, root / "tokens" / "t")
    ids = np.array(np.fromfile(root / "tokens" / "t" / "tokens.bin", np.uint16))

    def tokens(folder: Path) -> None:
        file = TokenFile.open(
            folder / "t", vocab_size=bytes_of.vocab_size, tokenizer_digest=bytes_of.digest
        )
        file.verify()
        np.testing.assert_array_equal(file.tokens, ids)
        assert len(file.documents) and file.bytes >= 0

    made["tokens"] = Reader(root / "tokens", tokens)

    config = gpt2.tiny()
    (root / "config").mkdir()
    (root / "config" / "config.gin").write_text(dump(config))

    def gin(folder: Path) -> None:
        text = (folder / "config.gin").read_bytes().decode(errors="replace")
        assert load(dump(load(text))) == load(text)

    made["config"] = Reader(root / "config", gin)

    model = small_gpt2()
    params = jax.device_get(drawn(model))
    write(model, params, root / "weights")

    def weights(folder: Path) -> None:
        found, arrays = read(folder)
        assert all(np.asarray(leaf).dtype == np.float32 for leaf in jax.tree.leaves(arrays))
        assert found.parameters() == sum(leaf.size for leaf in jax.tree.leaves(arrays))

    made["weights"] = Reader(root / "weights", weights)

    checkpoints = Checkpoints(root / "checkpoints")
    for step in (1, 2):
        assert checkpoints.save(step, state_of(step), {})
    assert checkpoints.close()

    def restored(folder: Path) -> None:
        kept = Checkpoints(folder)
        try:
            found = kept.restore(abstract())
        finally:
            kept.close()
        assert found is not None
        state, manifest = found
        jax.tree.map(np.testing.assert_array_equal, state, state_of(int(state["n"])))

    made["checkpoints"] = Reader(root / "checkpoints", restored)

    (root / "records").mkdir()
    lines = [json.dumps({"text": f"line {i}"}) for i in range(50)]
    (root / "records" / "a.jsonl").write_text("\n".join(lines))
    (root / "records" / "b.txt").write_text("text, ✓ and café\r\n" * 20)

    def documents(folder: Path) -> None:
        for document in sources.documents(str(folder)):
            document.text.encode()

    made["records"] = Reader(root / "records", documents)

    learned = sentencepiece.train(
        lambda: (f"the cat {i} sat on the mat {i}" for i in range(500)), 300
    )
    learned.save(root / "tokenizer")
    expected = learned.encode("the cat sat")

    def pieces(folder: Path) -> None:
        assert tokenizer.load(folder).encode("the cat sat") == expected

    made["tokenizer"] = Reader(root / "tokenizer", pieces)
    return made
