"""How long BERT's rows are, and the two marks that every one of them has."""

import dataclasses

from lm.core.config import require, require_positive
from lm.core.errors import ConfigError
from lm.text.interface import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertFeatures:
    """How long rows are, in tokens. The values are those of the released code."""

    length: int = 128  # specials included; 384 for SQuAD
    question: int = 64  # a question about a passage is cut to this
    stride: int = 128  # from one window of a passage to the next
    documents: bool = True  # tagged sentences of one document are each other's context

    def __post_init__(self) -> None:
        require_positive(self, "length", "question", "stride")
        require(self.length >= 8, f"length {self.length} holds no pair: set at least 8")


def delimiters(tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids of [CLS] and [SEP]; ConfigError where the vocabulary has none."""
    for name in ("cls", "sep"):
        if name not in tokenizer.specials:
            raise ConfigError(
                f"a {tokenizer.kind} vocabulary has no special {name!r}, which BERT's input needs: "
                "set tokenizer.kind to wordpiece, sentencepiece or bytes"
            )
    return tokenizer.specials["cls"], tokenizer.specials["sep"]
