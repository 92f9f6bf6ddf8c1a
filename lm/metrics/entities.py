"""F1 of named entities, as CoNLL-2003 scores them."""

from collections.abc import Sequence

from lm.core.errors import DataError

Entity = tuple[int, int, int, str]  # sentence, first word, word after the last, type


def entities(tags: Sequence[str], sentence: int = 0) -> set[Entity]:
    """The entities that a sentence's tags spell, in IOB1, IOB2 or BIOES.

    The reading of `conlleval` (Tjong Kim Sang & Buchholz 2000), which seqeval's default mode has
    too: an entity goes on at I- and E- of its own type, and ends with E- or S-; B- and S-, and I-
    or E- after O, after an end or after another type, begin one. So each way of tagging is read,
    and an I- that nothing begins is an entity and no fault.

    Raises:
      DataError: a tag that is not O or a type behind B-, I-, E- or S-.
    """
    found: set[Entity] = set()
    start, kind = 0, None
    for place, tag in enumerate([*tags, "O"]):
        prefix, now = parted(tag)
        if kind is not None and (prefix not in "IE" or now != kind):
            found.add((sentence, start, place, kind))
            kind = None
        if kind is None and prefix != "O":
            start, kind = place, now
        if kind is not None and prefix in "ES":
            found.add((sentence, start, place + 1, kind))
            kind = None
    return found


def parted(tag: str) -> tuple[str, str]:
    """What a tag says of its place in an entity, O, B, I, E or S, and the type. Raises DataError
    where it is no such tag."""
    prefix, _, kind = tag.partition("-")
    if prefix not in ("B", "I", "E", "S") and tag != "O":
        raise DataError(f"tag {tag!r}: entities are read of O, and B-, I-, E- or S- and a type")
    return prefix, kind


def entity_f1(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> float:
    """F1 of whole entities of the right type, over all sentences and types (micro average).

    It equals seqeval's `f1_score` in its default mode; 0 where no entity is found.

    Raises:
      DataError: a tag that is no such tag, or another number of sentences or tags.
    """
    if len(predictions) != len(references):
        raise DataError(f"tags of {len(predictions)} sentences for {len(references)}")
    if not references:
        raise DataError("no sentences to score")
    named: set[Entity] = set()
    true: set[Entity] = set()
    for number, (some, others) in enumerate(zip(predictions, references, strict=True)):
        if len(some) != len(others):
            raise DataError(f"sentence {number}: {len(some)} tags predicted for {len(others)}")
        named |= entities(some, number)
        true |= entities(others, number)
    return 2 * len(named & true) / max(len(named) + len(true), 1)
