"""Words split as spaCy's loop splits them, in time that grows as the text does."""

import random
import re
import time

from lm.text import english
from lm.text.english import PREFIX, SPECIAL, SUFFIX, split

MARKS = [*"aaaBz019.....!?,;:'’\"()[]-–+=/@#%$°Fskm…*_&é", "...", "'s", "n't", "Mr.", "km", "://",
         "a.m.", ":)", "US$", "%", ".com", "§", "اكواب"]  # fmt: skip


def as_spacy(chunk, special):
    """The rule as spaCy has it: each step searches all that is left."""
    before, after = [], []
    while chunk and chunk not in special:
        prefix = PREFIX.match(chunk)
        taken = prefix.end() if prefix else 0
        if taken and chunk[taken:] in special:
            before.append(chunk[:taken])
            chunk = chunk[taken:]
            break
        suffix = SUFFIX.search(chunk[taken:])
        left = len(chunk) - (suffix.end() - suffix.start() if suffix else 0)
        if left < len(chunk) and chunk[:left] in special:
            after.append(chunk[left:])
            chunk = chunk[:left]
            break
        if taken:
            before.append(chunk[:taken])
        if left < len(chunk):
            after.append(chunk[left:])
        if not taken and left == len(chunk):
            break
        chunk = chunk[taken:left]
    return [*before, *english._inner(chunk, special), *reversed(after)]


def test_random_marks_and_letters_are_split_as_by_searching_all_that_is_left():
    drawn = random.Random(0)
    for special in (SPECIAL, {}):
        for _ in range(1000):
            text = "".join(drawn.choices(MARKS, k=drawn.randint(1, 30)))
            assert english._without_affixes(text, special) == as_spacy(text, special), text


def test_an_address_is_one_with_a_colon_before_its_at_or_without():
    longer = english.ADDRESS.pattern.replace(r"(?:\S+@)?", r"(?:\S+(?::\S*)?@)?")
    assert longer != english.ADDRESS.pattern
    drawn, found = random.Random(0), 0
    for _ in range(4000):
        text = "".join(drawn.choices(["a", "b.com", ".", ":", "@", "//", "1", "-", "http://"], k=7))
        address = re.match(longer, text)
        assert bool(english.ADDRESS.match(text)) == bool(address), text
        found += bool(address)
    assert found > 100


def test_long_runs_of_marks_are_split_in_time_that_grows_as_they_do():
    split("warm")
    for part in ("!", "=", "'s", ".", "a.", "a:b@", "§", "…"):
        began = time.process_time()
        assert "".join(split(part * (4000 // len(part)))) == part * (4000 // len(part))
        assert time.process_time() - began < 2, part
