"""A run as a server has it: its engine, its tokenizer, and how it takes part in a conversation."""

import dataclasses
import functools
import time
from collections.abc import Iterable

from lm.core.errors import ConfigError
from lm.models.gpt_vision import GptVisionConfig
from lm.serve.engine import Engine
from lm.serve.spelling import Spelling, spelling_of
from lm.serve.turns import Questions
from lm.text.dialogue import DIALOGUE_SPECIALS, Chat
from lm.text.interface import SPECIALS, Tokenizer


@dataclasses.dataclass(frozen=True)
class Served:
    """One model under its name."""

    name: str
    engine: Engine
    tokenizer: Tokenizer
    learned_turns: bool = True  # in training; a vocabulary alone may have roles
    created: int = dataclasses.field(default_factory=lambda: int(time.time()))

    @functools.cached_property
    def chat(self) -> Chat:
        """How it talks.

        Raises:
          ConfigError: its vocabulary has no roles.
        """
        known = self.tokenizer.specials
        if any(known.get(name, self.vocab) >= self.vocab for name in DIALOGUE_SPECIALS):
            raise ConfigError(
                f"{self.name} knows no conversations: its vocabulary has no roles. Ask for a "
                "completion, or serve a run of chatgpt:sft"
            )
        return Chat(self.tokenizer)

    def questions(self, sight: GptVisionConfig) -> Questions:
        """How it is asked about images, as a model that sees."""
        return Questions(self.tokenizer, sight.image_id, sight.slots, sight.dialogue)

    @property
    def talks(self) -> bool:
        """Whether it has learned to answer in a conversation."""
        return self.sight is not None or (self.learned_turns and self.has_roles)

    @property
    def has_roles(self) -> bool:
        """Whether a conversation can be put to it at all."""
        try:
            return bool(self.chat)
        except ConfigError:
            return False

    @property
    def dialogue(self) -> bool:
        """Whether it reads the whole of a conversation, what the system says with it."""
        return self.has_roles if self.sight is None else self.sight.dialogue

    @property
    def sight(self) -> GptVisionConfig | None:
        """How it sees; None where it reads text alone."""
        return self.engine.reader.sight

    @property
    def images(self) -> int:
        """Images that its context holds at most; 0 where it reads text alone."""
        return self.engine.reader.images

    @property
    def vocab(self) -> int:
        """Ids that are tokens, of a model that may have more."""
        return self.engine.vocab

    @functools.cached_property
    def spelled(self) -> dict[int, str]:
        """How each special is written when it is shown."""
        known = self.tokenizer.specials.items()
        return {i: SPECIALS.get(name, f"<|{name}|>") for name, i in known}

    def piece(self, token: int) -> str:
        """One token for people: text, a special's spelling, or OpenAI's "bytes:" notation."""
        if token in self.spelled:
            return self.spelled[token]
        raw = self.tokenizer.decode_bytes([token])
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)

    def raw(self, token: int) -> bytes:
        """The bytes of a token by itself."""
        return self.tokenizer.decode_bytes([token])

    def text(self, tokens: Iterable[int]) -> str:
        """What ids say together."""
        return self.tokenizer.decode(tokens)

    def spelling(self) -> Spelling:
        """What turns the ids of one answer into text."""
        return spelling_of(self.tokenizer)

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end a completion."""
        return frozenset({self.tokenizer.end})

    @property
    def chat_ends(self) -> frozenset[int]:
        """Tokens that end an answer."""
        if self.sight is not None:
            return self.ends
        return frozenset({self.chat.end, self.tokenizer.end})
