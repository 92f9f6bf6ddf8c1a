"""Writes with a trained run: streamed for one prompt, together for several.

python -m launch.sample --workdir=runs/demo --prompt="def "
python -m launch.sample --workdir=runs/demo --prompt="def " --prompt="class " --temperature=0
python -m launch.sample --workdir=runs/demo --prompt="import " --beams=4
python -m launch.sample --workdir=runs/demo --prompts=asked.jsonl --n=4 --stop="def " --out=b.jsonl
python -m launch.sample --workdir=runs/gpt4-tiny --image=a.png --prompt="what color is the shape?"
"""

import sys
from hashlib import sha256
from math import isfinite
from time import monotonic
from typing import TYPE_CHECKING

from absl import flags

from launch import command
from lm.core.errors import ConfigError, DataError
from lm.core.paths import at_home

if TYPE_CHECKING:
    from lm.decode.sampling import SamplingConfig
    from lm.evals.rows import Source
    from lm.evals.scorer import Scorer
    from lm.studies.loaded import Loaded
    from lm.text.tokenizer import Tokenizer

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
PROMPT = flags.DEFINE_multi_string(
    "prompt", [], "What to continue; may be repeated; empty: any text."
)
PROMPTS = flags.DEFINE_string(
    "prompts", None, "File of prompts: rows of `prompt` (.jsonl), or lines of any other."
)
N = flags.DEFINE_integer("n", 1, "Texts to draw for each prompt.", lower_bound=1)
STOP = flags.DEFINE_multi_string("stop", [], "Text that ends what is written; may be repeated.")
OUT = flags.DEFINE_string("out", None, "JSONL to append texts to, but for those that are there.")
IMAGE = flags.DEFINE_multi_string("image", [], "PNG or JPEG before the prompt; may be repeated.")
MAX_TOKENS = flags.DEFINE_integer("max_tokens", 200, "Tokens to write.", lower_bound=1)
TEMPERATURE = flags.DEFINE_float("temperature", 0.8, "0 takes the likeliest token (greedy).")
TOP_K = flags.DEFINE_integer("top_k", None, "Draw among the likeliest so many; 0: all.")
TOP_P = flags.DEFINE_float("top_p", None, "Draw among the likeliest that reach this probability.")
BEAMS = flags.DEFINE_integer(
    "beams", 0, "Beam search over so many hypotheses, instead of drawing; 0: none.", lower_bound=0
)
LENGTH_PENALTY = flags.DEFINE_float("length_penalty", 0.6, "Of beam search.", -10.0, 10.0)
SEED = flags.DEFINE_integer("seed", 0, "Of the draws.", 0, 2**32 - 1)
STEP = flags.DEFINE_integer("step", None, "Checkpoint to use; the newest by default.")


def main() -> None:
    if not WORKDIR.value:
        raise ConfigError("--workdir is empty; name the directory of a run")
    from jax import set_mesh

    from lm.core.paths import run_path
    from lm.decode.generate import check_prompts
    from lm.decode.sampling import SamplingConfig
    from lm.evals.rows import Source, read_sources
    from lm.studies.loaded import load_run
    from lm.train.saved import require_tokenizer

    if PROMPTS.value and PROMPT.value:
        raise ConfigError("--prompt and --prompts both say what to continue: leave out one")
    if IMAGE.value and (PROMPTS.value or STOP.value or OUT.value or N.value > 1):
        raise ConfigError("--image goes with --prompt, without --prompts, --stop, --n and --out")
    if not all(STOP.value):
        raise ConfigError("--stop is empty, which every text begins with: name what ends one")
    if BEAMS.value and N.value > 1:
        raise ConfigError(f"--n={N.value} is for drawing, and --beams draws nothing: leave out one")
    if not isfinite(LENGTH_PENALTY.value):
        raise ConfigError(f"--length_penalty must be finite, got {LENGTH_PENALTY.value}")
    drawn = [flag.serialize() for flag in (TEMPERATURE, TOP_K, TOP_P) if flag.present]
    if BEAMS.value and drawn:
        raise ConfigError(f"{drawn[0]} is for drawing, and --beams draws nothing: leave out one")
    sampling = SamplingConfig(temperature=TEMPERATURE.value, top_k=TOP_K.value, top_p=TOP_P.value)
    sources = [Source(f"prompt {n}", text) for n, text in enumerate(PROMPT.value or ["\n"])]
    if PROMPTS.value:
        sources = read_sources(at_home(PROMPTS.value))
    run = load_run(run_path(WORKDIR.value), STEP.value)
    tokenizer = require_tokenizer(run.tokenizer, WORKDIR.value)
    if IMAGE.value:
        look(run, tokenizer, sampling)
        return
    if run.sees:
        raise ConfigError(f"{WORKDIR.value} answers about images: name one by --image=FILE")
    scorer = run.scorer()
    with set_mesh(scorer.mesh):
        prompts = scorer.writer.read([source.prompt for source in sources])
        # before any of them is printed; a search writes at least one token within the context
        names = [source.where for source in sources]
        check_prompts(prompts, scorer.length, 1 if BEAMS.value else 0, names)
        if len(prompts) * N.value == 1 and not (BEAMS.value or STOP.value or OUT.value):
            stream(scorer, prompts[0], sampling)
        else:
            write(scorer, run.digest, sources, prompts, sampling)


def write(
    scorer: "Scorer", digest: str, sources: "list[Source]", prompts: list[list[int]],
    sampling: "SamplingConfig",
) -> None:  # fmt: skip
    """Writes after all prompts, the longest first: into --out as it comes, else printed in order,
    each behind its prompt."""
    from lm.evals.rows import Rows
    from lm.evals.writing import before

    settings = [sampling, MAX_TOKENS.value, STOP.value, SEED.value]
    settings += [BEAMS.value, LENGTH_PENALTY.value] if BEAMS.value else []
    made = sha256(repr([digest, settings]).encode()).hexdigest()[:16]
    rows = Rows(at_home(OUT.value), sources, N.value, made) if OUT.value else None
    done = rows.done if rows else set()
    ids = [prompt for prompt in prompts for _ in range(N.value)]
    texts, told = {}, monotonic()
    for place, written in scorer.writer.each(
        ids, MAX_TOKENS.value, stop=STOP.value, beams=BEAMS.value, sampling=sampling,
        length_penalty=LENGTH_PENALTY.value, seed=SEED.value, done=frozenset(done),
    ):  # fmt: skip
        if rows:
            rows.add(place, written)
        else:
            prompt = ids[place]
            begins = len(scorer.tokenizer.decode(prompt))
            text = scorer.tokenizer.decode([*prompt, *written.ids])
            texts[place] = text[:begins] + before(text[begins:], STOP.value)
            if written.score is None:
                texts[place] = f"--- {sources[place // N.value].prompt!r}\n{texts[place]}"
            else:
                texts[place] += f"\n[score {written.score:.3f}]"
        if monotonic() > told + 5:
            told = monotonic()
            print(f"{len(done) + len(texts)} of {len(ids)} texts", file=sys.stderr)
    for place in sorted(texts):
        print(texts[place])
    if rows:
        print(f"{len(done)} of {len(ids)} texts in {rows.path}", file=sys.stderr)


def stream(scorer: "Scorer", prompt: list[int], sampling: "SamplingConfig") -> None:
    """Prints what is written after the prompt as it is written."""
    from lm.serve.spelling import spelling_of

    tokenizer, generator, count = scorer.tokenizer, scorer.generator, MAX_TOKENS.value
    spelling = spelling_of(tokenizer)
    print("".join(map(spelling.add, prompt)), end="", flush=True)
    for chunk in generator.stream([prompt], count, sampling, seed=SEED.value, chunk=4):
        row = chunk[0].tolist()
        ended = tokenizer.end in row
        row = row[: row.index(tokenizer.end)] if ended else row
        sys.stdout.write("".join(map(spelling.add, row)))
        sys.stdout.flush()
    print(spelling.finish())


def look(run: "Loaded", tokenizer: "Tokenizer", sampling: "SamplingConfig") -> None:
    """Answers each prompt about the images."""
    import numpy as np

    from lm.data.visual.example import Given, asked
    from lm.data.visual.rows import prompt_ids

    generator, count = run.image_generator(), MAX_TOKENS.value
    config = generator.config
    if BEAMS.value:
        raise ConfigError("--beams writes without images: leave out one of the two")
    shown = [Given(contents(path), path) for path in IMAGE.value]
    parts = [asked(text, *shown) for text in PROMPT.value or [""]]
    count = min(count, config.text.length // 2)
    room = config.text.length - count
    prompts = [prompt_ids(each, tokenizer, config.image_id, config.slots, room) for each in parts]
    images = np.stack([picture.pixels(config.vision.image) for picture in shown])
    rows = generator(prompts, [images] * len(prompts), count, sampling, seed=SEED.value)
    for text, row in zip(PROMPT.value or [""], rows, strict=True):
        print(f"{text}\n{tokenizer.decode(row)}")


def contents(path: str) -> bytes:
    try:
        return at_home(path).read_bytes()
    except OSError as error:
        raise DataError(f"--image={path}: {error.strerror}") from None


if __name__ == "__main__":
    command.run(main)
