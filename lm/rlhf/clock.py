"""What an update spends its time on."""

import time
from typing import Any

import jax


class Clock:
    """Seconds of the parts of an update, each waited for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, name: str, done: Any) -> None:
        jax.block_until_ready(done)
        now = time.perf_counter()
        self.seconds[name], self.last = now - self.last, now

    def told(self, tokens: int) -> dict[str, float]:
        """Seconds and tokens a second of each part, of an update that reads so many tokens of
        prompts and answers, padding left out."""
        speeds = {f"{name}_tokens_per_second": tokens / s for name, s in self.seconds.items()}
        return {f"{name}_seconds": s for name, s in self.seconds.items()} | speeds
