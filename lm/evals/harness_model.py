"""Our models as lm-evaluation-harness asks for them: likelihoods, rolling likelihoods, texts.

Only `lm.evals.harness` imports this, since lm-eval is an optional extra.
"""

from collections.abc import Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from lm.core.errors import ConfigError
from lm.evals.scorer import Request, Scorer

TOKENS = 256  # that a text may have where a task does not say, as in lm-eval
SETTINGS = {  # that we understand
    "until", "max_gen_toks", "do_sample", "temperature", "top_k", "top_p",
}  # fmt: skip


class HarnessModel(LM):
    """A scorer behind lm-eval's interface. Its batches are the scorer's own."""

    def __init__(self, scorer: Scorer, seed: int = 0):
        super().__init__()
        self.scorer, self.seed = scorer, seed

    @property
    def tokenizer_name(self) -> str:
        return self.scorer.tokenizer.digest  # by which lm-eval's caches of requests differ

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """
        Raises:
          ConfigError: always. Turns are marked by ids, which no text holds that is read again.
        """
        raise ConfigError(
            "--apply_chat_template is not for --model lm, whose turns are no text: start "
            "python -m launch.serve --workdir=RUN, and give --model local-chat-completions "
            "--model_args model=NAME,base_url=http://127.0.0.1:8000/v1/chat/completions"
        )

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        scores = self.scorer.scores([Request(*request.args) for request in requests])
        return [(score.log_likelihood, score.greedy) for score in scores]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """In the windows of lm-eval: each as long as the context, behind one token."""
        found = []
        for request in requests:
            ids = self.scorer.tokenizer.encode(request.args[0])
            found.append(-float(self.scorer.rolling(ids, stride=self.scorer.length).sum()))
        return found

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Requests with the same settings are written together; a long context keeps its end.

        Raises:
          ConfigError: a setting that we do not have, or more tokens than the model's context.
        """
        found = [""] * len(requests)
        groups: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(repr(sorted(request.args[1].items())), []).append(number)
        for numbers in groups.values():
            settings = read_settings(requests[numbers[0]].args[1])
            room = self.scorer.length - settings["tokens"]
            if room < 1:
                raise ConfigError(
                    f"max_gen_toks is {settings['tokens']} and the model's context "
                    f"{self.scorer.length}; give --gen_kwargs max_gen_toks=N below it"
                )
            prompts = [self.shortened(requests[number].args[0], room) for number in numbers]
            written = self.scorer.generate(prompts, **settings, seed=self.seed)
            for number, text in zip(numbers, written, strict=True):
                found[number] = text
        return found

    def shortened(self, text: str, room: int) -> str:
        """The end of a text that is no more than `room` tokens."""
        encode, size = self.scorer.tokenizer.encode, room
        while len(ids := encode(text)) > room:  # what is cut off may be encoded as more tokens
            text = self.scorer.tokenizer.decode(ids[-size:])
            size -= 1
        return text


def read_settings(given: dict[str, Any]) -> dict[str, Any]:
    """lm-eval's settings of generation as arguments of `Scorer.generate`.

    Raises:
      ConfigError: one that we do not have, or that does not fit the others.
    """
    unknown = sorted(given.keys() - SETTINGS)
    if unknown:
        raise ConfigError(
            f"generation has no setting {', '.join(unknown)}; known: {', '.join(sorted(SETTINGS))}"
        )
    until = given.get("until") or []
    stops: Sequence[str] = [until] if isinstance(until, str) else until
    temperature = float(given.get("temperature") or 0.0)
    if given.get("do_sample") and not temperature:
        temperature = 1.0
    return {
        "tokens": int(given.get("max_gen_toks", TOKENS)),
        "stop": tuple(stop for stop in stops if stop),
        "temperature": temperature if given.get("do_sample", temperature > 0) else 0.0,
        "top_k": given.get("top_k"),
        "top_p": given.get("top_p"),
    }
