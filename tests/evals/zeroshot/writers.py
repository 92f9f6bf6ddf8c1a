"""Stand-ins for a model that writes what a test says."""

from collections.abc import Callable

from lm.evals.scorer import Score
from lm.text.byte import ByteTokenizer


class Writer:
    """A scorer whose text after a prompt is a function of it."""

    tokenizer = ByteTokenizer()

    def __init__(self, write: Callable[[str], str], length: int = 4096):
        self.write, self.length = write, length
        self.asked: list[dict] = []

    def generate(self, prompts, tokens, *, stop=("\n",), **how):
        for prompt in prompts:
            assert len(self.tokenizer.encode(prompt)) + tokens <= self.length
        self.asked.append({"prompts": list(prompts), "tokens": tokens, "stop": stop} | how)
        return [self.write(prompt).split(stop[0])[0] if stop else self.write(prompt)
                for prompt in prompts]  # fmt: skip

    def scores(self, requests):
        """The shorter the answer, the surer."""
        return [Score(-float(len(one.continuation)), 1, False, 0) for one in requests]
