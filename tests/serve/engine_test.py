"""Requests that come and go while one program decodes all of them."""

import itertools
import re
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.core.errors import ConfigError, TooLong
from lm.decode.generate import Generator
from lm.decode.penalties import Penalties
from lm.decode.sampling import SamplingConfig, sample, sample_each
from lm.models.gpt import forward
from lm.serve.engine import Engine, doubling
from lm.serve.programs import decode
from lm.serve.request import Asked, Busy, Drawn, Ended, Failed, Prompted
from tests.models.gpt_test import made, small

GREEDY = SamplingConfig(temperature=0)
ALL = Penalties(frequency=0.7, presence=0.4, repetition=1.3, bias=((4, 1.5), (9, -2.0)), least=6)
PROMPTS = [[3, 1, 4, 1, 5, 9, 2, 6], [7], [5, 3, 5], list(range(1, 40)), [8] * 12, [2, 2]]


class Listener:
    """What the engine tells of one request."""

    def __init__(self):
        self.events, self.ended, self.first = [], threading.Event(), threading.Event()

    def __call__(self, event):
        self.events.append(event)
        if isinstance(event, Drawn):
            self.first.set()
        if isinstance(event, Ended):
            self.ended.set()

    def tokens(self):
        assert self.ended.wait(60), "the engine never ended it"
        return [event.token for event in self.events if isinstance(event, Drawn)]

    @property
    def reason(self):
        return self.events[-1].reason


def asked(prompt, count=20, sampling=GREEDY, **more):
    listener = Listener()
    return Asked(prompt=prompt, max_tokens=count, sampling=sampling, tell=listener, **more)


@pytest.fixture(scope="module")
def model():
    config = small(length=80)
    return config, made(config)


@pytest.fixture(scope="module")
def engine(model):
    engine = Engine(*model, slots=3, queue=4).start()
    yield engine
    engine.close(drain=False)


@pytest.mark.slow
@pytest.mark.parametrize("piece", [256, 16])
@pytest.mark.parametrize(
    "pattern", [("dense", "banded"), ("strided", "fixed"), (("banded", "columns"),) * 2]
)
def test_requests_that_come_and_go_get_the_tokens_that_each_gets_alone(pattern, piece):
    config = small(length=80, pattern=pattern, band=5, stride=4, summary=2)
    params = made(config)
    engine = Engine(config, params, slots=3, queue=9, piece=piece).start()
    requests = [asked(prompt, 8 + 5 * n) for n, prompt in enumerate(PROMPTS)]
    for one in requests:
        engine.submit(one)
    alone = Generator(config, params, end=None)
    for n, one in enumerate(requests):
        assert one.tell.tokens() == alone([PROMPTS[n]], 8 + 5 * n, GREEDY)[0], n
        assert one.tell.reason == "length"
    engine.close()


def test_a_draw_depends_on_the_seed_and_not_on_the_neighbours(model, engine):
    sampling = SamplingConfig(temperature=0.9, top_k=20, top_p=0.8)
    others = [asked([n], 30, SamplingConfig(temperature=1.5), seed=n) for n in (1, 2)]
    one = asked([4, 2], 25, sampling, seed=7)
    engine.submit(*others, one)
    assert one.tell.tokens() == Generator(*model, end=None)([[4, 2]], 25, sampling, seed=7)[0]
    again, other = asked([4, 2], 25, sampling, seed=7), asked([4, 2], 25, sampling, seed=8)
    engine.submit(again, other)
    assert again.tell.tokens() == one.tell.tokens() != other.tell.tokens()


def test_rows_with_settings_of_their_own_are_drawn_as_each_alone():
    logits = 3 * jax.random.normal(jax.random.key(1), (6, 50))
    keys = jax.random.split(jax.random.key(2), 6)
    settings = [(0, None, None, 0), (1.0, None, None, 0), (0.7, 5, None, 0), (1.3, None, 0.5, 0),
                (1.0, 9, 0.9, 0.1), (2.0, 1, None, 0)]  # fmt: skip
    filled = ((t, k or 50, p or 1.0, m) for t, k, p, m in settings)
    temperature, top_k, top_p, min_p = zip(*filled, strict=True)
    found = np.asarray(jax.jit(sample_each)(
        keys, logits, np.float32(temperature), np.int32(top_k), np.float32(top_p),
        np.float32(min_p),
    ))  # fmt: skip
    alone = jax.jit(sample, static_argnums=2)
    for n, (t, k, p, m) in enumerate(settings):
        config = SamplingConfig(temperature=t, top_k=k, top_p=p, min_p=m)
        assert found[n] == int(alone(keys, logits, config)[n])


def test_nothing_compiles_while_requests_are_served(engine):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: compiled.append(name) if "backend_compile" in name else None
    )
    warm = SamplingConfig(temperature=0.8, top_k=3, top_p=0.9)
    for n, size in enumerate((1, 5, 30, 64, 65, 70)):
        some = [
            asked([1] * size, 5, warm, seed=n),
            asked([2] * size, 3, alternatives=True, scored=True, penalties=ALL),
        ]
        engine.submit(*some)
        for one in some:
            one.tell.tokens()
    assert not compiled
    jax.jit(lambda x: x + 12345)(np.float32(1))  # the listener does hear of one
    assert compiled


def by_hand(model, prompt, count, asked, ends):
    """The likeliest tokens under penalties, each from the whole text before it."""
    config, params = model
    whole, drawn = jax.jit(forward, static_argnums=0), []
    for place in range(count):
        text = [*prompt, *drawn]
        row = np.array([[*text, *[0] * (config.length - len(text))]])
        logits = np.array(whole(config, params, row)[0][0, len(text) - 1])
        for token in {*text}:
            logits[token] *= asked.repetition if logits[token] < 0 else 1 / asked.repetition
        for token in {*drawn}:
            logits[token] -= asked.presence + asked.frequency * drawn.count(token)
        for token, value in asked.bias:
            logits[token] += value
        if place < asked.least:
            logits[[*ends]] = -np.inf
        drawn.append(int(logits.argmax()))
        if drawn[-1] in ends:
            return drawn[:-1]
    return drawn


@pytest.mark.parametrize("size", [5, 40])  # read at once, and in pieces
def test_penalties_are_those_of_a_text_by_hand_and_not_of_its_neighbours(model, patient, size):
    prompt = [(7 * n) % 50 for n in range(size)]
    plain = Generator(*model, end=None)([prompt], 20, GREEDY)[0]
    ends = frozenset({plain[0]})
    for asked_for in (ALL, Penalties(frequency=1.5), Penalties(repetition=1.5)):
        one = asked(prompt, 20, penalties=asked_for, ends=ends)
        beside = asked(prompt, 20)
        patient.submit(beside, one)
        assert one.tell.tokens() == by_hand(model, prompt, 20, asked_for, ends)
        assert beside.tell.tokens() == plain
    assert len(by_hand(model, prompt, 20, ALL, ends)) >= ALL.least  # the control


@pytest.mark.parametrize("prompt", [[3, 1, 4], list(range(1, 41))])  # at once, and in pieces
def test_what_fills_up_a_prompt_is_not_penalised_as_what_stands_in_it(model, patient, prompt):
    config, params = model
    logits, _ = jax.jit(forward, static_argnums=0)(config, params, np.array([prompt]))
    row = np.asarray(logits)[0, -1]
    rest = np.delete(row, [0, *prompt]).max()
    biased = ((0, float(rest - row[0] + abs(row[0]) / 4)),)  # id 0 is ahead by a little
    found = []
    for bias in (biased, ()):
        one = asked(prompt, 1, penalties=Penalties(repetition=100.0, bias=bias))
        patient.submit(one)
        found += one.tell.tokens()
    assert found[0] == 0 != found[1]


@pytest.mark.parametrize("piece", [256, 16])
def test_ids_that_are_no_tokens_are_neither_drawn_nor_told(model, piece):
    config, params = model
    engine = Engine(config, params, slots=1, vocab=15, piece=piece).start()
    hot = SamplingConfig(temperature=2.0)
    prompt = list(range(15)) * 2
    one = asked(prompt, 40, hot, seed=3, alternatives=True, scored=True)
    engine.submit(one)
    drawn = one.tell.tokens()
    engine.close()
    alone = Generator(config, params, end=None, vocab=15)
    assert drawn == alone([prompt], 40, hot, seed=3)[0]
    text = [*prompt, *drawn]
    logits = forward(config, params, jnp.array([text]))[0][0, :-1, :15]
    logp = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), np.c_[text[1:]], axis=1)
    prompted, *events = one.tell.events[:-1]
    parts = [prompted.likely, *(event.likely for event in events)]
    told = np.concatenate([part.logp for part in parts])
    np.testing.assert_allclose(told, logp[:, 0], atol=2e-5)
    ids = np.concatenate([part.ids for part in parts])
    assert (np.sort(ids, axis=1) == np.arange(15)).all()  # each of them, and no other


def test_a_client_that_leaves_frees_its_slot(engine):
    endless = [asked([n], 70) for n in range(3)]
    engine.submit(*endless)
    late = asked([9], 2)
    engine.submit(late)
    for one in endless:
        assert one.tell.first.wait(60)
        one.leave()
    assert len(late.tell.tokens()) == 2
    for one in endless:
        assert len(one.tell.tokens()) < 70 and one.tell.reason == "left"
    assert engine.busy == 0


def test_a_full_queue_is_busy_and_takes_all_of_a_request_or_nothing(engine):
    held = threading.Event()
    blocking = Asked(prompt=[1], max_tokens=5, sampling=GREEDY, tell=lambda _: held.wait(60))
    engine.submit(blocking)  # the engine now stands until it is let go
    many = [asked([1], 2) for _ in range(6)]
    engine.submit(*many[:3])
    with pytest.raises(Busy, match="wait already"):
        engine.submit(*(asked([1], 2) for _ in range(5)))
    held.set()
    for one in many[:3]:
        assert len(one.tell.tokens()) == 2


def test_closing_answers_what_is_there_and_takes_no_more(model):
    engine = Engine(*model, slots=3, queue=8).start()
    some = [asked([n], 10) for n in range(5)]
    engine.submit(*some)
    engine.close(drain=True)
    assert [len(one.tell.tokens()) for one in some] == [10] * 5
    with pytest.raises(Busy, match="closing"):
        engine.submit(asked([1], 1))


@pytest.fixture(scope="module")
def patient(model):
    """One that reads 16 tokens between two steps."""
    engine = Engine(*model, slots=3, queue=4, piece=16).start()
    yield engine
    engine.close(drain=False)


def test_others_get_tokens_between_the_pieces_of_a_long_prompt(model, patient, monkeypatch):
    happened, advance, step = [], patient.reader.advance, patient._step

    def advanced(reading, slots):
        happened.append(f"read {len(reading.asked.prompt)}")
        return advance(reading, slots)

    def stepped():
        flight = step()
        happened.append("step" if flight else "idle")
        return flight

    monkeypatch.setattr(patient.reader, "advance", advanced)
    monkeypatch.setattr(patient, "_step", stepped)
    short, long = asked([7], 60), asked(list(range(1, 66)), 5)
    patient.submit(short)
    assert short.tell.first.wait(60)
    patient.submit(long)
    long.tell.tokens()
    pieces = [place for place, name in enumerate(happened) if name == "read 65"]
    assert len(pieces) == 5  # 65 tokens in pieces of 16
    for one, next_one in itertools.pairwise(pieces):
        assert "step" in happened[one:next_one]
    short.leave()
    # the control: read at once, nobody is served while it lasts
    assert patient.reader.piece < 65 <= Engine(*model, slots=3).reader.piece


def test_a_prompt_is_scored_alike_in_pieces_and_at_once(engine, patient):
    told = []
    for one in (engine, patient):
        request = asked(PROMPTS[3], 0, scored=True)
        one.submit(request)
        request.tell.tokens()
        told.append(request.tell.events[0].likely)
    np.testing.assert_allclose(told[0].logp, told[1].logp, atol=2e-5)
    assert told[0].ids.shape == told[1].ids.shape == (len(PROMPTS[3]) - 1, 20)


def test_a_client_that_leaves_while_its_prompt_is_read_frees_its_slot(patient, monkeypatch):
    advance, long = patient.reader.advance, asked([3] * 70, 5)

    def leaving(reading, slots):
        if reading.asked is long:
            long.leave()
        return advance(reading, slots)

    monkeypatch.setattr(patient.reader, "advance", leaving)
    after = asked([4] * 70, 3)
    patient.submit(long, after)
    assert len(after.tell.tokens()) == 3 and long.tell.reason == "left"
    assert patient.busy == 0


def test_a_fault_of_the_device_ends_what_runs_and_an_error_of_ours_the_engine(model, monkeypatch):
    engine = Engine(*model, slots=3, queue=4).start()
    step = engine._step

    def broken(error):
        def once():
            monkeypatch.setattr(engine, "_step", step)
            raise error

        return once

    monkeypatch.setattr(engine, "_step", broken(jax.errors.JaxRuntimeError("out of memory")))
    one = asked([7], 5)
    engine.submit(one)
    assert one.tell.tokens() == [] and one.tell.reason == "error"
    again = asked([7], 5)
    engine.submit(again)
    assert len(again.tell.tokens()) == 5 and not engine.failed
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr(engine, "_step", broken(KeyError("ours")))
    last = asked([7], 5)
    engine.submit(last)
    assert last.tell.tokens() == [] and last.tell.reason == "error" and engine.failed
    with pytest.raises(Failed, match="has failed"):
        engine.submit(asked([7], 5))


@pytest.mark.parametrize("sampling", [GREEDY, SamplingConfig(temperature=1.0)])
def test_logits_that_are_no_numbers_end_an_answer_and_not_the_one_beside_it(
    engine, monkeypatch, sampling
):
    one, other = asked([7], 20, sampling), asked([7], 20, GREEDY)
    step, steps = engine._step, itertools.count()

    def spoiled():
        if next(steps) == 2:
            logits = engine._state.logits.at[0, 3].set(np.nan)
            engine._state = engine._state.replace(logits=logits)
        return step()

    monkeypatch.setattr(engine, "_step", spoiled)
    engine.submit(one, other)
    assert len(one.tell.tokens()) == 2 and one.tell.reason == "error"
    assert "not finite" in one.tell.events[-1].fault
    assert len(other.tell.tokens()) == 20 and other.tell.reason == "length"


@pytest.mark.parametrize("prompt", [[7], [4] * 40])  # read at once, and in pieces
def test_numbers_that_are_none_stay_in_no_slot(model, patient, prompt):
    def answer():
        one = asked(prompt, 20)
        patient.submit(one)
        return one.tell.tokens()

    plain, state = answer(), patient._state
    spoiled = jax.tree.map(lambda leaf: jnp.full_like(leaf, np.nan), state.layers)
    patient._state = state.replace(layers=spoiled)
    assert answer() == plain and len(plain) == 20


def test_an_end_token_ends_an_answer_and_is_not_told(model, engine):
    plain = Generator(*model, end=None)([[1, 2, 3]], 20, GREEDY)[0]
    one = asked([1, 2, 3], 20, ends=frozenset({plain[5]}))
    engine.submit(one)
    assert one.tell.tokens() == plain[: plain.index(plain[5])] and one.tell.reason == "stop"
    assert one.tell.events[-1].token == plain[5]


def test_one_that_cannot_be_told_anything_ends_alone(engine):
    def broken(_):
        raise RuntimeError("its loop is closed")

    other = asked([7], 10)
    engine.submit(Asked(prompt=[1], max_tokens=20, sampling=GREEDY, tell=broken), other)
    assert len(other.tell.tokens()) == 10 and other.tell.reason == "length"
    assert engine._thread.is_alive()


def test_more_at_once_than_ever_fit_is_a_mistake_and_not_busy(engine):
    with pytest.raises(ConfigError, match="8 answers at once are more than 7"):
        engine.submit(*(asked([1], 1) for _ in range(8)))


def test_likelihoods_are_those_of_the_whole_sequence_at_once(model, engine):
    config, params = model
    one = asked(PROMPTS[0], 6, alternatives=True, scored=True)
    engine.submit(one)
    ids = [*PROMPTS[0], *one.tell.tokens()]
    logits, _ = jax.jit(forward, static_argnums=0)(config, params, np.array([ids]))
    whole = np.asarray(jax.jit(jax.nn.log_softmax)(logits))[0]
    expected = [float(whole[at - 1, token]) for at, token in enumerate(ids) if at]
    (prompted,) = (event for event in one.tell.events if isinstance(event, Prompted))
    drawn = [event.likely for event in one.tell.events if isinstance(event, Drawn)]
    found = [*prompted.likely.logp, *(each.logp[0] for each in drawn)]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    for at, each in enumerate(drawn, start=len(PROMPTS[0]) - 1):
        np.testing.assert_array_equal(each.ids[0], jax.lax.top_k(whole[at], 20)[1])
    scored = asked(PROMPTS[0], 0, scored=True)
    engine.submit(scored)
    assert scored.tell.tokens() == [] and scored.tell.reason == "length"


def test_a_request_that_does_not_fit_is_refused(engine):
    with pytest.raises(TooLong, match="60 tokens and 21 more are 81, the context is 80"):
        engine.submit(asked([1] * 60, 21))
    with pytest.raises(ConfigError, match="prompt is empty"):
        engine.submit(asked([], 5))
    full = asked([1] * 60, 20)
    engine.submit(full)
    assert len(full.tell.tokens()) == 20


@pytest.mark.parametrize("rows", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_a_step_copies_no_cache(model, rows):
    config, params = model
    engine = Engine(config, params, slots=3)
    lowered = decode.lower(config, engine._params, engine._state, np.ones(3, bool), rows, 80)
    shape = ",".join(map(str, engine._state.layers[0].k.shape))
    text = lowered.compile().as_text()
    assert f"f32[{shape}]" in text
    assert not re.findall(rf"= f32\[{shape}\]\S* copy\(", text)


def test_sizes_double_up_to_the_last():
    assert doubling(64, 64) == [64] and doubling(64, 10) == [10]
    assert doubling(64, 300) == [64, 128, 256, 300]
