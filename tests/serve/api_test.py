"""OpenAI's interface over a small model, through real sockets."""

import asyncio
import contextlib
import json
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from starlette.testclient import TestClient

from lm.models.gpt import forward
from lm.serve.answers import Choice
from lm.serve.api import application
from lm.serve.completions import Form
from lm.serve.engine import Engine
from lm.serve.model import Served
from lm.serve.request import Drawn, Ended, Failed, Likely, Prompted
from lm.serve.spelling import Bytes
from lm.serve.writer import Writer
from lm.text import gpt1
from lm.text.byte import ByteTokenizer
from lm.text.dialogue import Message
from tests.models.gpt_test import made, small
from tests.serve.served import client, listening, wait_until
from tests.serve.spelling_test import TEXT

GREEDY = {"temperature": 0}


def complete(api, **body):
    answer = api.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(answer):
    lines = [line for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_a_completion_is_what_the_model_writes_alone(toy, api):
    found = complete(api, prompt="def ", max_tokens=12, **GREEDY)
    ids = toy.tokenizer.encode("def ")
    scored = complete(api, prompt=ids, max_tokens=12, logprobs=0, **GREEDY)
    assert found["choices"][0]["text"] == scored["choices"][0]["text"]
    assert found["usage"] == {"prompt_tokens": 4, "completion_tokens": 12, "total_tokens": 16}
    assert found["choices"][0]["finish_reason"] == "length" and found["model"] == "toy"


def test_choices_of_a_batch_are_numbered_and_differ_by_their_draws(api):
    body = {"prompt": ["ab", "cd"], "n": 2, "max_tokens": 8, "seed": 5, "temperature": 2.0}
    found = complete(api, **body)
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2, 3]
    texts = [choice["text"] for choice in found["choices"]]
    assert texts[0] != texts[1] and texts[2] != texts[3]  # two prompts have the same draws
    assert texts == [choice["text"] for choice in complete(api, **body)["choices"]]
    alone = complete(api, **body | {"prompt": "cd", "n": 1})["choices"][0]["text"]
    assert alone == texts[2]


def test_equal_prompts_of_a_batch_have_draws_of_their_own_where_no_seed_is_given(api):
    body = {"prompt": ["ab"] * 4, "max_tokens": 8, "temperature": 2.0}
    texts = {choice["text"] for choice in complete(api, **body)["choices"]}
    assert len(texts) > 1
    texts = {choice["text"] for choice in complete(api, **body, seed=3)["choices"]}
    assert len(texts) == 1  # the control: those of a seed are the seed's


def test_echo_with_logprobs_scores_the_prompt_as_one_forward_pass(toy, api):
    ids = toy.tokenizer.encode("hello")
    found = complete(api, prompt=[ids, ids[:3]], max_tokens=1, logprobs=1, echo=True, **GREEDY)
    whole = jax.jit(forward, static_argnums=0)
    logits = np.asarray(whole(toy.engine.config, toy.engine._params, np.array([ids]))[0])[0]
    logp = logits - np.logaddexp.reduce(logits, -1)[:, None]
    likelihoods = found["choices"][0]["logprobs"]
    assert likelihoods["token_logprobs"][0] is None
    expected = [logp[at - 1, token] for at, token in enumerate(ids) if at]
    np.testing.assert_allclose(likelihoods["token_logprobs"][1:-1], expected, atol=1e-4)
    assert likelihoods["tokens"][:-1] == list("hello")
    assert likelihoods["text_offset"] == [0, 1, 2, 3, 4, 5]
    for best, row in zip(likelihoods["top_logprobs"][1:-1], logp, strict=False):
        assert max(best.values()) == pytest.approx(row.max(), abs=1e-4)
    last = likelihoods["top_logprobs"][-1]  # greedy: what was drawn is the likeliest
    assert max(last.values()) == likelihoods["token_logprobs"][-1]
    assert found["choices"][0]["text"].startswith("hello")
    assert found["choices"][1]["logprobs"]["tokens"][:3] == list("hel")


def test_where_tokens_begin_is_told_in_characters(api):
    body = {"prompt": "aß€x", "max_tokens": 1, "logprobs": 0, "echo": True} | GREEDY
    (choice,) = complete(api, **body)["choices"]
    assert choice["logprobs"]["text_offset"][:7] == [0, 1, 1, 2, 2, 2, 3]
    parts = [one["choices"][0]["logprobs"] for one in stream(api, body)]
    offsets = [place for part in parts if part for place in part["text_offset"]]
    assert offsets == choice["logprobs"]["text_offset"]


def test_penalties_change_what_is_drawn_and_not_the_likelihoods_that_are_told(api):
    body = {"prompt": "hello", "max_tokens": 6, "logprobs": 20} | GREEDY
    (plain,) = complete(api, **body)["choices"]
    (forced,) = complete(api, **body, logit_bias={"65": 100})["choices"]
    assert forced["text"] == "AAAAAA" != plain["text"]
    best = dict(forced["logprobs"]["top_logprobs"][0])
    told = forced["logprobs"]["token_logprobs"][0]
    assert told == best["A"] < -1 and plain["logprobs"]["top_logprobs"][0].items() <= best.items()
    more = {"logit_bias": dict.fromkeys(("65", "66", "67"), 40)}
    for penalty in ("presence_penalty", "frequency_penalty"):
        (other,) = complete(api, **body, **more, **{penalty: 2})["choices"]
        assert sorted(other["text"][:3]) == ["A", "B", "C"], penalty
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3} | GREEDY
    said = api.post("/v1/chat/completions", json=body | {"logit_bias": {"65": 100}}).json()
    assert said["choices"][0]["message"]["content"] == "AAA"


def test_tokens_that_end_an_answer_are_named_or_forbidden(toy, api):
    end = toy.tokenizer.end
    body = {"prompt": "hello", "max_tokens": 6, "logit_bias": {"65": 50, "66": 49}} | GREEDY

    def told(**more):
        answer = complete(api, **body | more)
        (choice,) = answer["choices"]
        return choice["text"], choice["finish_reason"], answer["usage"]["completion_tokens"]

    assert told(stop_token_ids=[65]) == ("", "stop", 0)
    assert told(stop_token_ids=[65], min_tokens=3) == ("BBB", "stop", 3)
    assert told(stop=["AA"], min_tokens=3) == ("AAA", "stop", 5)
    ending = {"logit_bias": {str(end): 50}}
    assert told(**ending) == ("", "stop", 0)
    assert told(**ending, ignore_eos=True)[1:] == ("length", 6)
    assert told(**ending, ignore_eos=True, stop_token_ids=[end]) == ("", "stop", 0)


def test_the_best_of_several_draws_are_the_likeliest_by_the_token(api):
    body = {"prompt": ["ab", "cd"], "max_tokens": 4, "seed": 5, "temperature": 2.0}
    every = complete(api, **body, n=3, logprobs=0)
    best = complete(api, **body, n=2, best_of=3)
    assert best["usage"] == every["usage"] and best["choices"][0]["logprobs"] is None
    for place in range(2):
        own = every["choices"][3 * place : 3 * place + 3]
        own.sort(key=lambda one: -np.mean(one["logprobs"]["token_logprobs"]))
        found = best["choices"][2 * place : 2 * place + 2]
        assert [one["text"] for one in found] == [one["text"] for one in own[:2]]
        assert [one["index"] for one in found] == [2 * place, 2 * place + 1]


def likely(*logps):
    """Of the first of these ids, 0 and so on, which have these log-probabilities."""
    return Likely(np.array(logps[:1]), np.arange(len(logps))[None], np.array([logps]))


def test_an_answer_is_as_likely_as_its_tokens_in_the_mean_and_its_end_is_one_of_them():
    def grown(*logps, end=None):
        choice = Choice(0, None, None, [(0, likely(logp)) for logp in logps])
        choice.end = end and (0, likely(end))
        return choice.mean_logp

    assert grown(-1.0, -1.0, -1.0) == -1 > grown(-2.0) == -2
    assert grown(-1.0, end=-3.0) == -2 == grown(end=-2.0)


def test_of_tokens_that_are_spelled_alike_the_likeliest_is_told():
    form = Form(SimpleNamespace(piece=lambda token: "a"), "", 2, False)
    spelling = SimpleNamespace(size=0, add=lambda token: None)
    told = form.likelihoods([(0, likely(-1.0, -3.0), 0)], spelling, begins=False)
    assert told["top_logprobs"] == [{"a": -1.0}]


@pytest.mark.parametrize("answers", [1, 3])
def test_a_prompt_is_counted_once_however_many_answers_it_gets(api, answers):
    body = {"prompt": ["abc", "de"], "max_tokens": 2, "ignore_eos": True, "n": answers}
    drawn = 2 * 2 * answers
    counted = {"prompt_tokens": 5, "completion_tokens": drawn, "total_tokens": 5 + drawn}
    assert complete(api, **body)["usage"] == counted


def stream(api, body):
    return events(api.post("/v1/completions", json=body | {"stream": True}))


def saying(tokenizer, *ids):
    """A run that answers every prompt with these."""

    def submit(*asked):
        for one in asked:
            one.tell(Prompted(None))
            for token in ids[: one.max_tokens]:
                one.tell(Drawn(token, None))
            one.tell(Ended("length"))

    engine = SimpleNamespace(
        length=64, vocab=tokenizer.vocab_size, submit=submit, check_number=lambda answers: None
    )
    return Served("it", engine, tokenizer)


GPT1 = gpt1.train(lambda: [TEXT * 3], 130)


@pytest.mark.parametrize(
    "path, body",
    [("/v1/completions", {"prompt": "a", "logprobs": 1}),
     ("/v1/chat/completions",
      {"messages": [{"role": "user", "content": "a"}], "logprobs": True})],
)  # fmt: skip
def test_likelihoods_that_are_no_numbers_are_an_error_and_no_broken_json(path, body):
    tokenizer = ByteTokenizer()
    none = Likely(np.array([np.nan]), np.array([[1]]), np.array([[np.nan]]))

    def submit(*asked):
        for one in asked:
            for event in (Prompted(None), Drawn(65, none), Drawn(66, none), Ended("length")):
                one.tell(event)

    one = saying(tokenizer)
    one.engine.submit, one.engine.reader = submit, SimpleNamespace(sight=None, images=0)
    with listening(one) as address, client(address) as api:
        answer = api.post(path, json=body)
        assert answer.status_code == 500
        assert answer.json()["error"]["type"] == "server_error"
        assert "not finite" in answer.json()["error"]["message"]
        *_, last = events(api.post(path, json=body | {"stream": True}))
        assert "not finite" in last["error"]["message"]


class Slow(ByteTokenizer):
    """One that works on a text until it is let go."""

    def __init__(self):
        super().__init__()
        self.begun, self.let_go = threading.Event(), threading.Event()

    def encode_batch(self, texts):
        self.begun.set()
        assert self.let_go.wait(30)
        return super().encode_batch(texts)

    def decode(self, ids):
        self.encode_batch([""])
        return super().decode(ids)


@pytest.mark.parametrize(
    "path, body",
    [("/v1/completions", {"prompt": "a"}), ("/tokenize", {"prompt": "a"}),
     ("/detokenize", {"tokens": [1]}),
     ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]})],
)  # fmt: skip
def test_while_a_text_is_encoded_the_others_are_answered(path, body):
    slow = Slow()
    one = saying(slow)
    one.engine.reader = SimpleNamespace(sight=None, images=0)
    asking = threading.Thread(target=lambda: api.post(path, json=body | {"max_tokens": 1}))
    with listening(one) as address, client(address) as api, client(address) as other:
        asking.start()
        try:
            assert slow.begun.wait(30)
            assert other.get("/nothing", timeout=5).status_code == 404
        finally:
            slow.let_go.set()
            asking.join()


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_echoed_is_spelled_while_the_others_are_answered(monkeypatch, stream):
    tokenizer, beside = ByteTokenizer(), []
    spelled = tokenizer.decode_bytes

    def noted(ids):
        with contextlib.suppress(RuntimeError):
            beside.append(asyncio.get_running_loop())  # where the others are answered
        return spelled(ids)

    monkeypatch.setattr(tokenizer, "decode_bytes", noted)
    body = {"prompt": "abc", "echo": True, "logprobs": 0, "max_tokens": 0, "stream": stream}
    with listening(saying(tokenizer)) as address, client(address) as api:
        assert '"abc"' in api.post("/v1/completions", json=body).text and not beside


@pytest.mark.parametrize(
    "tokenizer, prompt, drawn, text",
    [(ByteTokenizer(), [0xC3], [0xA9], "é"),
     (GPT1, GPT1.encode("the cat"), GPT1.encode("sat on the mat"), "the cat sat on the mat")],
)  # fmt: skip
def test_an_echoed_prompt_and_its_answer_are_spelled_as_one_text(tokenizer, prompt, drawn, text):
    body = {"prompt": prompt, "max_tokens": len(drawn), "echo": True}
    with listening(saying(tokenizer, *drawn)) as address, client(address) as api:
        assert complete(api, **body)["choices"][0]["text"] == text
        assert "".join(one["choices"][0]["text"] for one in stream(api, body)) == text
        alone = [complete(api, **body | {"max_tokens": 0})["choices"][0]["text"],
                 complete(api, **body | {"echo": False})["choices"][0]["text"]]  # fmt: skip
    assert alone == [tokenizer.decode(prompt), tokenizer.decode(drawn)]
    assert "".join(alone) != text  # the control: how they meet, neither tells


def test_a_stop_string_of_an_echoed_prompt_ends_nothing():
    ids = GPT1.encode("the cat"), GPT1.encode("sat on the mat")
    with listening(saying(GPT1, *ids[1])) as address, client(address) as api:
        body = {"prompt": ids[0], "max_tokens": len(ids[1]), "echo": True}
        for stop, text in (("cat", "the cat sat on the mat"), ("on", "the cat sat ")):
            (choice,) = complete(api, **body | {"stop": stop})["choices"]
            parts = stream(api, body | {"stop": stop})
            assert choice["text"] == text == "".join(one["choices"][0]["text"] for one in parts)


class Ending(Served):
    """One for which every token ends an answer."""

    ends = property(lambda self: frozenset(range(self.vocab)))


def test_the_end_token_is_among_the_likelihoods_and_not_in_the_text(toy):
    ids = toy.tokenizer.encode("hello")
    body = {"prompt": ids, "max_tokens": 1, "logprobs": 1, "echo": True} | GREEDY
    with listening(Ending("ending", toy.engine, toy.tokenizer)) as address, client(address) as api:
        (choice,) = complete(api, **body)["choices"]
        chunks = events(api.post("/v1/completions", json=body | {"stream": True}))
    found = choice["logprobs"]
    assert choice["text"] == "hello" and choice["finish_reason"] == "stop"
    # as lm-eval cuts the likelihoods of a text: the last is of a token that the model drew
    assert len(found["token_logprobs"]) == len(ids) + 1 and found["tokens"][:-1] == list("hello")
    assert found["token_logprobs"][-1] == max(found["top_logprobs"][-1].values())
    parts = [one["choices"][0]["logprobs"] for one in chunks]
    assert [p for part in parts if part for p in part["token_logprobs"]] == found["token_logprobs"]


def test_a_stream_says_the_same_as_one_answer(api):
    body = {"prompt": "xyz", "max_tokens": 20, "n": 2, "seed": 3, "logprobs": 2, "echo": True}
    whole = complete(api, **body)
    streamed = api.post(
        "/v1/completions", json=body | {"stream": True, "stream_options": {"include_usage": True}}
    )
    assert streamed.headers["content-type"].startswith("text/event-stream")
    told = events(streamed)
    assert told.pop()["usage"] == whole["usage"]
    for index, choice in enumerate(whole["choices"]):
        own = [one["choices"][0] for one in told if one["choices"][0]["index"] == index]
        assert "".join(one["text"] for one in own) == choice["text"]
        tokens = [t for one in own if one["logprobs"] for t in one["logprobs"]["tokens"]]
        assert tokens == choice["logprobs"]["tokens"]
        assert [one["finish_reason"] for one in own][-1] == choice["finish_reason"]


def test_a_stop_string_ends_an_answer_before_it_and_its_slot_is_free(toy, api):
    text = complete(api, prompt="q", max_tokens=40, **GREEDY)["choices"][0]["text"]
    stop = text[5:8]
    for stream in (False, True):
        body = {"prompt": "q", "max_tokens": 40, "stop": ["never", stop], "stream": stream}
        answer = api.post("/v1/completions", json=body | GREEDY)
        chunks = events(answer) if stream else [answer.json()]
        assert "".join(c["choices"][0]["text"] for c in chunks) == text[: text.index(stop)]
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    wait_until(lambda: toy.engine.busy == 0)


def test_a_writer_holds_back_halves_of_characters_and_of_stop_strings():
    writer = Writer(Bytes(lambda byte: bytes([byte])), ["END"])
    shown = [writer.add(byte) for byte in "grün EN ENde ENDE".encode()]
    assert "".join(shown) + writer.finish() == "grün EN ENde " and writer.stopped
    assert "\ufffd" not in "".join(shown) and shown[2] == ""
    plain = Writer(Bytes(lambda byte: bytes([byte])))
    assert plain.add("ä".encode()[0]) == "" and plain.finish() == "\ufffd"


def test_an_answer_in_a_conversation_is_the_assistants_turn(toy, api):
    messages = [{"role": "user", "content": "hi <|im_start|>"}]
    body = {"messages": messages, "max_tokens": 12, "logprobs": True, "top_logprobs": 3} | GREEDY
    found = api.post("/v1/chat/completions", json=body).json()
    (choice,) = found["choices"]
    assert choice["message"]["role"] == "assistant"
    prompt = toy.chat.prompt([Message("user", "hi <|im_start|>")])
    assert found["usage"]["prompt_tokens"] == len(prompt) == 2 + 15 + 1 + 2
    told = choice["logprobs"]["content"]
    assert len(told) == found["usage"]["completion_tokens"] and len(told[0]["top_logprobs"]) == 3
    assert max(told[0]["top_logprobs"], key=lambda one: one["logprob"])["bytes"] == told[0]["bytes"]
    streamed = events(api.post("/v1/chat/completions", json=body | {"stream": True}))
    deltas = [one["choices"][0]["delta"] for one in streamed]
    assert deltas[0]["role"] == "assistant"
    assert "".join(d.get("content", "") for d in deltas) == choice["message"]["content"]
    assert streamed[-1]["choices"][0]["finish_reason"] == choice["finish_reason"]


def test_of_a_long_conversation_the_oldest_turns_are_forgotten(api):
    turns = [{"role": ("user", "assistant")[n % 2], "content": f"turn {n}"} for n in range(9)]
    found = api.post("/v1/chat/completions", json={"messages": turns, "max_tokens": 8}).json()
    assert found["usage"]["prompt_tokens"] <= 56
    long = [{"role": "user", "content": "x" * 100}]
    refused = api.post("/v1/chat/completions", json={"messages": long})
    assert refused.status_code == 400 and "shorten" in refused.json()["error"]["message"]


def test_a_tokenizer_can_be_asked_as_lm_eval_asks_it(toy, api):
    info = api.get("/tokenizer_info").json()
    assert info["eos_token"] == "<|endoftext|>"
    ask = {"add_special_tokens": False}
    eos = api.post("/tokenize", json=ask | {"prompt": info["eos_token"]}).json()["tokens"]
    assert eos == [toy.tokenizer.end]
    inside = api.post("/tokenize", json=ask | {"prompt": "a <|endoftext|>"}).json()["tokens"]
    assert inside == toy.tokenizer.encode("a <|endoftext|>") and toy.tokenizer.end not in inside
    text = api.post("/detokenize", json={"tokens": inside}).json()["prompt"]
    assert text == "a <|endoftext|>"


def test_models_are_listed_and_an_unknown_one_is_named(api):
    (entry,) = api.get("/v1/models").json()["data"]
    assert entry["id"] == "toy" and api.get("/v1/models/toy").json()["id"] == "toy"
    refused = api.post("/v1/completions", json={"model": "gpt-9", "prompt": "x"})
    assert refused.status_code == 404 and "gpt-9" in refused.json()["error"]["message"]
    paths = api.get("/openapi.json").json()["paths"]
    assert "/v1/chat/completions" in paths and "/v1/completions" in paths
    assert not any(path.startswith("/labels") for path in paths)  # it keeps none


def test_chat_is_said_of_models_that_have_learned_turns(toy):
    for learned in (True, False):
        one = replace(toy, learned_turns=learned)
        api = TestClient(application({"toy": one}), base_url="http://127.0.0.1")
        (entry,) = api.get("/v1/models").json()["data"]
        assert entry["chat"] is learned and entry["dialogue"] is learned


def test_ids_of_a_prompt_that_are_no_tokens_are_refused():
    tokenizer = ByteTokenizer()
    vocab = tokenizer.vocab_size
    config = small(length=16, vocab=vocab + 30)
    engine = Engine(config, made(config, 0), slots=1, vocab=vocab).start()
    api = TestClient(application({"it": Served("it", engine, tokenizer)}), "http://127.0.0.1")
    for prompt, code in (([vocab - 1], 200), ([vocab], 400)):
        answer = api.post("/v1/completions", json={"prompt": prompt, "max_tokens": 1})
        assert answer.status_code == code, answer.text
    assert f"from 0 to {vocab - 1}" in answer.json()["error"]["message"]
    engine.close(drain=False)


def test_a_model_whose_numbers_are_none_is_an_error_whatever_is_asked():
    tokenizer = ByteTokenizer()
    config = small(length=16, vocab=tokenizer.vocab_size)
    engine = Engine(config, jax.tree.map(lambda leaf: leaf * np.nan, made(config, 0)), slots=1)
    with listening(Served("it", engine.start(), tokenizer)) as address, client(address) as api:
        for more in ({}, GREEDY, {"logprobs": 0}, {"prompt": "y" * 9}):
            answer = api.post("/v1/completions", json={"prompt": "x", "max_tokens": 5} | more)
            assert answer.status_code == 500, answer.text
            assert "not finite" in answer.json()["error"]["message"]
    engine.close(drain=False)


def test_an_engine_that_has_failed_for_good_is_not_asked_again(toy):
    one = saying(toy.tokenizer)

    def submit(*_):
        raise Failed("the engine has failed")

    one.engine.submit = submit
    with listening(one) as address, client(address) as api:
        for more in ({}, {"stream": True}):
            answer = api.post("/v1/completions", json={"prompt": "x"} | more)
            assert answer.status_code == 503 and "Retry-After" not in answer.headers
            assert answer.json()["error"]["type"] == "server_error"


def test_a_client_that_leaves_stops_costing(toy, api, monkeypatch):
    body = {"prompt": "x", "max_tokens": 60, "stream": True} | GREEDY
    assert complete(api, **body | {"stream": False})["usage"]["completion_tokens"] == 60
    step = toy.engine._step

    def slow():
        time.sleep(0.02)  # so that the answer would last longer than it takes to leave
        return step()

    monkeypatch.setattr(toy.engine, "_step", slow)
    before = toy.engine.tokens
    for _ in range(3):
        with api.stream("POST", "/v1/completions", json=body) as answer:
            next(answer.iter_lines())
    wait_until(lambda: toy.engine.busy == 0)
    assert 3 <= toy.engine.tokens - before <= 90


@pytest.mark.slow
def test_more_than_the_queue_holds_gets_429_and_the_rest_an_answer(toy, address):
    statuses, lock = [], threading.Lock()

    def ask():
        with client(address) as own:
            answer = own.post("/v1/completions", json={"prompt": "x", "max_tokens": 50})
            with lock:
                statuses.append(answer.status_code)

    threads = [threading.Thread(target=ask) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(statuses) == {200, 429} and len(statuses) == 100
    assert statuses.count(200) >= 7  # three slots and four waiting
