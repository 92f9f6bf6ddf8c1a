"""F1 of named entities, as CoNLL-2003 scores them."""

from collections.abc import Sequence

from lm.core.errors import DataError

Entity = tuple[int, int, int, str]  # sentence, first word, word after the last, type


def entities(tags: Sequence[str], sentence: int = 0) -> set[Entity]:
    """The entities that a sentence's tags spell, in IOB1 or IOB2.

    The reading of `conlleval` (Tjong Kim Sang & Buchholz 2000), which seqeval's default mode has
    too: an entity goes on at I- of its own type; B-, and I- after O or after another type, begin
    one. So both ways of tagging are read, and an I- that nothing begins is an entity and no fault.

    Raises:
      DataError: a tag that is not O, B-TYPE or I-TYPE.
    """
    found: set[Entity] = set()
    start, kind = 0, None
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, now = tag.partition("-")
        if prefix not in ("B", "I") and tag != "O":
            raise DataError(f"tag {tag!r}: entities are read of O, B-TYPE and I-TYPE")
        if kind is not None and (prefix != "I" or now != kind):
            found.add((sentence, start, place, kind))
            kind = None
        if kind is None and tag != "O":
            start, kind = place, now
    return found


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
