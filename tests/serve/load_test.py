"""The measurement of a server under load, on a small model."""

import math
import socket
import threading

import pytest

from lm.serve.load import Stream, load_figure, stall_figure
from tests.serve.served import served


def chunk(text):
    return b"%x\r\n%s\r\n" % (len(text), text.encode())


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKEN = 'data: {"choices": [{"logprobs": {"tokens": ["a"]}, "finish_reason": null}]}\n\n'
STOP = 'data: {"choices": [{"logprobs": null, "finish_reason": "stop"}]}\n\n'
ERROR = 'data: {"error": {"message": "the engine failed"}}\n\n'
DONE = chunk("data: [DONE]\n\n") + b"0\r\n\r\n"


@pytest.mark.parametrize(
    "told, fault",
    [(chunk(TOKEN) + chunk(ERROR) + DONE, "the engine failed"),
     (chunk(TOKEN) + b"ff\r\ndata: {", "IncompleteRead"),
     (chunk(TOKEN) + DONE, "1 of 2 tokens"),
     (chunk(TOKEN) + chunk(STOP) + DONE, ""),
     (chunk(TOKEN) * 2 + DONE, "")],
)  # fmt: skip
def test_a_stream_that_breaks_off_has_a_fault_and_its_seconds(told, fault):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                asked = b""  # the whole request: to close before it is read would reset the stream
                while not asked.endswith(b"}"):
                    asked += connection.recv(1 << 16)
                connection.sendall(HEAD + told)

        serving = threading.Thread(target=serve)
        serving.start()
        stream = Stream(listener.getsockname()[1], [1], 2)
        stream.run()
        serving.join()
    assert (fault in stream.fault) if fault else not stream.fault
    assert math.isfinite(stream.seconds)


@pytest.mark.slow
def test_many_streams_at_once_all_end_without_an_error():
    one = served(length=64, slots=8, queue=32)
    told = load_figure(one, clients=32, tokens=24, longest=32)
    one.engine.close()
    assert told["errors"] == 0, told["first_fault"]
    assert told["tokens_per_second"] > 0 and told["slowest"] >= 1


@pytest.mark.slow
def test_the_pause_for_a_long_prompt_is_measured():
    one = served(length=200, slots=2)
    told = stall_figure(one.engine, prompt=150, tokens=40)
    one.engine.close()
    assert told["stall"] >= 1 and told["first"] > 0 and told["pause"] > 0
