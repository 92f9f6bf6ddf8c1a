"""Weights of BERT, GPT-1, GPT-2 and GPT-Neo from and to Hugging Face's safetensors layout.

python -m launch.convert --from_hf=DIR --workdir=runs/bert
python -m launch.convert --to_hf=DIR --workdir=runs/bert

What was written is read again, and must give the logits of the run to a row of random tokens; what
is read must give those of transformers, where that is installed.
"""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from absl import flags

from launch import command
from lm.core.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    import jax
    import numpy as np

    from lm.models.bert import BertConfig
    from lm.models.gpt import GptConfig
    from lm.text.tokenizer import Kind, Tokenizer, TokenizerConfig

FROM_HF = flags.DEFINE_string("from_hf", None, "Folder with config.json and model.safetensors.")
TO_HF = flags.DEFINE_string("to_hf", None, "Folder to write them to.")
WORKDIR = flags.DEFINE_string("workdir", None, "Run directory to make, or to read.")

OUTPUTS = ("logits", "prediction_logits", "seq_relationship_logits")  # of theirs, as ours are
TOLERANCE = 1e-4  # of logits in float32, of the largest where that is above 1


def main() -> None:
    if not WORKDIR.value or (FROM_HF.value is None) == (TO_HF.value is None):
        raise ConfigError("give --workdir and one of --from_hf=DIR and --to_hf=DIR")
    from lm.core.paths import local_path, run_path

    run = run_path(WORKDIR.value)
    if FROM_HF.value is not None:
        read(local_path(FROM_HF.value), run)
    else:
        write(run, local_path(str(TO_HF.value)))


def read(folder: Path, run: Path) -> None:
    """Makes a run whose step 0 holds the weights; launch.train and fine-tuning go on from it.

    Raises:
      ConfigError: the directory holds a run already.
      CheckpointError: the weights cannot be read or written, or transformers gives other logits.
    """
    import jax

    from lm.core.config import dump
    from lm.core.mesh import one_device
    from lm.models.gpt import GptConfig
    from lm.models.pretrained import read as read_weights
    from lm.models.pretrained.folder import read_config
    from lm.text.tokenizer import build
    from lm.train.checkpoint import Checkpoints
    from lm.train.journal import environment
    from lm.train.lock import locked
    from lm.train.state import create

    config = experiment(read_config(folder / "config.json")[1])
    tokenizer = None
    if (published := vocabulary(folder, config.tokenizer.kind)) is not None:
        config = replace(config, tokenizer=published)
        tokenizer = build(published, tuple)
        require_rows(tokenizer, config.model.vocab, folder)
    model, params = read_weights(folder)
    with locked(run, steal=False):
        if (run / "config.gin").exists():
            raise ConfigError(f"{run} holds a run already; choose another --workdir")
        compare(model, params, folder)
        if tokenizer:
            tokenizer.save(run / "tokenizer")
        mesh = one_device()
        with jax.set_mesh(mesh):
            state = create(config.initial(), config.abstract(mesh), 0)
            state = replace(state, params=jax.device_put(params))
            checkpoints = Checkpoints(run / "checkpoints")
            facts = {"tokenizer": tokenizer.digest} if tokenizer else {}
            saved = checkpoints.save(0, state, facts) and checkpoints.close()
        if not saved:
            raise CheckpointError(f"the weights could not be written to {run}")
        (run / "config.gin").write_text(dump(config) + environment())
    print(f"{model.parameters():,} parameters of {folder} in {run}")
    if isinstance(model, GptConfig) and tokenizer:
        warmup = "optim.warmup_tokens=0" if model.norm == "pre" else "optim.warmup_steps=0"
        named = shlex.quote(str(run))
        print(
            f"to train on: python -m launch.train --gin_file={named}/config.gin --set init={named} "
            "--set data.train=FOLDER --set batch=8 --set steps=1000 --set optim.peak_lr=3e-5 "
            f"--set {warmup} --workdir=OTHER"
        )


def experiment(model: Any) -> Any:
    """The pre-training that the model comes from, at the model's size."""
    from experiments import bert, gpt1, gpt2
    from lm.models.bert import BertConfig

    if isinstance(model, BertConfig):
        stages = tuple(stage for stage in bert.base().stages if stage[0] <= model.length)
        if len(stages) < len(bert.base().stages):
            stages = ((model.length, 1.0),)
        return replace(bert.base(), model=model, stages=stages, reference=None)
    generation = gpt2.small() if model.norm == "pre" else gpt1.base()
    return replace(generation, model=model, reference=None)


def require_rows(tokenizer: "Tokenizer", rows: int, folder: Path) -> None:
    """Raises CheckpointError where a vocabulary has ids that the model has no embedding of."""
    if tokenizer.vocab_size > rows:
        raise CheckpointError(
            f"{folder}: its vocabulary has {tokenizer.vocab_size} ids, its model {rows} "
            "embeddings: grow these in transformers (resize_token_embeddings), or add no tokens"
        )


def vocabulary(folder: Path, kind: str) -> "TokenizerConfig | None":
    """The tokenizer that lies beside the weights, None where there is none.

    One that `write` left there says itself of what kind it is, also after transformers saved it
    again; another is of `kind`, which the published models of this architecture have.

    Raises:
      DataError: its files are missing or damaged.
    """
    from lm.text.interface import MANIFEST
    from lm.text.sentencepiece import embedded
    from lm.text.tokenizer import TokenizerConfig, load
    from lm.text.vocabulary import WHOLE, existing
    from lm.text.wordpiece import read as read_wordpiece

    names = ("vocab.txt" if kind == "wordpiece" else "merges.txt", WHOLE)
    if (folder / MANIFEST).is_file():
        kind = load(folder).kind
    elif embedded(folder):
        kind = "sentencepiece"
    elif existing(folder, *names) is None:
        print(f"no vocabulary in {folder} ({MANIFEST}, {' or '.join(names)}): the run has none")
        return None
    cased = kind == "wordpiece" and read_wordpiece(folder).cased
    path = None if kind == "bytes" else str(folder)
    return TokenizerConfig(kind=cast("Kind", kind), path=path, cased=cased)


def write(run: Path, folder: Path) -> None:
    """Makes a folder with the newest weights of a run; it appears whole or not at all.

    Raises:
      ConfigError: the run is no BERT or GPT alone, or the folder holds something.
      DataError: the folder cannot be written.
      CheckpointError: the weights that are read again give other logits.
    """
    import jax

    from lm.core.mesh import one_device
    from lm.data.token_writer import made_whole
    from lm.models.adapters import merged
    from lm.models.bert import BertConfig
    from lm.models.gpt import GptConfig
    from lm.models.pretrained import write as write_weights
    from lm.studies.loaded import Loaded
    from lm.text import auto_tokenizer
    from lm.text.added import AddedSpecials
    from lm.text.vocabulary import WHOLE
    from lm.train.saved import read_run

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--to_hf={folder} exists: remove it, or choose another folder")
    saved = read_run(run, one_device())
    model, params = saved.config.model, jax.device_get(merged(saved.params))
    if not isinstance(model, (BertConfig, GptConfig)) or not {"tokens", "stack"} <= params.keys():
        raise ConfigError(
            f"{run} holds a {type(saved.config).__name__} of a {type(model).__name__}, and only a "
            "BERT or a GPT without another head can be exported: name such a run, or that which "
            "this one began from"
        )
    tokenizer = saved.tokenizer
    with made_whole(folder) as work:
        end, pad = (tokenizer.end, tokenizer.pad) if tokenizer else (None, None)
        write_weights(model, params, work, end=end, pad=pad)
        check(model, params, work, folder)
        told = f"step {saved.step} of {run} in {folder}"
        if tokenizer:
            tokenizer.save(work)
            usual = tokenizer.kind == experiment(model).tokenizer.kind
            if not usual or isinstance(tokenizer, AddedSpecials):
                run_of = Loaded(saved.config, params, tokenizer, saved.step)
                beside = auto_tokenizer.files(tokenizer, in_turns=run_of.in_turns)
                for name, data in beside.items():
                    (work / name).write_bytes(data)
                if WHOLE not in beside:
                    told += (
                        f"\nits vocabulary ({tokenizer.kind}) is not one that AutoTokenizer of "
                        f"transformers reads: take ids from lm.load({str(run)!r}).tokenizer"
                    )
    print(told)


def check(
    model: "BertConfig | GptConfig", params: Any, folder: Path, named: Path | None = None
) -> None:
    """Raises CheckpointError, which names the folder `named` where that is given, where the weights
    in a folder are not these by their logits."""
    from lm.models.pretrained import read as read_weights

    row = tokens(model)
    again = logits(*read_weights(folder), row)
    require_close(named or folder, logits(model, params, row), again, "the run")


def compare(model: "BertConfig | GptConfig", params: Any, folder: Path) -> None:
    """Raises CheckpointError where transformers gives other logits from the folder that the weights
    were read from; says so where there is no transformers, or it cannot read the folder."""
    from lm.models.pretrained.folder import read_config
    from lm.models.pretrained.table import to_theirs

    architecture, _ = read_config(folder / "config.json")
    try:
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        theirs, told = getattr(transformers, architecture.class_name).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        import torch
    except Exception as error:  # whatever it is, ours have been read
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(f"the logits were not compared with those of transformers and torch ({why})")
        return
    if absent := set(told["missing_keys"]):  # heads that each draws for itself
        ours = to_theirs(architecture.table(model), model.layers, params)
        drawn = {name: torch.tensor(ours[name]) for name in absent & ours.keys()}
        theirs.load_state_dict(drawn, strict=False)
    row = tokens(model)
    with torch.no_grad():
        out = theirs.float().eval()(torch.tensor(row))
    found = [out[name].numpy() for name in OUTPUTS if name in out]
    require_close(folder, found, logits(model, params, row), "transformers")
    print("the logits to a row of random tokens are those of transformers")


def tokens(model: "BertConfig | GptConfig") -> "np.ndarray":
    """A row of random ids. [1 T]"""
    import numpy as np

    return np.random.default_rng(0).integers(0, model.vocab, (1, min(model.length, 64)))


def logits(model: "BertConfig | GptConfig", params: Any, row: "np.ndarray") -> "list[jax.Array]":
    """What a model puts out in float32: [1 T V], and of a BERT also [1 2]."""
    import jax

    with jax.default_matmul_precision("highest"):
        module = replace(model, dtype="float32").module()
        return jax.tree.leaves(module.apply({"params": params}, row))


def require_close(folder: Path, wanted: Any, found: Any, whose: str) -> None:
    import numpy as np

    off = max(
        float(np.abs(a - b).max()) / max(1.0, float(np.abs(a).max()))
        for a, b in zip(wanted, found, strict=True)
    )
    if not off <= TOLERANCE:
        raise CheckpointError(
            f"{folder}: its logits are {off:.2g} off those of {whose}, more than {TOLERANCE}: do "
            "not use it, and report this with its config.json or the run's config.gin"
        )


if __name__ == "__main__":
    command.run(main)
