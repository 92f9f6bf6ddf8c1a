"""GPT-2 weights from and to Hugging Face's safetensors layout.

python -m launch.convert --from_hf=DIR --workdir=runs/gpt2
python -m launch.convert --to_hf=DIR --workdir=runs/gpt2
"""

from pathlib import Path

from absl import flags

from launch import command
from lm.core.errors import ConfigError

FROM_HF = flags.DEFINE_string("from_hf", None, "Folder with config.json and model.safetensors.")
TO_HF = flags.DEFINE_string("to_hf", None, "Folder to write them to.")
WORKDIR = flags.DEFINE_string("workdir", None, "Run directory to make, or to read.")


def main() -> None:
    if not WORKDIR.value or (FROM_HF.value is None) == (TO_HF.value is None):
        raise ConfigError("give --workdir and one of --from_hf=DIR and --to_hf=DIR")
    run = Path(WORKDIR.value)
    if FROM_HF.value is not None:
        read(Path(FROM_HF.value), run)
    else:
        write(run, Path(str(TO_HF.value)))


def read(folder: Path, run: Path) -> None:
    """Makes a run whose step 0 holds the weights; launch.train can go on from it."""
    import dataclasses

    import jax

    from experiments import gpt2
    from lm.core.config import dump
    from lm.core.mesh import MeshConfig, make_mesh
    from lm.models.pretrained import read_gpt2
    from lm.text.tokenizer import TokenizerConfig, build
    from lm.train.checkpoint import Checkpoints
    from lm.train.process import locked
    from lm.train.state import create

    model, params = read_gpt2(folder)
    config = dataclasses.replace(gpt2.small(), model=model, reference=None)
    facts = {}
    with locked(run, steal=False):
        if (run / "config.gin").exists():
            raise ConfigError(f"{run} holds a run already; choose another --workdir")
        if (folder / "merges.txt").exists():
            config = dataclasses.replace(
                config, tokenizer=TokenizerConfig(kind="gpt2", path=str(folder))
            )
            tokenizer = build(config.tokenizer, lambda: ())
            tokenizer.save(run / "tokenizer")
            facts = {"tokenizer": tokenizer.digest}
        mesh = make_mesh(MeshConfig(data=1), jax.local_devices()[:1])
        with jax.set_mesh(mesh):
            state = create(config.initial(), config.abstract(mesh), 0)
            state = dataclasses.replace(state, params=jax.device_put(params))
            checkpoints = Checkpoints(run / "checkpoints")
            saved = checkpoints.save(0, state, facts) and checkpoints.close()
        if not saved:
            raise ConfigError(f"the weights could not be written to {run}")
        (run / "config.gin").write_text(dump(config))
    print(f"{model.parameters():,} parameters of {folder} in {run}")


def write(run: Path, folder: Path) -> None:
    import jax

    import lm
    from lm.models.gpt import GptConfig
    from lm.models.pretrained import write_gpt2

    loaded = lm.load(run)
    model = loaded.config.model
    if not isinstance(model, GptConfig):
        raise ConfigError(f"Hugging Face has no {type(model).__name__}; it cannot be exported")
    write_gpt2(model, jax.device_get(loaded.params), folder)
    print(f"step {loaded.step} of {run} in {folder}")


if __name__ == "__main__":
    command.run(main)
