"""Talks with a run in the terminal.

python -m launch.chat --workdir=runs/chat
python -m launch.chat --workdir=runs/chat --system="You are brief." --temperature=0.7

Ctrl-C stops an answer; at an empty prompt it asks for /quit. /help lists what else can be said.
"""

import json
import os
import queue
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from launch import command
from lm.core.errors import ConfigError, DataError, UserError

if TYPE_CHECKING:
    from lm.decode.sampling import SamplingConfig
    from lm.serve.model import Served
    from lm.text.dialogue import Message

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
SYSTEM = flags.DEFINE_string("system", "", "What the assistant is told first.")
TEMPERATURE = flags.DEFINE_float("temperature", 0.8, "0 takes the likeliest token (greedy).")
TOP_K = flags.DEFINE_integer("top_k", None, "Draw among the likeliest so many.")
TOP_P = flags.DEFINE_float("top_p", None, "Draw among the likeliest that reach this probability.")
MAX_TOKENS = flags.DEFINE_integer("max_tokens", None, "Tokens of an answer at most.", 1)
SEED = flags.DEFINE_integer("seed", 0, "Of the draws.", lower_bound=0)
STEP = flags.DEFINE_integer("step", None, "Checkpoint to use; the newest by default.")

HELP = """/regenerate        another answer to the last message
/system [TEXT]     what the assistant is told first; nothing: as if nothing
/temperature [X]   show or set it; 0 takes the likeliest token
/new               forget the conversation
/save FILE         write the conversation as JSON, as training and OpenAI's interface read it
/help              this
/quit              end; so does Ctrl-D"""


class Talk:
    """A conversation in a terminal."""

    def __init__(self, served: "Served", sampling: "SamplingConfig", system: str):
        self.served, self.sampling, self.system = served, sampling, system
        self.turns: list[Message] = []
        self.drawn = 0  # answers so far: each has draws of its own

    def say(self, line: str) -> bool:
        """Takes a line; false where it ends the conversation."""
        from lm.text.dialogue import Message

        if not line.strip():
            return True
        if line.startswith("/"):
            return self.obey(*line[1:].partition(" ")[::2])
        if self.turns and self.turns[-1].role == "user":
            self.turns.pop()  # its answer never came
        self.turns.append(Message("user", line))
        self.answer()
        return True

    def obey(self, name: str, text: str) -> bool:
        """Does what a command says."""
        text = text.strip()
        if name in ("quit", "exit"):
            return False
        if name == "help":
            print(HELP)
        elif name == "new":
            self.turns = []
            print("[a new conversation]")
        elif name == "system":
            self.system = text
            print(f"[the assistant is told: {text}]" if text else "[the assistant is told nothing]")
        elif name == "temperature":
            self.set_temperature(text)
        elif name == "save":
            self.save(text)
        elif name == "regenerate":
            if self.turns and self.turns[-1].role == "assistant":
                self.turns.pop()
            if self.turns:
                self.answer()
            else:
                print("[there is nothing to answer yet]")
        else:
            print(f"[no command /{name}; /help lists them]")
        return True

    def set_temperature(self, text: str) -> None:
        import dataclasses

        try:
            value = float(text) if text else self.sampling.temperature
            self.sampling = dataclasses.replace(self.sampling, temperature=value)
        except ValueError as error:  # ConfigError is one, too
            print(f"[{error}]")
        else:
            print(f"[temperature {self.sampling.temperature:g}]")

    def save(self, name: str) -> None:
        from lm.text.dialogue import as_objects

        if not name:
            print("[/save FILE]")
            return
        try:
            path = Path(name).expanduser()
            path.write_text(json.dumps({"messages": as_objects(self.told())}) + "\n")
        except OSError as error:
            print(f"[not saved: {error}]")
        else:
            print(f"[saved in {name}]")

    def told(self) -> "list[Message]":
        """The conversation with its system turn."""
        from lm.text.dialogue import Message

        return [*([Message("system", self.system)] if self.system else []), *self.turns]

    def answer(self) -> None:
        """Writes the assistant's turn as it comes; Ctrl-C ends it where it is."""
        from lm.serve.conversations import chat_prompt
        from lm.serve.request import Asked, Drawn, Ended, Event
        from lm.serve.writer import Writer
        from lm.text.dialogue import Message

        try:
            prompt, count = chat_prompt(self.served, tuple(self.told()), MAX_TOKENS.value)
        except UserError as error:
            print(f"[{error}]")
            self.turns.pop()
            return
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        asked = Asked(
            prompt=prompt, max_tokens=count, sampling=self.sampling, tell=events.put,
            seed=(SEED.value + self.drawn) % 2**32, ends=self.served.chat_ends,
        )  # fmt: skip
        self.drawn += 1
        writer = Writer()
        try:
            self.served.engine.submit(asked)
            while not isinstance(event := events.get(), Ended):
                if isinstance(event, Drawn):
                    write(writer.add(self.served.raw(event.token)))
            write(writer.finish())
            print()
        except KeyboardInterrupt:
            asked.leave()
            print(" [stopped]")
        self.turns.append(Message("assistant", writer.text))


def write(text: str) -> None:
    """What a model wrote, without the control characters that would steer a terminal."""
    shown = "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text)
    sys.stdout.write(shown)
    sys.stdout.flush()


def main() -> None:
    if not WORKDIR.value:
        raise ConfigError("--workdir is empty; name the directory of a run")
    try:
        import starlette  # noqa: F401
    except ImportError:
        raise ConfigError("chatting needs starlette: pip install 'lm[serve]'") from None
    import lm
    from lm.decode.sampling import SamplingConfig
    from lm.models.gpt import GptConfig
    from lm.serve.engine import Engine
    from lm.serve.model import Served

    sampling = SamplingConfig(temperature=TEMPERATURE.value, top_k=TOP_K.value, top_p=TOP_P.value)
    run = lm.load(WORKDIR.value, STEP.value)
    if run.tokenizer is None:
        raise DataError(f"{WORKDIR.value} has no tokenizer")
    if not isinstance(run.config.model, GptConfig):
        raise ConfigError(f"{WORKDIR.value} holds a {type(run.config.model).__name__}: no decoder")
    engine = Engine(run.config.model, run.params, slots=1)
    served = Served(Path(WORKDIR.value).resolve().name, engine, run.tokenizer)
    assert served.chat  # says what is missing before anything is compiled
    engine.start()
    try:
        converse(Talk(served, sampling, SYSTEM.value))
    finally:
        engine.close(drain=False)


def converse(talk: Talk) -> None:
    """Reads lines until the user has had enough."""
    try:
        import readline  # noqa: F401  # earlier lines by the arrow keys
    except ImportError:
        pass
    color = sys.stdin.isatty() and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    # \1 and \2 tell readline what takes no room
    prompt = "\1\033[1;36m\2> \1\033[0m\2" if color else "> "
    print(f"{talk.served.name}; /help lists the commands")
    while True:
        try:
            line = input(prompt)
        except KeyboardInterrupt:
            print("\n[/quit or Ctrl-D ends]")
            continue
        except EOFError:
            print()
            return
        if not talk.say(line):
            return


if __name__ == "__main__":
    command.run(main)
