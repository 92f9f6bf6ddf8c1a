"""Files behind links: each is read, and each once.

A folder of text may hold links to other disks, a link back to itself, or two to one file.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from lm.core.errors import DataError

Tell = Callable[[str], None]  # says a line


def below(folder: Path, named: Callable[[Path], bool], tell: Tell) -> list[Path]:
    """The files in a folder that are named so, however deep and behind which links, sorted.

    Raises:
      DataError: a link so named leads to nothing.
    """
    paths = (Path(place, name) for place, names in walked(folder, tell) for name in names)
    return sorted(path for path in present(filter(named, paths)) if path.is_file())


def behind_links(folder: Path, tell: Tell) -> list[Path]:
    """The links to folders in a folder, of which all is read with it."""
    return [Path(place) for place, _ in walked(folder, tell) if os.path.islink(place)]


def walked(root: Path, tell: Tell) -> Iterator[tuple[str, list[str]]]:
    """Each folder in a folder and what is in it and is none: none twice, and none that holds
    `root`. Links to folders are followed after all else, which so has the names that it had without
    them. One that cannot be read is told of."""

    def left_out(error: OSError) -> None:
        tell(f"warning: {error.filename} is left out: {error.strerror}")

    seen = {str(above) for above in Path(os.path.realpath(root)).parents}
    again = []
    starts = [os.fspath(root)]
    for start in starts:  # links are added at its end
        for folder, folders, names in os.walk(start, onerror=left_out):
            real = os.path.realpath(folder)
            if real in seen:
                again.append(folder)
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            starts += filter(os.path.islink, (os.path.join(folder, name) for name in folders))
            yield folder, names
    if again:
        tell(f"warning: {shown(again)} linked to what is read already or lies around: left out")


def present(paths: Iterable[Path]) -> Iterator[Path]:
    """The same. DataError where one is a link that leads to nothing, unless it is hidden: an editor
    locks a file by one."""
    for path in paths:
        if path.is_symlink() and not os.path.exists(path) and not path.name.startswith("."):
            raise DataError(
                f"{path} is a link to {os.readlink(path)}, which is not there: mend or remove it"
            )
        yield path


def once(groups: Iterable[Iterable[Path]], tell: Tell) -> list[list[Path]]:
    """The same groups of files, with each file by the first of its names alone."""
    seen: set[str] = set()
    kept: list[list[Path]] = []
    again: list[Path] = []
    for group in groups:
        kept.append([])
        for path in group:
            real = os.path.realpath(path)
            (again if real in seen else kept[-1]).append(path)
            seen.add(real)
    if again:
        tell(f"warning: {shown(again)} named twice, or linked to: each file is read once")
    return kept


def shown(paths: Sequence[str | Path]) -> str:
    more = f" and {len(paths) - 1} more are" if len(paths) > 1 else " is"
    return f"{paths[0]}{more}"
