"""From tokens to text while they come: what is certain, and nothing of a stop string."""

from collections.abc import Sequence

from lm.serve.spelling import Spelling


class Writer:
    """The text of one answer, which ends before the first of `stops`.

    It begins with `echoed`, which no stop string ends, as none ends the `least` tokens after it:
    the answer goes on with its spelling, since how the two meet, a blank or half a character,
    neither tells alone.
    """

    def __init__(
        self, spelling: Spelling, stops: Sequence[str] = (), echoed: Sequence[int] = (),
        least: int = 0,
    ):  # fmt: skip
        self._spelling, self._least = spelling, least
        self._stops = [stop for stop in stops if stop]
        self._held = ""  # may be the beginning of a stop string
        self.stopped = False
        self.text = "".join(map(spelling.add, echoed))  # given out so far
        self._unsearched = spelling.size - len(self.text)  # characters to come that end nothing

    def add(self, token: int) -> str:
        """What can be shown now that this token has come."""
        before = self._spelling.size
        new = self._spelling.add(token)
        if self._least > 0:
            self._least -= 1
            self._unsearched += self._spelling.size - before
        return self._show(new, last=False)

    def finish(self) -> str:
        """What is left when no more comes."""
        return self._show(self._spelling.finish(), last=True)

    def _show(self, new: str, *, last: bool) -> str:
        if self.stopped:
            return ""
        echo, new = new[: self._unsearched], new[self._unsearched :]
        self._unsearched -= len(echo)
        text = self._held + new
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.stopped, self._held, shown = True, "", text[: min(places)]
        else:
            keep = 0 if last else max(map(len, self._stops), default=1) - 1
            held = next(
                (size for size in range(min(keep, len(text)), 0, -1)
                 if any(stop.startswith(text[-size:]) for stop in self._stops)),
                0,
            )  # fmt: skip
            self._held = text[len(text) - held :]
            shown = text[: len(text) - held]
        self.text += echo + shown
        return echo + shown
