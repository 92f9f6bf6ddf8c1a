"""How a server does under load: many clients that stream at once, and one with a long prompt."""

import http.client
import json
import statistics
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from lm.core.errors import DataError
from lm.decode.sampling import SamplingConfig
from lm.serve.api import application
from lm.serve.engine import Engine
from lm.serve.model import Served
from lm.serve.request import Asked, Drawn, Ended, Event
from lm.serve.server import Server, bound


def load_figure(
    served: Served, *, clients: int, tokens: int, longest: int, seed: int = 0
) -> dict[str, Any]:
    """Seconds and tokens a second of `clients` streams at once, and of one alone.

    Each asks for `tokens` tokens after a prompt of 1 to `longest` random ones, over a socket of its
    own. Times are those of streams without an error: `slowest` is the longest over the median one;
    `gain` the tokens a second of all over those of one client.

    Raises:
      DataError: there is no such stream, or the one alone had an error.
    """
    drawn = np.random.default_rng(seed)
    sizes = drawn.integers(1, longest + 1, clients)
    prompts = [drawn.integers(0, served.vocab, size).tolist() for size in sizes]
    with_server: list[Any] = []
    ready, port = started({served.name: served}, with_server)
    ready.wait()
    alone = Stream(port, prompts[0], tokens)
    alone.run()
    streams = [Stream(port, prompt, tokens) for prompt in prompts]
    threads = [threading.Thread(target=stream.run) for stream in streams]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    with_server[0].should_exit = True
    faults = [stream.fault for stream in (alone, *streams) if stream.fault]
    sound = [stream for stream in streams if not stream.fault]
    if alone.fault or not sound:
        raise DataError(f"no stream alone, or none of {clients} at once, was whole: {faults[0]}")
    whole = [stream.seconds for stream in sound]
    one = alone.told / alone.seconds
    told = sum(stream.told for stream in streams)
    return {
        "clients": clients, "slots": served.engine.slots, "tokens": tokens, "prompt": longest,
        "errors": len(faults), "first_fault": faults[0] if faults else None,
        "first_token_seconds": round(statistics.median(s.first for s in sound), 3),
        "first_token_seconds_alone": round(alone.first, 3),
        "tokens_per_second": round(told / seconds, 1),
        "tokens_per_second_alone": round(one, 1),
        "slowest": round(max(whole) / statistics.median(whole), 2),
        "gain": round(told / seconds / one, 2),
    }  # fmt: skip


def started(models: Mapping[str, Served], kept: list[Server]) -> tuple[threading.Event, int]:
    """A server in a thread: when it listens, and where; `kept` gets it."""
    listener = bound("127.0.0.1", 0)
    ready = threading.Event()
    server = Server(application(models), ready.set)
    kept.append(server)
    threading.Thread(target=server.run, args=([listener],), daemon=True).start()
    return ready, listener.getsockname()[1]


class Stream:
    """One client."""

    def __init__(self, port: int, prompt: list[int], tokens: int):
        self.port, self.prompt, self.tokens = port, prompt, tokens
        self.first = self.seconds = float("nan")
        self.told = 0  # tokens that have come
        self.fault = ""

    def run(self) -> None:
        """Asks, and reads until the end."""
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=3600)
        body = {"prompt": self.prompt, "max_tokens": self.tokens, "temperature": 1.0,
                "stream": True, "logprobs": 0}  # fmt: skip
        try:
            connection.request("POST", "/v1/completions", json.dumps(body))
            answer = connection.getresponse()
            line, reason = b"", None
            for line in iter(answer.readline, b""):
                if line.startswith(b"data: {"):
                    if not self.told:
                        self.first = time.perf_counter() - began
                    chunk = json.loads(line[6:])
                    if "error" in chunk:
                        self.fault = chunk["error"]["message"]
                        break
                    (choice,) = chunk["choices"]
                    likelihoods, reason = choice["logprobs"], choice["finish_reason"] or reason
                    self.told += len(likelihoods["tokens"]) if likelihoods else 0
                if line.startswith(b"data: [DONE]"):
                    break
            whole = line.startswith(b"data: [DONE]") and (
                self.told >= self.tokens or reason == "stop"
            )
            if answer.status != 200 or not whole:
                self.fault = self.fault or (
                    f"status {answer.status}, {self.told} of {self.tokens} tokens"
                )
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.fault = str(error) or repr(error)
        finally:
            connection.close()
            self.seconds = time.perf_counter() - began


def stall_figure(engine: Engine, prompt: int, tokens: int = 100) -> dict[str, float]:
    """How long a stream stands still while a prompt of so many tokens is read beside it.

    `pause` is the median time between two tokens of the stream alone, in seconds; `stall` the
    longest pause once the prompt has come, over it; `first` seconds until the prompt's first token.
    """
    stream, other = Times(), Times()
    greedy = SamplingConfig(temperature=0)
    long = Asked(prompt=[1] * prompt, max_tokens=1, sampling=greedy, tell=other)
    engine.submit(Asked(prompt=[1], max_tokens=tokens, sampling=greedy, tell=stream))
    while len(stream.at) < tokens // 2:
        time.sleep(0.001)
    began = time.perf_counter()
    engine.submit(long)
    for one in (stream, other):
        one.ended.wait()
    pauses = np.diff(stream.at)
    before = np.asarray(stream.at[1:]) < began
    alone = float(np.median(pauses[before]))
    return {
        "pause": round(alone, 4), "stall": round(float(pauses[~before].max()) / alone, 2),
        "first": round(other.at[0] - began, 3),
    }  # fmt: skip


class Times:
    """When each token of an answer was told."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.ended = threading.Event()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Drawn):
            self.at.append(time.perf_counter())
        elif isinstance(event, Ended):
            self.ended.set()
