"""English prose cut into sentences by rule, for BERT's next-sentence task.

The official code wants one sentence a line and leaves the cutting to its user. These rules know
titles, initials, numbers, ellipses and speech in quotation marks; what they cannot know is meaning,
so "in the U.S. Congress" may be cut. BERT needs segments that mostly end where sentences do.
"""

import re
from collections.abc import Iterator

LONGEST = 2000  # characters of a sentence; what is longer is cut at a blank
WRAPPED = 100  # characters of a line that an editor wrapped

# A full stop after these ends nothing.
TITLES = frozenset(
    "mr mrs ms messrs mme mlle mm dr st ste rev revd hon prof capt col gen lieut lt sergt sgt maj "
    "cpl adm gov sen rep pres supt mt ft esq bros viz vs cf eg ie ed eds trans i.e e.g".split()
)
# After these only where a number follows: "No. 5", but "No. I will not."
NUMBERED = frozenset("no nos p pp vol vols ch chap fig art sec ll lib".split())
MONTHS = frozenset("jan feb mar apr jun jul aug sept sep oct nov dec".split())

CLOSERS = "\"'”’)\\]»*_"
OPENERS = "\"'“‘(\\[«*_—–-"
# What may end a sentence: its mark, closing quotes, blanks, and then what may begin the next.
# Runs of marks are read once and never again, so that a line of dots takes linear time.
CANDIDATE = re.compile(
    rf"(?<![.!?…])(?<![.!?…]\s)[.!?…](?:\s?[.!?…])*+([{CLOSERS}]*+)\s+(?=[{OPENERS}]*[^\W_a-z])"
)
TITLE_LAST = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(TITLES)))})\.$", re.IGNORECASE)
FINAL = re.compile(rf"[.!?…][{CLOSERS}]*$")
LAST_WORD = re.compile(r"[^\s—–\-\"'“‘(\[]*$")
LOWER_WORD = re.compile(r"\b[a-z]+\s+$")
# The verb that says who spoke: `"Come!" Mr. Darcy cried.` is one sentence.
SPEECH = re.compile(
    r"(?:I|He|She|(?:(?:Mr|Mrs|Dr|Miss|Lady|Lord|Sir)\.? )?[A-Z]\w+(?: [A-Z]\w+)?) (?:said|says|"
    r"cried|asked|replied|answered|exclaimed|repeated|whispered|murmured|returned|shouted|observed|"
    r"remarked|muttered|called|added|continued|thought|began|interrupted|demanded|inquired)\b"
)
HEADING = re.compile(
    r"\s*(?:(?:CHAPTER|BOOK|PART|VOLUME|CANTO|ACT|SCENE|LETTER|EPILOGUE|PROLOGUE|Chapter|Book|"
    r"Part|Volume)\b.{0,60}|[IVXLC]{1,8}\.?|\d{1,3}\.?)\s*"
)


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a text: its lines, or where an editor wrapped them, what they belong to.

    A wrapped paragraph ends at an empty line, before or after a heading, and at a line that stops
    well before the margin with the end of a sentence. None ends with a title ("to Mrs.").
    """
    lines = [line.strip() for line in text.splitlines()]
    widths = sorted(len(line) for line in lines if line)
    if not widths:
        return
    margin = widths[len(widths) * 9 // 10]
    wrapped = widths[len(widths) * 99 // 100] <= WRAPPED and widths[len(widths) // 2] >= margin / 2
    block: list[str] = []
    for line in lines:
        heading = is_heading(line)
        open_end = bool(block) and TITLE_LAST.search(block[-1]) is not None
        if block and not open_end and (not line or heading or not wrapped):
            yield " ".join(block)
            block = []
        if line:
            block.append(line)
        if line and (heading or (len(line) < 0.8 * margin and closes(line))):
            yield " ".join(block)
            block = []
    if block:
        yield " ".join(block)


def closes(line: str) -> bool:
    return FINAL.search(line) is not None and TITLE_LAST.search(line) is None


def is_heading(paragraph: str) -> bool:
    """Whether a paragraph only says that a chapter begins."""
    return len(paragraph) <= 80 and HEADING.fullmatch(paragraph) is not None


def sentences(paragraph: str) -> Iterator[str]:
    """The sentences of one paragraph, none of them empty or over LONGEST characters."""
    start = 0
    for found in CANDIDATE.finditer(paragraph):
        if ends(paragraph, start, found):
            yield from shortened(paragraph[start : found.end()].strip())
            start = found.end()
    yield from shortened(paragraph[start:].strip())


def ends(text: str, start: int, found: re.Match[str]) -> bool:
    """Whether a sentence that begins at `start` ends at a candidate."""
    mark, after = text[found.start() : found.start(1)], found.end()
    if found[1] and SPEECH.match(text, after):
        return False
    if mark != ".":  # a question, a cry, an ellipsis
        return True
    word = LAST_WORD.search(text, max(start, found.start() - 40), found.start())
    last = word[0] if word else ""
    lower = last.lower()
    if found[1] or not last:
        return True
    if lower in TITLES:
        return False
    if lower in NUMBERED or lower in MONTHS:
        return not text[after].isdigit()
    if len(last) == 1 and last.isupper():  # an initial, unless it is the pronoun: "It was I."
        return last == "I" and LOWER_WORD.search(text, start, found.start() - 1) is not None
    return not (re.fullmatch(r"(?:[A-Z]\.)+[A-Z]", last) and text[after].isupper())


def shortened(sentence: str) -> Iterator[str]:
    while len(sentence) > LONGEST:
        cut = sentence.rfind(" ", 1, LONGEST)
        cut = cut if cut > 0 else LONGEST
        yield sentence[:cut].rstrip()
        sentence = sentence[cut:].lstrip()
    if sentence:
        yield sentence
