"""What a client may send that it should not: one error object, and never an internal one."""

import asyncio
import contextlib
import json
import random
import time
from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient

from lm.serve.api import application
from lm.serve.body import LARGEST, image_urls
from lm.serve.engine import Engine
from lm.serve.labelling import Labelling
from lm.serve.labels import Labels
from lm.serve.model import Served
from lm.serve.schema import PIXEL
from lm.text.byte import ByteTokenizer
from tests.serve import seeing
from tests.serve.labels_test import item, pool_of
from tests.serve.served import client, listening

URL = "/v1/completions"


def refused(answer, status, part):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert part in error["message"], error


@pytest.mark.parametrize(
    "name, value",
    [
        ("temperature", -0.1), ("temperature", 2.1), ("temperature", "hot"), ("temperature", True),
        ("temperature", 10**400), ("top_p", 1.5), ("top_p", -1), ("top_k", -2), ("n", 0),
        ("n", 129), ("n", 1.5), ("max_tokens", -1), ("max_tokens", 10**9), ("max_tokens", "5"),
        ("seed", 2**64), ("stop", [""]), ("stop", ["a"] * 33), ("stop", 7), ("logprobs", 21),
        ("echo", "yes"), ("stream", 1), ("stream_options", []), ("logit_bias", {"5": 101}),
        ("logit_bias", {"999": 1}), ("logit_bias", {"a": 1}), ("logit_bias", {"5": True}),
        ("logit_bias", {str(n): 1 for n in range(301)}), ("logit_bias", [5]),
        ("presence_penalty", 2.5), ("frequency_penalty", "x"), ("repetition_penalty", 0),
        ("min_p", 1.5), ("min_tokens", -1), ("ignore_eos", 1), ("stop_token_ids", [999]),
        ("stop_token_ids", 5), ("stop_token_ids", [True]), ("stop_token_ids", [1] * 33),
        ("response_format", {"type": "json_object"}),
        ("max_completion_tokens", ""), ("max_completion_tokens", False),
        ("max_completion_tokens", 65),
        ("best_of", 0), ("best_of", 129), ("suffix", "x"), ("model", 5),
        ("prompt", None), ("prompt", []), ("prompt", [[]]), ("prompt", [-1]), ("prompt", [10**6]),
        ("prompt", [1.5]), ("prompt", [True]), ("prompt", {"a": 1}), ("prompt", "\ud800"),
        ("prompt", ["x"] * 2049), ("prompt", "x" * 65),
    ],
)  # fmt: skip
def test_a_parameter_out_of_range_is_named(api, name, value):
    body = json.dumps({"prompt": "x", "max_tokens": 2} | {name: value})
    answer = api.post(URL, content=body)
    refused(answer, 400, "prompt" if name == "prompt" else name)


def test_what_cannot_be_together_is_refused(api):
    body = {"prompt": "x", "max_tokens": 2}
    refused(api.post(URL, json=body | {"n": 3, "best_of": 2}), 400, "best_of must be")
    refused(api.post(URL, json=body | {"best_of": 2, "stream": True}), 400, "leave stream out")
    refused(api.post(URL, json=body | {"n": 8}), 400, "8 answers at once are more than 7, the slot")


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_misspelt_field_is_refused_with_the_nearest_name(api, path):
    asked = {"prompt": "x"} if path == URL else {"messages": [{"role": "user", "content": "x"}]}
    asked |= {"max_tokens": 2}
    answer = api.post(path, json=asked | {"maxtokens": 2})
    refused(answer, 400, "there is no field 'maxtokens': did you mean max_tokens?")
    assert answer.json()["error"]["param"] == "maxtokens"
    for name in ("qqq", "a\nb", "\ud800", "x" * 10**5, ""):
        told = api.post(path, content=json.dumps(asked | {name: 1}))
        refused(told, 400, "leave it out")
        assert len(told.json()["error"]["message"]) < 100 and told.text.isprintable()
    more = {  # what OpenAI's clients and lm-eval send
        "user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "n": 1,
        "seed": 5, "parallel_tool_calls": True, "reasoning_effort": "low", "tool_choice": "auto",
        "modalities": ["text"], "qqq": None, "max_completion_tokens": 2, "tools": [],
    }  # fmt: skip
    assert api.post(path, json=asked | more).status_code == 200


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_what_would_be_answered_as_if_it_had_not_been_asked_for_is_refused(api, path):
    asked = {"prompt": "x"} if path == URL else {"messages": [{"role": "user", "content": "x"}]}
    asked |= {"max_tokens": 2}
    named = {"name": "weather"}
    for name, value in (
        ("tool_choice", "required"), ("tool_choice", {"type": "function", "function": named}),
        ("function_call", named), ("modalities", ["audio"]), ("modalities", ["text", "audio"]),
        ("top_logprobs", 2),
    ):  # fmt: skip
        answer = api.post(path, json=asked | {name: value})
        refused(answer, 400, name)
        assert answer.json()["error"]["param"] == name
    for more in ({"tool_choice": "none"}, {"function_call": "auto"}, {"modalities": None}):
        assert api.post(path, json=asked | more).status_code == 200


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b'"x"', b"null", b'{"temperature": NaN, "prompt": "x"}', b"\xff\xfe",
     b'{"prompt": "x", "temperature": Infinity}', b"[" * 100_000, b'{"a":' * 50_000],
)  # fmt: skip
def test_a_body_that_is_no_object_of_json_is_refused(api, content):
    refused(api.post(URL, content=content), 400, "JSON")


def test_a_body_that_is_too_large_is_refused_before_it_is_read(api):
    refused(api.post(URL, content=b" " * (LARGEST + 1)), 413, "larger than")


def shown(size):
    """A message with an image of about so many bytes."""
    url = "data:image/png;base64," + "A" * (size // 3 * 4)
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}


def test_beside_images_as_much_text_is_read_as_without_them_by_whatever_model(toy):
    models = {"toy": toy, "sees": SimpleNamespace(images=1)}
    api = TestClient(application(models, loopback=False))
    text = {"role": "user", "content": "x" * (LARGEST + 1)}
    for messages, status, part in (
        ([shown(9 << 20)], 400, "toy reads text alone"),
        ([shown(11 << 20)], 413, "is larger than 10 MiB"),
        ([text], 413, "without its images"),
        ([shown(9 << 20), {"role": "assistant", "content": "y"}, text], 413, "without its images"),
        ([shown(9 << 20), shown(9 << 20)], 413, "the body is larger than"),
    ):
        answer = api.post("/v1/chat/completions", json={"messages": messages})
        refused(answer, status, part)
        assert (answer.json()["error"]["code"] == "too_large") == (status == 413)
    assert [*image_urls({"messages": [1, {"content": [2, {"image_url": 3}]}, {}]})] == []


def test_what_does_not_fit_the_context_has_openais_code_and_names_what_is_too_long(api):
    long = "x" * 65
    for path, body, name in (
        (URL, {"prompt": long}, "prompt"),
        (URL, {"prompt": long[:50], "max_tokens": 15}, "max_tokens"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": long}]}, "messages"),
    ):
        refused(answer := api.post(path, json=body), 400, "shorten")
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == ("context_length_exceeded", name)


def test_more_answers_than_ever_fit_are_refused_before_any_is_made(api, monkeypatch):
    def never(*asked):
        raise AssertionError("an answer was made")

    monkeypatch.setattr("lm.serve.completions.writers", never)
    answer = api.post(URL, json={"model": "toy", "prompt": [[1, 2]] * 2048, "n": 128, "echo": True})
    refused(answer, 400, "262144 answers at once are more than")


def test_an_answer_as_long_as_the_context_is_what_is_too_long_and_not_the_message(api):
    body = {"messages": [{"role": "user", "content": "a?"}], "max_tokens": 64}
    refused(api.post("/v1/chat/completions", json=body), 400, "max_tokens is 64")
    assert api.post("/v1/chat/completions", json=body | {"max_tokens": 8}).status_code == 200


def test_a_client_that_leaves_while_it_sends_is_no_fault_of_the_servers(toy):
    head = {"type": "http", "method": "POST", "path": "/tokenize", "query_string": b"",
            "headers": [(b"host", b"localhost")]}  # fmt: skip
    begun = {"type": "http.request", "body": b'{"prompt": ', "more_body": True}

    def answered(*messages):
        """The status that a client gets who sends these; an error that is logged is raised."""
        left, sent = iter(messages), []

        async def receive():
            return next(left)

        async def send(message):
            sent.append(message)

        asyncio.run(application({"toy": toy})(dict(head), receive, send))
        return sent[0]["status"]

    assert answered(begun, {"type": "http.disconnect"}) == 499
    assert answered(begun, {"type": "http.request", "body": b'"x"}'}) == 200  # the control


def test_an_error_of_the_servers_own_is_openais_error_object():
    broken = Served("broken", SimpleNamespace(), ByteTokenizer())
    client = TestClient(
        application({"broken": broken}, loopback=False), raise_server_exceptions=False
    )
    refused(answer := client.get("/health"), 500, "see its log")
    assert answer.json()["error"]["type"] == "server_error"
    assert "default-src" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "messages",
    [None, [], "hi", [1], [{"role": "user"}], [{"role": "tool", "content": "x"}],
     [{"role": "assistant", "content": "x"}], [{"role": "user", "content": 5}],
     [{"role": "user", "content": "\udc00"}],
     [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
     [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
     [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]],
)  # fmt: skip
def test_a_conversation_in_a_wrong_order_is_refused(api, messages):
    answer = api.post("/v1/chat/completions", content=json.dumps({"messages": messages}))
    assert answer.status_code == 400 and answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "path",
    ["/page/../api.py", "/page/%2e%2e/api.py", "/page/..%2fapi.py", "//etc/passwd", "/page/",
     "/page/%00", "/v1/models/../../etc/passwd", "/v1/models/%2e%2e%2fsecret", "/page/%5c..%5capi"],
)  # fmt: skip
def test_no_file_but_a_pages_own_can_be_asked_for(api, path):
    answer = api.get(path)
    assert answer.status_code == 404 and "error" in answer.json()


def test_a_request_of_another_site_is_turned_away(api, address):
    body = {"prompt": "x", "max_tokens": 1}
    for headers in (
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
        {"Origin": address + "0"}, {"Origin": "http://[::1"}, {"Origin": "://"},
    ):  # fmt: skip
        refused(api.post(URL, json=body, headers=headers), 403, "another site")
    refused(api.get("/v1/models", headers={"Host": "evil.example:80"}), 403, "localhost alone")
    assert api.post(URL, json=body, headers={"Origin": address}).status_code == 200


def test_off_loopback_nothing_is_told_without_the_token(toy):
    with listening(toy, token="sesame", loopback=False) as address, client(address) as api:
        for path in ("/v1/models", "/", "/page/chat.js", "/openapi.json"):
            refused(api.get(path), 401, "token")
        refused(api.get("/v1/models", headers={"Authorization": "Bearer open"}), 401, "token")
        assert api.get("/health").json() == {"status": "alive"}  # and nothing of what it does
        refused(api.post("/health"), 401, "token")
        shown = {"Authorization": "Bearer sesame"}
        assert api.get("/v1/models", headers=shown).status_code == 200
        assert api.get("/health", headers=shown).json()["models"]["toy"]["slots"] == 3
        answer = api.get("/v1/models?token=sesame")
        assert answer.status_code == 303 and answer.headers["location"] == "/v1/models"
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert api.get("/v1/models").status_code == 200  # by the cookie
        off = api.get(address + "//evil.example/x?token=sesame")
        assert off.status_code != 303 or off.headers["location"].startswith("/evil")


def test_every_answer_forbids_scripts_of_elsewhere(api):
    for path in ("/v1/models", "/nothing"):
        policy = api.get(path).headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy


USER = {"role": "user", "content": "x"}
SHOWN = [[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
         for url in (PIXEL, PIXEL[:60], PIXEL[:-8], PIXEL[:22], PIXEL[:22] + "%", "http://x/a.png",
                     "", 5, None, ["x"])]  # fmt: skip
STRANGE = [None, True, -1, 0, 1, 2**31, 2**63, 10**400, 0.5, -1e308, "", "x", "\x00", "\ud83d",
           "<script>", "ranking", "demonstration", "skip", [], [None], [[]], [0], [1, 2], [[0, 1]],
           ["a", 1], [{}, {}], [True, False], {}, USER, [USER], [USER, USER],
           [{"role": "user", "content": [{"text": 1}]}], *SHOWN]  # fmt: skip
BODIES = {  # that are answered
    "/v1/completions": {"prompt": "x", "max_tokens": 2},
    "/v1/chat/completions": {"messages": [USER], "max_tokens": 2},
    "/tokenize": {"prompt": "x"},
    "/detokenize": {"tokens": [1]},
    "/labels/record": {"labeler": "ann", "item": "a", "kind": "ranking", "ranks": [1, 2, 3]},
    "/labels/chat": {"labeler": "ann", "messages": [USER], "answers": ["a", "b"],
                     "sources": ["r", "r"], "ranks": [1, 2]},
    "/labels/undo": {"labeler": "ann"},
}  # fmt: skip
NAMES = ("model", "max_completion_tokens", "temperature", "top_p", "top_k", "n", "seed", "stop",
         "stream", "stream_options", "logprobs", "echo", "top_logprobs", "best_of", "logit_bias",
         "presence_penalty", "repetition_penalty", "min_p", "min_tokens", "ignore_eos",
         "stop_token_ids", "suffix", "tools", "answer", "ratings", "metadata", "ended")  # fmt: skip


@contextlib.contextmanager
def keeping_labels(folder, *models):
    """A client of these models, with items to label."""
    pool = pool_of(folder, item("a"))
    routes = Labelling(Labels(folder / "labels"), pool, 2).routes()
    with listening(*models, extra=routes) as address, client(address) as api:
        yield api


def fuzz(api, models, seconds, most=10**9):
    """Random bodies for a while: no answer may be an internal error. How many every route got, and
    how many it answered."""
    drawn, limit, number = random.Random(0), time.monotonic() + seconds, 0
    sent, done = dict.fromkeys(BODIES, 0), dict.fromkeys(BODIES, 0)
    while time.monotonic() < limit and number < most:
        path = list(BODIES)[number % len(BODIES)]
        number += 1
        body = dict(BODIES[path])
        if path.startswith("/v1"):
            body["model"] = drawn.choice(models).name
        if path == "/v1/chat/completions" and drawn.random() < 0.5:
            body["messages"] = drawn.choice(SHOWN)
        for name in drawn.sample([*body, *NAMES], drawn.randint(0, len(body))):
            body[name] = drawn.choice(STRANGE)
        content = json.dumps(body).encode()
        if drawn.random() < 0.1:
            at = drawn.randrange(len(content))
            content = content[:at] + bytes([drawn.randrange(256)]) + content[at + 1 :]
        answer = api.post(path, content=content)
        assert answer.status_code in (200, 400, 404, 429), (path, content, answer.text)
        assert answer.status_code != 200 or "server_error" not in answer.text, content
        sent[path] += 1
        done[path] += answer.status_code == 200
    for one in models:
        assert one.engine.waiting <= one.engine.queue
    assert api.get("/health").json()["status"] == "ok"
    return sent, done


def test_a_few_random_bodies_get_no_internal_error(toy, tmp_path):
    with keeping_labels(tmp_path, toy) as api:
        sent, done = fuzz(api, [toy], 20, most=140)
        paths = api.get("/openapi.json").json()["paths"]
    assert min(done.values()) > 0, (sent, done)
    assert {path for path, found in paths.items() if "post" in found} == {*BODIES}


@pytest.mark.slow
def test_random_bodies_of_half_a_minute_get_no_internal_error(toy, tmp_path):
    engine = Engine(seeing.model(), seeing.drawn(seeing.model()), slots=2).start()
    models = [toy, Served("seeing", engine, ByteTokenizer())]
    try:
        with keeping_labels(tmp_path, *models) as api:
            sent, done = fuzz(api, models, 30)
    finally:
        engine.close(drain=False)
    assert min(sent.values()) > 10 and min(done.values()) > 0, (sent, done)
