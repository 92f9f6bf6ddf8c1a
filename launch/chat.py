"""Talks with a run in the terminal.

python -m launch.chat --workdir=runs/chat
python -m launch.chat --workdir=runs/chat --system="You are brief." --temperature=0.7
python -m launch.chat --workdir=runs/gpt4-tiny --temperature=0      # then /image a.png

Ctrl-C stops an answer; at an empty prompt it asks for /quit. /help lists what else can be said.
"""

import dataclasses
import json
import os
import queue
import sys
from typing import TYPE_CHECKING

from absl import flags

from launch import command
from launch.served import labels_folder, served_run
from lm.core.errors import ConfigError, UserError
from lm.core.paths import at_home
from lm.serve.terminal import harmless, take_any_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from lm.data.visual.example import Given
    from lm.decode.sampling import SamplingConfig
    from lm.serve.alternatives import Alternatives
    from lm.serve.model import Served
    from lm.text.dialogue import Message

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
SYSTEM = flags.DEFINE_string("system", "", "What the assistant is told first.")
TEMPERATURE = flags.DEFINE_float("temperature", 0.8, "0 takes the likeliest token (greedy).")
TOP_K = flags.DEFINE_integer("top_k", None, "Draw among the likeliest so many.")
TOP_P = flags.DEFINE_float("top_p", None, "Draw among the likeliest that reach this probability.")
MAX_TOKENS = flags.DEFINE_integer("max_tokens", None, "Tokens of an answer at most.", 1)
SEED = flags.DEFINE_integer("seed", 0, "Of the draws.", lower_bound=0)
LABELS = flags.DEFINE_string("labels", None, "Folder of what /rank keeps; WORKDIR/labels.")
LABELER = flags.DEFINE_string("labeler", None, "Who ranks; $USER.")
STEP = flags.DEFINE_integer("step", None, "Checkpoint to use; the newest by default.")

HELP = """/image FILE        show a PNG or JPEG with the next message; may be repeated
/regenerate        another answer to the last message
/rank [2 1=3]      keep an order of its answers, the best first, = a tie, and go on with the best;
                   nothing: list them
/system [TEXT]     what the assistant is told first; nothing: as if nothing
/temperature [X]   show or set it; 0 takes the likeliest token
/new               forget the conversation
/save FILE         write the conversation as JSON to a new file, as OpenAI's interface reads it,
                   and training what has no images; an answer that was cut off is not learned
/help              this
/quit              end; so does Ctrl-D"""


class Talk:
    """A conversation in a terminal."""

    def __init__(
        self, served: "Served", sampling: "SamplingConfig", system: str, drawn: "Alternatives"
    ):
        self.served, self.sampling, self.system = served, sampling, system
        self.alternatives = drawn  # answers to the last message
        self.turns: list[Message] = []
        self.shown: list[Given] = []  # images that go with the next message
        self.drawn = 0  # answers so far: each has draws of its own
        self.written: set[Path] = set()  # files that it was saved in, and may be again

    def say(self, line: str) -> bool:
        """Takes a line; false where it ends the conversation."""
        from lm.data.visual.turns import seen_turn

        if not line.strip():
            return True
        if line.startswith("/"):
            return self.obey(*line[1:].partition(" ")[::2])
        unanswered = self.turns and self.turns[-1].role == "user"  # its answer never came
        turns = [*self.turns[: -1 if unanswered else None], seen_turn(line, *self.shown)]
        known, self.alternatives.answers = self.alternatives.answers, {}
        answer = self.answer(turns)
        if answer is None:
            self.alternatives.answers = known
        else:
            # images of a message that nothing answered go with what is said in its place
            self.turns, self.shown = [*turns, *answer], [] if answer else self.shown
        return True

    def obey(self, name: str, text: str) -> bool:
        """Does what a command says."""
        text = text.strip()
        if name in ("quit", "exit"):
            return False
        if name == "help":
            print(HELP)
        elif name == "new":
            self.turns, self.shown, self.alternatives.answers = [], [], {}
            print("[a new conversation]")
        elif name == "system" and text and not self.served.dialogue:
            from lm.serve.turns import ALONE

            print(f"[{ALONE}]")
        elif name == "system":
            self.system, self.alternatives.answers = text, {}  # answers to another conversation
            print(f"[the assistant is told: {text}]" if text else "[the assistant is told nothing]")
        elif name == "temperature":
            self.set_temperature(text)
        elif name == "save":
            self.save(text)
        elif name == "image":
            self.show(text)
        elif name == "rank":
            self.rank(text)
        elif name == "regenerate":
            answered = self.turns and self.turns[-1].role == "assistant"
            turns = self.turns[: -1 if answered else None]
            if not turns:
                print("[there is nothing to answer yet]")
            elif answer := self.answer(turns):  # or what was answered stays
                self.turns = [*turns, *answer]
                self.shown = self.shown if answered else []
        else:
            print(f"[no command /{name}; /help lists them]")
        return True

    def rank(self, text: str) -> None:
        """Lists the answers to the last message, or keeps an order of them."""
        from lm.serve.turns import objects_of

        answers = list(self.alternatives.answers)
        if len(answers) < 2:
            print("[there are no two answers to rank: /regenerate draws another]")
        elif not text:
            for number, answer in enumerate(answers, start=1):
                write(f"{number}: {answer}\n")
        else:
            said = objects_of(self.told(self.turns[:-1]))  # up to the message that was answered
            try:
                best, path = self.alternatives.rank(said, text)
            except (UserError, OSError) as error:
                print(f"[{error}]")
                return
            whole = self.alternatives.answers[best]
            self.turns[-1] = dataclasses.replace(self.turns[-1], content=best, taught=whole)
            print(f"[kept in {path}; it goes on with {answers.index(best) + 1}]")

    def show(self, name: str) -> None:
        """Keeps an image for the next message; says what is wrong with it."""
        from lm.data.visual.example import Given

        sight = self.served.sight
        if sight is None:
            print(f"[{self.served.name} reads text alone and sees no images]")
            return
        if not name:
            print("[/image FILE]")
            return
        try:
            image = Given(at_home(name).read_bytes(), name)
            image.pixels(sight.vision.image)
        except UserError as error:
            print(f"[{error}]")
        except (OSError, ValueError) as error:  # such as a name with a NUL
            print(f"[{name}: {getattr(error, 'strerror', None) or error}]")
        else:
            self.shown.append(image)
            print(f"[{name} goes with the next message]")

    def set_temperature(self, text: str) -> None:
        try:
            value = float(text) if text else self.sampling.temperature
            self.sampling = dataclasses.replace(self.sampling, temperature=value)
        except ValueError as error:  # ConfigError is one, too
            print(f"[{error}]")
        else:
            print(f"[temperature {self.sampling.temperature:g}]")

    def save(self, name: str) -> None:
        from lm.serve.turns import objects_of

        if not name:
            print("[/save FILE]")
            return
        path = at_home(name)
        try:
            with path.open("w" if path in self.written else "x") as file:
                file.write(json.dumps({"messages": objects_of(self.told(self.turns))}) + "\n")
        except FileExistsError:
            print(f"[not saved: {name} is there already; name another file]")
        except (OSError, ValueError) as error:
            print(f"[not saved: {error}]")
        else:
            self.written.add(path)
            print(f"[saved in {name}]")

    def told(self, turns: "list[Message]") -> "list[Message]":
        """A conversation with its system turn."""
        from lm.text.dialogue import Message

        return [*([Message("system", self.system)] if self.system else []), *turns]

    def answer(self, turns: "list[Message]") -> "list[Message] | None":
        """Writes the assistant's turn as it comes; Ctrl-C ends it where it is.

        Returns:
          That turn, not to be learned where it was cut off; none where nothing came; None where
          the conversation cannot be answered.
        """
        from lm.serve.conversations import chat_prompt
        from lm.serve.request import Asked, Busy, Drawn, Ended, Event
        from lm.serve.writer import Writer
        from lm.text.dialogue import Message

        try:
            prompt = chat_prompt(self.served, self.told(turns), MAX_TOKENS.value)
        except UserError as error:
            print(f"[{error}]")
            return None
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        asked = Asked(
            prompt=prompt.ids, max_tokens=prompt.max_tokens, images=prompt.images,
            prefix=prompt.prefix, sampling=self.sampling, tell=events.put,
            seed=(SEED.value + self.drawn) % 2**32, ends=self.served.chat_ends,
        )  # fmt: skip
        self.drawn += 1
        writer, whole = Writer(self.served.spelling()), False
        try:
            self.served.engine.submit(asked)
            while not isinstance(event := events.get(), Ended):
                if isinstance(event, Drawn):
                    write(writer.add(event.token))
            write(writer.finish())
            print()
            whole = event.reason == "stop"
            if event.reason in ("stop", "length"):
                self.alternatives.add(writer.text, ended=whole)
            elif event.reason == "error":
                print(f"[{event.fault}]")
        except Busy as error:
            print(f"[{error}]")
        except KeyboardInterrupt:
            asked.leave()
            print(" [stopped]")
        return [Message("assistant", writer.text, taught=whole)] if writer.text else []


def write(text: str) -> None:
    """What a model wrote."""
    sys.stdout.write(harmless(text))
    sys.stdout.flush()


def main() -> None:
    if not WORKDIR.value:
        raise ConfigError("--workdir is empty; name the directory of a run")
    from lm.decode.sampling import SamplingConfig
    from lm.serve.alternatives import Alternatives

    sampling = SamplingConfig(temperature=TEMPERATURE.value, top_k=TOP_K.value, top_p=TOP_P.value)
    served = served_run(WORKDIR.value, STEP.value, slots=1)
    assert served.images or served.chat  # says what is missing before anything is compiled
    if SYSTEM.value.strip() and not served.dialogue:
        from lm.serve.turns import ALONE

        raise ConfigError(f"--system: {ALONE}")
    labels = labels_folder(LABELS.value, WORKDIR.value, wanted=False)
    drawn = Alternatives(labels, LABELER.value or os.environ.get("USER", "terminal"), served.name)
    served.engine.start()
    try:
        converse(Talk(served, sampling, SYSTEM.value, drawn))
    finally:
        served.engine.close(drain=False)


def converse(talk: Talk) -> None:
    """Reads lines until the user has had enough."""
    try:
        import readline  # noqa: F401  # earlier lines by the arrow keys
    except ImportError:
        pass
    take_any_bytes()
    color = sys.stdin.isatty() and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    # \1 and \2 tell readline what takes no room
    prompt = "\1\033[1;36m\2> \1\033[0m\2" if color else "> "
    print(f"{talk.served.name}; /help lists the commands")
    if not talk.served.talks:
        print("[it has not learned conversations: what it says may be no answer]")
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
