"""How a client wants its answers, by the names of OpenAI's and vLLM's fields."""

import dataclasses
import re

from lm.decode.penalties import MOST_BIASES, Penalties
from lm.decode.sampling import SamplingConfig
from lm.serve.body import Fields
from lm.serve.model import Served
from lm.serve.request import SEEDS

MOST_STOPS = 32
MOST_CHOICES = 128
MOST_TOP_K = 1 << 20
TOKEN = re.compile(r"[0-9]{1,9}")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What completions and chat completions have in common."""

    max_tokens: int | None
    sampling: SamplingConfig
    seed: int | None  # None: every prompt has draws of its own
    choices: int
    draws: int  # of which the likeliest are the choices
    stops: list[str]
    penalties: Penalties
    endless: bool  # no token of the model's own ends an answer
    stop_ids: frozenset[int]  # tokens that do besides
    stream: bool
    usage: bool  # whether a stream ends with the numbers of tokens

    @classmethod
    def read(cls, fields: Fields, served: Served) -> "Settings":
        """Raises Refused for what is out of range or not supported."""
        fields.absent("tools", "functions", "suffix", "audio", "web_search_options")
        fields.absent("response_format", but=[{"type": "text"}])
        fields.absent("modalities", but=[["text"]])
        fields.absent("tool_choice", "function_call", but=["auto", "none"])
        length = served.engine.length
        newer = fields.take("max_completion_tokens") is not None
        alias = "max_completion_tokens" if newer else "max_tokens"
        options = Fields(fields.take("stream_options", {}))
        if not isinstance(options.body, dict):
            raise fields.wrong("stream_options", "an object")
        seed = fields.whole("seed", None, -(2**63), 2**63 - 1)
        choices = fields.whole("n", 1, 1, MOST_CHOICES)
        return cls(
            max_tokens=fields.whole(alias, None, 0, length),
            sampling=SamplingConfig(
                temperature=fields.number("temperature", 1.0, 0, 2) or 0.0,
                top_k=max(0, fields.whole("top_k", 0, -1, MOST_TOP_K)),  # -1: all, as vLLM's
                top_p=fields.number("top_p", None, 0, 1),
                min_p=fields.number("min_p", 0.0, 0, 1) or 0.0,
            ),
            seed=None if seed is None else seed % SEEDS,
            choices=choices,
            draws=choices,
            stops=fields.strings("stop", MOST_STOPS),
            penalties=read_penalties(fields, served),
            endless=fields.flag("ignore_eos"),
            stop_ids=read_stop_ids(fields, served),
            stream=fields.flag("stream"),
            usage=options.flag("include_usage"),
        )

    def ends(self, own: frozenset[int]) -> frozenset[int]:
        """The tokens that end an answer, where a model's `own` do."""
        return self.stop_ids if self.endless else own | self.stop_ids


def read_penalties(fields: Fields, served: Served) -> Penalties:
    """OpenAI's and vLLM's of a body."""
    bias = fields.take("logit_bias", {})
    known = isinstance(bias, dict) and len(bias) <= MOST_BIASES
    if not known or not all(
        TOKEN.fullmatch(token) and int(token) < served.vocab
        and type(value) in (int, float) and -100 <= value <= 100
        for token, value in bias.items()
    ):  # fmt: skip
        raise fields.wrong(
            "logit_bias",
            f"an object of at most {MOST_BIASES} ids, from 0 to {served.vocab - 1}, with numbers "
            "from -100 to 100",
        )
    return Penalties(
        frequency=fields.number("frequency_penalty", 0.0, -2, 2) or 0.0,
        presence=fields.number("presence_penalty", 0.0, -2, 2) or 0.0,
        repetition=fields.number("repetition_penalty", 1.0, 0.01, 100) or 1.0,
        bias=tuple((int(token), float(value)) for token, value in bias.items()),
        least=fields.whole("min_tokens", 0, 0, served.engine.length),
    )


def read_stop_ids(fields: Fields, served: Served) -> frozenset[int]:
    """vLLM's `stop_token_ids`."""
    ids = fields.take("stop_token_ids", [])
    if not isinstance(ids, list) or len(ids) > MOST_STOPS or not all(
        type(i) is int and 0 <= i < served.vocab for i in ids
    ):  # fmt: skip
        raise fields.wrong(
            "stop_token_ids", f"a list of at most {MOST_STOPS} ids, from 0 to {served.vocab - 1}"
        )
    return frozenset(ids)
