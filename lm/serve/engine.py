"""Continuous batching: requests come and go while one program decodes all that are there.

A thread owns the device's state. Between two steps it takes waiting requests into free slots, a
long prompt piece by piece; a step is dispatched before the tokens of the last one are read, so that
the device does not wait for the host. A request that has ended, or that nobody waits for, frees its
slot at once; what the step already under way draws for it is thrown away.

The file is long because it is one class: what may happen between two steps, and under which lock,
is read in one place.
"""

import dataclasses
import threading
import traceback
from collections import deque
from typing import Any

import jax
import numpy as np

from lm.core.config import require
from lm.core.errors import TooLong
from lm.serve.prefill import Model, decoder
from lm.serve.programs import Ask, Likelihood, Slots, decode
from lm.serve.reading import PIECE, Reader, Reading, doubling
from lm.serve.request import (
    NOT_FINITE,
    Asked,
    Busy,
    Drawn,
    Ended,
    Event,
    Failed,
    Prompted,
)

REACH = 256  # the fewest slots of a cache that a step of all rows looks at
FEW = 2  # rows of the small decoding program; with one XLA on CPU would copy the cache
ADMITTED = 4  # prompts at most that are read between two steps


@dataclasses.dataclass
class Seat:
    """A request in its slot."""

    asked: Asked
    drawn: int = 0
    read: bool = False  # its prompt is in the slot
    done: bool = False


@dataclasses.dataclass(frozen=True)
class Flight:
    """A step under way."""

    seats: list[Seat | None]  # as they were when it began
    tokens: jax.Array
    finite: jax.Array  # whether each was drawn from numbers
    likelihood: Likelihood


class Engine:
    """Answers prompts with one model, which may see images.

    `slots` requests run at once, and `queue` more wait. `length` is the most tokens of a prompt
    with its answer; the model's context by default. `vocab` ids are tokens, by default all of the
    model's: no other is drawn, and likelihoods are over these alone. A prompt longer than `piece`
    is read in several steps, between which the others go on.
    """

    def __init__(
        self, model: Model, params: Any, *, slots: int = 8, queue: int = 64,
        length: int | None = None, vocab: int | None = None, piece: int = PIECE,
    ):  # fmt: skip
        config = decoder(model)
        require(slots >= 1, f"slots must be at least 1, got {slots}")
        require(queue >= 1, f"queue must be at least 1, got {queue}")
        self.length = min(length or config.length, config.length)
        require(self.length >= 2, f"length must be at least 2, got {self.length}")
        self.config, self.slots, self.queue = config, slots, queue
        self.vocab = min(vocab or config.vocab, config.vocab)
        self.reader = Reader(model, params, self.vocab, self.length, piece)
        self._params = self.reader.params
        self._empty = jax.jit(lambda: Slots.empty(config, self.vocab, slots, self.length))
        self._state = self._empty()
        self._seats: list[Seat | None] = [None] * slots
        self._reading: tuple[Seat, Reading] | None = None  # what takes several steps
        self._waiting: deque[Asked] = deque()
        self._changed = threading.Condition()
        self._closing = self._draining = False
        self.failed = False  # whether an error of ours has ended it
        self.steps = 0  # decoding steps so far
        self.tokens = 0  # tokens told so far
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    # ------------------------------------------------------------ from any thread

    def start(self) -> "Engine":
        """Compiles every program, then begins to answer."""
        self.warm()
        self._thread.start()
        return self

    def check_number(self, answers: int) -> None:
        """Raises ConfigError for more answers at once than ever fit."""
        most = self.slots + self.queue
        require(
            answers <= most,
            f"{answers} answers at once are more than {most}, the slots and the queue: ask twice, "
            "or serve with a longer --queue",
        )

    def submit(self, *asked: Asked) -> None:
        """Puts requests in the queue, all or none.

        Raises:
          Busy: they do not all fit into it.
          Failed: the engine has ended by an error of ours.
          TooLong: a prompt that with its answer is longer than `length`.
          ConfigError: one that is empty, or whose image places are not those of its images; more
            of them than ever fit.
        """
        self.check_number(len(asked))
        for one in asked:
            total = len(one.prompt) + one.max_tokens
            require(len(one.prompt) >= 1, "the prompt is empty: give at least one token")
            require(one.max_tokens >= 0, f"max_tokens must be at least 0, got {one.max_tokens}")
            if total > self.length:
                raise TooLong(
                    f"a prompt of {len(one.prompt)} tokens and {one.max_tokens} more are {total}, "
                    f"the context is {self.length}: shorten one of the two"
                )
            self.reader.check(one)
        with self._changed:
            if self.failed:
                raise Failed("the engine has failed, see the server's log, and start it again")
            if self._closing:
                raise Busy("the server is closing")
            waiting = [one for one in self._waiting if not one.left.is_set()]
            if len(waiting) + len(asked) > self.queue + self._free():
                raise Busy(f"{len(waiting)} requests wait already: ask again later")
            self._waiting = deque([*waiting, *asked])
            self._changed.notify()

    def close(self, *, drain: bool = True) -> None:
        """Takes no more requests, and ends when those it has are answered, or at once."""
        with self._changed:
            self._closing, self._draining = True, drain
            self._changed.notify()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    @property
    def busy(self) -> int:
        """Slots that are taken."""
        return sum(seat is not None for seat in self._seats)

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        with self._changed:  # it may not change while it is counted
            return sum(not one.left.is_set() for one in self._waiting)

    def _free(self) -> int:
        return self.slots - self.busy

    # ------------------------------------------------------------ programs

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Rows and reach of every decoding program: few rows, or all."""
        if self.slots <= FEW:
            return [(self.slots, self.length)]
        return [(FEW, self.length)] + [
            (self.slots, reach) for reach in doubling(REACH, self.length)
        ]

    def warm(self) -> None:
        """Compiles what serving may need. Nothing compiles afterwards."""
        self._state = self.reader.warm(self._state)
        for rows, reach in self.shapes:
            active = np.zeros(self.slots, bool)
            self._state, *_ = decode(self.config, self._params, self._state, active, rows, reach)
        jax.block_until_ready(self._state)

    # ------------------------------------------------------------ the engine's thread

    def _run(self) -> None:
        ended = False
        try:
            self._serve()
            ended = True
        finally:  # after an error of ours nobody waits for it in vain
            with self._changed:
                self._closing, self.failed = True, not ended
            self._abandon("error")

    def _serve(self) -> None:
        flight: Flight | None = None
        while True:
            with self._changed:
                while not (self._waiting or self.busy or flight or self._closing):
                    self._changed.wait()
                if self._closing and not self._draining:
                    self._abandon("left")
                if self._closing and not (self._waiting or self.busy or flight):
                    return
            try:
                self._admit()
                following = self._step()
                if flight is not None:
                    self._deliver(flight)
                flight = following
            except jax.errors.JaxRuntimeError:  # out of memory, say: the next request may fit
                traceback.print_exc()
                flight = None
                self._abandon("error")
                self._state = self._empty()
                self.reader.reset()

    def _abandon(self, reason: str) -> None:
        """Ends all that runs and waits."""
        with self._changed:
            seats = [seat for seat in self._seats if seat]
            ended = [*(seat.asked for seat in seats), *self._waiting]
            self._seats, self._waiting = [None] * self.slots, deque()
        self._reading = None
        for seat in seats:
            seat.done = True  # a step may be under way that has a token for it
        for asked in ended:
            self._tell(asked, Ended(reason))

    def _tell(self, asked: Asked, event: Event) -> None:
        """One that cannot be told anything has left; the others go on."""
        try:
            asked.tell(event)
        except RuntimeError:  # its event loop has closed
            traceback.print_exc()
            asked.leave()

    def _admit(self) -> None:
        """Takes the next step of a long prompt, and reads short ones into free slots."""
        if self._reading is not None:
            self._read(*self._reading)
        for _ in range(ADMITTED):
            taken = self._next()
            if taken is None:
                return
            slot, seat = taken
            if seat.asked.left.is_set():
                self._end(slot, seat, Ended("left"))
                continue
            self._read(seat, Reading(seat.asked, slot, Ask.of(seat.asked, self.vocab)))

    def _next(self) -> tuple[int, Seat] | None:
        """A free slot, and who takes it: the first that waits, unless it is for the reader."""
        with self._changed:
            slot = next((n for n, seat in enumerate(self._seats) if seat is None), None)
            if slot is None or not self._waiting:
                return None
            if self._reading is not None and self.reader.several(self._waiting[0]):
                return None
            seat = Seat(self._waiting.popleft())
            self._seats[slot] = seat
        return slot, seat

    def _read(self, seat: Seat, reading: Reading) -> None:
        """The next step of a prompt; of a short one the only one."""
        asked = seat.asked
        if seat.done:  # it has left in the meantime
            self._reading = None
            return
        self._state = self.reader.advance(reading, self._state)
        if not reading.done:
            self._reading = seat, reading
            return
        if self._reading is not None and self._reading[0] is seat:
            self._reading = None
        seat.read = True
        self._tell(asked, Prompted(reading.likely()))
        if asked.max_tokens == 0:
            self._end(reading.slot, seat, Ended("length"))

    def _step(self) -> Flight | None:
        """Dispatches a step for the slots that are taken."""
        for slot, seat in enumerate(self._seats):
            if seat is not None and seat.asked.left.is_set():
                self._end(slot, seat, Ended("left"))
        seats = [seat if seat is not None and seat.read else None for seat in self._seats]
        taken = [slot for slot, seat in enumerate(seats) if seat is not None]
        if not taken:
            return None
        active = np.array([seat is not None for seat in seats])
        rows = next(count for count, _ in self.shapes if count > taken[-1])
        # a step may be under way that fills one slot more than has been told
        filled = max(len(seat.asked.prompt) + seat.drawn + 2 for seat in seats if seat is not None)
        reaches = [reach for count, reach in self.shapes if count == rows]
        reach = next((reach for reach in reaches if reach >= filled), self.length)
        self._state, *found = decode(self.config, self._params, self._state, active, rows, reach)
        self.steps += 1
        return Flight(seats, *found)

    def _deliver(self, flight: Flight) -> None:
        """Tells the tokens of a step to who waits for them."""
        tokens, finite = jax.device_get((flight.tokens, flight.finite))
        told = any(seat and seat.asked.alternatives for seat in flight.seats)
        found = jax.device_get(flight.likelihood) if told else None
        for slot, seat in enumerate(flight.seats):
            if seat is None or seat.done:
                continue
            asked, token = seat.asked, int(tokens[slot])
            if not finite[slot]:
                self._end(slot, seat, Ended("error", fault=NOT_FINITE))
                continue
            how = found.rows(slot, slot + 1) if found and asked.alternatives else None
            if token in asked.ends:
                self._end(slot, seat, Ended("stop", token, how))
                continue
            seat.drawn += 1
            self.tokens += 1
            self._tell(asked, Drawn(token, how))
            if seat.drawn == asked.max_tokens:
                self._end(slot, seat, Ended("length"))

    def _end(self, slot: int, seat: Seat, how: Ended) -> None:
        seat.done = True
        with self._changed:
            self._seats[slot] = None
        self._tell(seat.asked, how)
