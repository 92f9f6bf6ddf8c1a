"""What the package is called, which Python it runs on and what it needs."""

from setuptools import find_namespace_packages, setup

CORE = [
    "jax>=0.10.2,<0.13",
    "flax",
    "optax",
    "orbax-checkpoint",
    "sentencepiece",
    "absl-py",
    "numpy",
    "matplotlib",
]

EXTRAS = {
    "text": ["tokenizers", "ftfy"],  # published vocabularies: GPT-2, GPT-1 and BERT
    "weights": ["safetensors"],  # published weights, in and out
    "records": ["grain"],  # images among text, read by several workers
    "serve": ["starlette", "uvicorn"],
    "images": ["pillow"],
    "eval": ["lm-eval", "sacrebleu"],
    "tracking": ["tensorboardX"],
    "datasets": ["datasets"],  # text by hf:NAME
    "gcs": ["gcsfs"],  # run directories in Google's object store
    "tpu": ["jax[tpu]"],
    "cuda": ["jax[cuda12]"],
}

# Every extra that a test on a CPU reaches, and the tools. PyTorch and transformers, the parity
# oracle, are not here: `make slow` installs them.
EXTRAS["test"] = [
    "pytest",
    "pytest-xdist",
    "hypothesis",
    "chex",
    "httpx2",
    "ruff",
    "mypy",
    *(need for name in ("text", "weights", "records", "serve", "images") for need in EXTRAS[name]),
    *EXTRAS["tracking"],
]

setup(
    name="lm",
    version="0.1.0",
    description="BERT, GPT-1 to GPT-4 and their training pipelines in JAX and Flax",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_namespace_packages(
        include=["lm", "lm.*", "experiments", "experiments.*", "launch", "launch.*"]
    ),
    package_data={"lm.serve": ["page/*"], "lm.evals": ["*.json"]},
    install_requires=CORE,
    extras_require=EXTRAS,
)
