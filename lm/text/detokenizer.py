"""Text as people write it, from the word-by-word form of old corpora, and exactly back again.

GPT-2 was read on WikiText, Penn Treebank and One Billion Words after "invertible de-tokenizers",
worth 2.5 to 5 points of perplexity (Radford et al. 2019, section 3.1); its code never came out.
Being invertible is what lets a perplexity per original word be said of the rewritten text.

Here the way back is the definition: `split` says which words a piece between blanks stands for,
and two words are written together only where `split` takes them apart again. A word that `split`
would not leave whole gets a mark before it, U+2060, which has no width. So every text comes back,
and rules that guess wrong cost a blank, never a word.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence

MARK = "\u2060"  # the rest of the piece is one word, as it stands
CLITICS = r"n't|'(?:s|S|re|ve|ll|m|d)"  # as the Penn Treebank cuts them
SHORT = (
    "Mr Mrs Ms Dr St Jr Sr No Nos Co Corp Inc Ltd Bros vs var pp Sgt Lt Col Gen Capt Gov Sen Rep "
    "Prof Rev Jan Feb Aug Sept Oct Nov Dec"
).split()


@dataclasses.dataclass(frozen=True)
class Detokenizer:
    """The conventions of one corpus. Keys are its words, values how they are written."""

    left: Mapping[str, str]  # against the word before
    right: Mapping[str, str]  # against the word after
    pairs: tuple[str, ...] = ()  # quotation marks that open and close alike, in turn
    inner: Mapping[str, str] = dataclasses.field(default_factory=dict)  # against both
    figures: Mapping[str, str] = dataclasses.field(default_factory=dict)  # both, between digits
    clitics: str = CLITICS  # a pattern: ends that are words of their own
    period: bool = True  # a full stop is a word, unless it is of an abbreviation
    escapes: tuple[tuple[str, str], ...] = ()  # within words
    runs: tuple[str, ...] = ()  # words that stand against their own kind alone: headings
    edges: bool = False  # a line begins and ends with a blank

    def write(self, text: str) -> str:
        """The text as people would write it."""
        lines = text.removesuffix("\n").split("\n")
        written = [self._write_line(line) for line in lines]
        if text.endswith("\n"):
            written.append("")
        elif written[1:] and not written[-1]:  # it would make the last line break the text's end
            written[-1] = f"{MARK} {lines[-1]}"
        return "\n".join(written)

    def restore(self, written: str) -> str:
        """The text that was given to `write`: `restore(write(text)) == text` for every text."""
        return "\n".join(map(self._restore_line, written.removesuffix("\n").split("\n"))) + (
            "\n" if written.endswith("\n") else ""
        )

    def _write_line(self, line: str) -> str:
        if not self.edges:
            return " ".join(self._pieces(line.split(" ")))
        if line == " ":
            return ""
        body = line[1:-1]
        if body and body.strip(" ") == body and line == f" {body} ":
            return " ".join(self._pieces(body.split(" ")))
        return " ".join([MARK, *self._pieces(line.split(" "))])  # a line of another form

    def _restore_line(self, line: str) -> str:
        other = line.startswith(f"{MARK} ")
        words = [word for piece in line.split(" ") for word in self.split(piece)]
        if not self.edges:
            return " ".join(words)
        if other:
            return " ".join(words[1:])
        return f" {' '.join(words)} " if line else " "

    def _pieces(self, words: Sequence[str]) -> list[str]:
        """What stands between the blanks of the written line."""
        pieces: list[str] = []
        last: list[str] = []  # words of the last piece
        opened: set[str] = set()
        joined, at = False, 0  # whether the last word wants the next one against it
        while at < len(words):
            word, some = words[at], 1
            before, after = joined, False
            written = self._spelled(word)
            if word in self.pairs:
                plural = word == "'" and bool(last) and last[-1][-1:] in ("s", "S")
                if word in opened or (plural and not joined):
                    before = True
                    opened.discard(word)
                else:
                    after = True
                    opened.add(word)
            elif word in self.right:
                written, after = self.right[word], True
            elif word in self.left:
                written, before = self.left[word], True
            elif re.fullmatch(self.clitics, word) or (word in self.runs and last[-1:] == [word]):
                before = True
            elif last and at + 1 < len(words):
                between = self._between(last[-1], word, words[at + 1])
                if between is not None:
                    written, before, some = between + self._spelled(words[at + 1]), True, 2
            new = list(words[at : at + some])
            if before and last and self.split(pieces[-1] + written) == tuple(last + new):
                pieces[-1] += written
                last += new
            else:
                word, some = words[at], 1
                written = written if len(new) == 1 else self._spelled(word)
                pieces.append(written if self.split(written) == (word,) else MARK + word)
                last = [word]
            joined = after
            at += some
        return pieces

    def _between(self, left: str, word: str, right: str) -> str | None:
        """How a word that ties its two neighbours is written, where it is one."""
        if word in self.figures and left[-1:].isdigit() and right[:1].isdigit():
            return self.figures[word]
        return self.inner.get(word)

    def _spelled(self, word: str) -> str:
        for theirs, ours in self.escapes:
            word = word.replace(theirs, ours)
        return word

    @functools.cached_property
    def _opens(self) -> dict[str, str]:
        return {mark: mark for mark in self.pairs} | {to: word for word, to in self.right.items()}

    @functools.cached_property
    def _closes(self) -> dict[str, str]:
        alike = {mark: mark for mark in (*self.pairs, *self.runs)}
        return alike | {to: word for word, to in self.left.items()}

    @functools.cached_property
    def _patterns(self) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
        """Of what ends a piece, of a clitic at the end of a part, of what ties two parts."""

        def any_of(words: Sequence[str]) -> str:
            return "|".join(map(re.escape, sorted(words, key=len, reverse=True))) or r"(?!)"

        figures = rf"(?<=\d)(?:{any_of(tuple(self.figures.values()))})(?=\d)"
        inner = rf"(?<=.)(?:{any_of(tuple(self.inner.values()))})(?=.)"
        return (
            re.compile(rf"(?<=.)(?:{any_of(tuple(self._closes))})\Z", re.DOTALL),
            re.compile(rf"(?<=.)(?:{self.clitics})\Z", re.DOTALL),
            re.compile(f"({figures}|{inner})", re.DOTALL),
        )

    def split(self, piece: str) -> tuple[str, ...]:
        """The words that a piece between blanks stands for."""
        if piece.startswith(MARK):
            return (piece[len(MARK) :],)
        ends, clitic, ties = self._patterns
        head: list[str] = []
        tail: list[str] = []
        while len(piece) > 1 and piece[0] in self._opens and not re.fullmatch(self.clitics, piece):
            head.append(self._opens[piece[0]])
            piece = piece[1:]
        while (end := ends.search(piece)) and not self._abbreviates(piece, end[0]):
            tail.append(self._closes[end[0]])
            piece = piece[: end.start()]
        if len(piece) == 1 and piece in (self._closes if head else self._opens | self._closes):
            sides = (self._closes, self._opens) if head else (self._opens, self._closes)
            middle = [sides[0].get(piece) or sides[1][piece]]
        else:
            middle = []
            for number, part in enumerate(ties.split(piece)):
                if number % 2:
                    middle.append(self._ties[part])
                elif end := clitic.search(part):
                    middle += [self._plain(part[: end.start()]), end[0]]
                else:
                    middle.append(self._plain(part))
        return (*head, *middle, *reversed(tail))

    @functools.cached_property
    def _ties(self) -> dict[str, str]:
        return {to: word for word, to in (*self.figures.items(), *self.inner.items())}

    def _abbreviates(self, piece: str, end: str) -> bool:
        if end != ".":
            return False
        rest = piece[:-1]
        return not self.period or "." in rest or len(rest) == 1 and rest.isalpha() or rest in SHORT

    def _plain(self, written: str) -> str:
        for theirs, ours in self.escapes:
            written = written.replace(ours, theirs)
        return written


def same(words: str) -> dict[str, str]:
    """Words that are written as they are."""
    return {word: word for word in words.split()}


WIKITEXT = Detokenizer(
    left=same(", . ; : ! ? ) ] } % ° ... ′ ″ ” ’"),
    right=same("( [ { $ £ € “ ‘"),
    pairs=('"', "'"),
    inner={"@-@": "-", "—": "—"},
    figures={"@,@": ",", "@.@": ".", "–": "–", "/": "/"},
    clitics=r"'\w+",  # it cuts before every apostrophe: can 't, o 'clock
    runs=("=",),
    edges=True,
)
PTB = Detokenizer(
    left=same("' %") | {"-rrb-": ")", "-rcb-": "}", "''": '"'},
    right=same("$ #") | {"-lrb-": "(", "-lcb-": "{", "``": '"'},
    period=False,
    escapes=((r"\/", "/"),),
    edges=True,
)
ONE_BILLION = Detokenizer(
    left=same(", . ; : ! ? ) ] % ..."),
    right=same("( [ $ £ €"),
    pairs=('"', "'"),
)
CBT = Detokenizer(  # the Penn Treebank's marks, in their upper case
    left=same(", . ; : ! ? % ' ...") | {"-RRB-": ")", "-RSB-": "]", "-RCB-": "}", "''": '"'},
    right=same("$ £") | {"-LRB-": "(", "-LSB-": "[", "-LCB-": "{", "``": '"', "`": "'"},
    escapes=((r"\/", "/"),),
)
