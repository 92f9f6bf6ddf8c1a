"""What labelers said, as lines of a file: appended, forced to the disk, never changed.

`labels/*.jsonl` hold one object a line. A later record of the same item and labeler replaces the
earlier one, an undo removes it. A line cut off by a crash is skipped, told, and cut away.
"""

import dataclasses
import datetime
import errno
import fcntl
import json
import os
import threading
from collections.abc import Container
from pathlib import Path
from typing import Any, BinaryIO

from lm.data.labels import FILE, KINDS, from_the_oldest

NUMBERS = (int, float, type(None))  # and no bool


@dataclasses.dataclass
class Labels:
    """The records of a folder, which is made where it is not there.

    Raises:
      OSError: nothing can be kept in it.
    """

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self.folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.folder))
        self._lock = threading.Lock()
        self.damaged = 0  # lines that are no record
        self.records: list[dict[str, Any]] = []
        for path in from_the_oldest(sorted(self.folder.glob("*.jsonl"))):
            found, damaged = read_lines(path)
            found = [one for one in found if one.get("kind") in KINDS]
            self.records += [one for one in found if whole(one)]
            self.damaged += damaged + sum(not whole(one) for one in found)

    def keep(self, record: dict[str, Any]) -> bool:
        """Keeps a record, which is on the disk when this returns, unless it says what counts
        already: it may have been sent twice. A skip stands for nothing that was said. Returns
        whether the record stands for another from now on."""
        with self._lock:
            known = self.current().get((record["item"], record["labeler"]), {})
            new = {**known, "time": None} != {**record, "time": None}
            new = new and (record["kind"] != "skip" or not known)
            if new:
                self._append(record)
            return new and bool(known)

    def take_back(self, labeler: str, items: Container[str]) -> dict[str, Any] | None:
        """Removes what a labeler said last of these items, and returns it; None where there is
        nothing."""
        with self._lock:
            last = self.last_of(labeler, items)
            if last is not None:
                name = last["item"]
                self._append({"kind": "undo", "item": name, "of": name, "labeler": labeler})
        return last

    def _append(self, record: dict[str, Any]) -> None:
        now = datetime.datetime.now(datetime.UTC)
        record = record | {"time": now.isoformat(timespec="milliseconds")}
        append_line(self.folder / FILE, record)
        self.records.append(record)

    def current(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The record that counts of each (item, labeler)."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for record in list(self.records):
            if record["kind"] == "undo":
                found.pop((record["of"], record["labeler"]), None)
            else:
                key = record["item"], record["labeler"]
                found.pop(key, None)  # the newest comes last
                found[key] = record
        return found

    def last_of(self, labeler: str, items: Container[str]) -> dict[str, Any] | None:
        """What a labeler said last of these items and has not taken back."""
        every = self.current().items()
        own = [one for (item, name), one in every if name == labeler and item in items]
        return own[-1] if own else None


def whole(record: dict[str, Any]) -> bool:
    """Whether a record says of what it is, by whom, and how each answer was ranked and rated."""
    names = ("of" if record["kind"] == "undo" else "item", "labeler")
    if not all(isinstance(record.get(name), str) for name in names):
        return False
    if record["kind"] != "ranking":
        return True
    answers, ranks, ratings = (record.get(name) for name in ("answers", "ranks", "ratings"))
    return (
        isinstance(answers, list) and all(isinstance(one, str) for one in answers)
        and isinstance(ranks, list) and all(type(rank) is int for rank in ranks)
        and len(answers) == len(ranks)
        and isinstance(ratings or [], list) and all(type(one) in NUMBERS for one in ratings or [])
    )  # fmt: skip


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Appends a line and forces it to the disk. Of a line that a crash cut off nothing stays: who
    reads the file for training forgives an unfinished line at its end alone."""
    line = json.dumps(record, ensure_ascii=False).encode("utf-8", errors="replace") + b"\n"
    new = not path.exists()
    with path.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # a server and a terminal may keep the same file
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = mended(file) + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if new:  # a new name is on the disk when its folder is
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def mended(file: BinaryIO) -> bytes:
    """Cuts off the unfinished last line; where only its end is missing, that end."""
    file.seek(0)
    text = file.read()
    begin = text.rfind(b"\n") + 1
    try:
        json.loads(text[begin:])
    except ValueError:
        file.truncate(begin)
        return b""
    return b"\n"


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The objects of a file of lines, and how many lines are none."""
    found: list[dict[str, Any]] = []
    damaged = 0
    if not path.is_file():
        return found, damaged
    for line in path.read_bytes().split(b"\n"):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            damaged += 1
            continue
        if isinstance(record, dict):
            found.append(record)
        else:
            damaged += 1
    return found, damaged
