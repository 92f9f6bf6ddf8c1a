"""Clients that others wrote work unchanged: OpenAI's, and lm-eval's `local-completions`."""

import jax
import numpy as np
import pytest

from lm.models.gpt import forward
from tests.serve.served import listening, served

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def toy():
    one = served(length=128, queue=32)
    yield one
    one.engine.close(drain=False)


@pytest.fixture(scope="module")
def address(toy):
    with listening(toy) as address:
        yield address


def test_openais_client(toy, address):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=address + "/v1", api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == ["toy"]
    whole = client.completions.create(
        model="toy", prompt="abc", max_tokens=8, temperature=0, logprobs=2, echo=True, n=2
    )
    assert len(whole.choices) == 2 and whole.choices[0].logprobs.tokens[:3] == ["a", "b", "c"]
    parts = client.completions.create(
        model="toy", prompt="abc", max_tokens=8, temperature=0, stream=True
    )
    text = "".join(part.choices[0].text for part in parts)
    assert "abc" + text == whole.choices[0].text
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    answer = client.chat.completions.create(
        model="toy", messages=messages, max_completion_tokens=9, temperature=0, logprobs=True
    )
    streamed = client.chat.completions.create(
        model="toy", messages=messages, max_completion_tokens=9, temperature=0, stream=True
    )
    said = "".join(part.choices[0].delta.content or "" for part in streamed)
    assert said == answer.choices[0].message.content
    assert len(answer.choices[0].logprobs.content) == answer.usage.completion_tokens
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.completions.create(model="toy", prompt="x", temperature=9)
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="other", prompt="x")


def test_lm_evals_local_completions(toy, address):
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    model = LocalCompletionsAPI(
        base_url=address + "/v1/completions", model="toy", tokenizer_backend="remote",
        tokenized_requests=True, batch_size=2, max_length=128,
    )  # fmt: skip
    pairs = [("the cat", " sat"), ("a", " dog"), ("one two", " three")]
    asked = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)]
    found = model.loglikelihood(asked)
    for (context, answer), (logp, _) in zip(pairs, found, strict=True):
        ids = toy.tokenizer.encode(context + answer)
        logits = forward(toy.engine.config, toy.engine._params, np.array([ids]))[0][0]
        every = jax.nn.log_softmax(logits)
        start = len(toy.tokenizer.encode(context))
        expected = sum(float(every[at - 1, ids[at]]) for at in range(start, len(ids)))
        assert logp == pytest.approx(expected, abs=1e-3)
    until = Instance("generate_until", {}, ("abc", {"until": ["zzz"], "max_gen_toks": 5}), 0)
    (text,) = model.generate_until([until])
    assert isinstance(text, str)
