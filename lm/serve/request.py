"""What is asked of the engine, and what it answers."""

import dataclasses
import math
import threading
from collections.abc import Callable, Sequence

import numpy as np

from lm.core.config import require
from lm.decode.penalties import MOST_ENDS, NONE, Penalties
from lm.decode.sampling import SamplingConfig

SEEDS = 2**32
FAILED = "the engine failed, see the server's log"
NOT_FINITE = "the model's logits are not finite: serve an earlier --step, or another run"


class Busy(Exception):
    """The queue is full, or the server is closing: ask again later."""


class Failed(Busy):
    """An error of ours has ended the engine: it never answers again."""


@dataclasses.dataclass(frozen=True)
class Likely:
    """How likely tokens were, in nats."""

    logp: np.ndarray  # [T]
    ids: np.ndarray  # [T K] the likeliest tokens there, from the first
    logps: np.ndarray  # [T K]


@dataclasses.dataclass(frozen=True)
class Prompted:
    """A prompt has been read; how likely its tokens were, from the second on, where asked."""

    likely: Likely | None


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A token of the answer."""

    token: int
    likely: Likely | None  # of one token


@dataclasses.dataclass(frozen=True)
class Ended:
    """No more comes. "stop": an end token was drawn; "length": `max_tokens` were; "left": nobody
    wanted more; "error": the engine failed."""

    reason: str
    token: int | None = None  # the end token
    likely: Likely | None = None  # of it
    fault: str = FAILED  # what is told where the reason is "error"


Event = Prompted | Drawn | Ended


@dataclasses.dataclass(frozen=True)
class Prompt:
    """What an answer is asked to, and how long that may be."""

    ids: Sequence[int]  # with a run of the image id where each image stands
    max_tokens: int
    images: Sequence[np.ndarray] = ()  # [R R 3] uint8, in the order of the ids
    prefix: int = 0  # ids from the first on that all see, for a model of mask=prefix


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """One answer to one prompt.

    `tell` is called with every event, in the engine's thread; it must not wait.
    """

    prompt: Sequence[int]  # as `Prompt.ids`
    max_tokens: int
    sampling: SamplingConfig
    tell: Callable[[Event], None]
    seed: int = 0
    number: int = 0  # of the answer among several to a prompt: each has draws of its own
    ends: frozenset[int] = frozenset()
    penalties: Penalties = NONE
    alternatives: bool = False  # whether likelihoods of what is drawn are told
    scored: bool = False  # whether those of the prompt are
    images: Sequence[np.ndarray] = ()  # as `Prompt.images`
    prefix: int = 0  # as `Prompt.prefix`
    left: threading.Event = dataclasses.field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        require(0 <= self.seed < SEEDS, f"seed must be at least 0 and below 2**32: {self.seed}")
        require(
            not self.penalties.least or len(self.ends) <= MOST_ENDS,
            f"{len(self.ends)} tokens that end, at most {MOST_ENDS}",
        )
        require(math.isfinite(self.sampling.temperature), "temperature must be finite")

    def leave(self) -> None:
        """Nobody wants more of it. From any thread."""
        self.left.set()


NOTHING = Asked(
    prompt=(), max_tokens=0, sampling=SamplingConfig(temperature=0), tell=lambda _: None
)
