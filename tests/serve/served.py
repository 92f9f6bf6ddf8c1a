"""A server with a small model that was never trained, in this process."""

import contextlib
import socket
import threading
import time

import httpx2
import uvicorn

from lm.serve.api import application
from lm.serve.engine import Engine
from lm.serve.model import Served
from lm.text.byte import ByteTokenizer
from tests.models.gpt_test import made, small


def served(name="toy", *, length=64, slots=3, queue=4, seed=0, start=True):
    tokenizer = ByteTokenizer()
    config = small(length=length, vocab=tokenizer.vocab_size)
    engine = Engine(config, made(config, seed), slots=slots, queue=queue)
    return Served(name, engine.start() if start else engine, tokenizer)


@contextlib.contextmanager
def listening(*models, **options):
    """The address of a server of these models."""
    app = application({one.name: one for one in models}, **options)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    config = uvicorn.Config(app, port=port, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


def client(address, **options):
    return httpx2.Client(base_url=address, timeout=60, **options)


def wait_until(true, seconds=30):
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, "it never came true"
        time.sleep(0.01)
