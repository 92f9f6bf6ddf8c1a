"""What a block is made of: the switches in which BERT, GPT-1, GPT-2 and GPT-3 differ."""

import dataclasses
from typing import Literal

from lm.core.config import require, require_fraction, require_positive

Pattern = Literal[  # lm/nn/patterns.py
    "dense", "banded", "strided", "fixed", "powers", "columns", "block", "summaries"
]
LayerPattern = Pattern | tuple[Pattern, ...]  # of all heads, or one for each equal group of them

# fields of how a stack is computed, not of what: a run that goes on may have others
HOW = ("dtype", "narrow_products", "unroll", "remat", "stream", "attention")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """A stack of transformer blocks."""

    layers: int
    width: int
    heads: int
    head_size: int | None = None  # width / heads where None
    hidden: int | None = None  # feed-forward width, 4 x width where None
    causal: bool = True
    norm: Literal["pre", "post"] = "pre"
    epsilon: float = 1e-5
    activation: Literal["gelu_tanh", "gelu_erf", "gelu_quick", "relu"] = "gelu_tanh"
    qkv_bias: bool = True
    init: Literal["hf", "report", "openai", "gpt1", "bert"] = "hf"
    std: float = 0.02  # of initial kernels; the published value is one of widths near 768
    pattern: tuple[LayerPattern, ...] = ("dense",)  # repeated over the layers
    band: int = 256  # tokens that a banded layer sees, itself included
    stride: int = 128  # of strided and fixed layers
    summary: int = 8  # columns of each block of `stride` that a fixed layer sees from later ones
    summary_by_head: bool = False  # each head has its own such columns
    attention_dropout: float = 0.0
    residual_dropout: float = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"  # of activations
    narrow_products: bool = False  # in that dtype, for TPUs: less to send (lm/core/dot.py)
    unroll: int = 1  # layers a step of the scan: compile time against speed
    remat: Literal["none", "full", "dots", "context", "qkv", "products"] = "none"
    # what tensor ways split of the residual stream, between products; by length, the sequence
    # parallelism of Korthikanti et al. 2022 (arXiv 2205.05198); mesh.sequence splits products too
    stream: Literal["width", "length"] = "width"
    attention: Literal["auto", "plain", "blocks", "splash", "cudnn"] = "auto"

    def __post_init__(self) -> None:
        require_positive(
            self, "layers", "width", "heads", "head_size", "hidden", "band", "stride", "summary",
            "epsilon", "std", "unroll",
        )  # fmt: skip
        require(
            self.summary <= self.stride,
            f"summary {self.summary} is more than the {self.stride} columns of stride",
        )
        beyond = sorted(self.patterns - {"dense", "banded"})
        require(self.causal or not beyond, f"pattern {beyond} is causal, and causal=False")
        for layer in self.pattern:
            groups = len(layer) if isinstance(layer, tuple) else 1
            require(
                groups > 0 and self.heads % groups == 0,
                f"heads {self.heads} are not {groups} equal groups, one a pattern of {layer}",
            )
        require(
            self.head_size is not None or self.width % self.heads == 0,
            f"width {self.width} is not divisible by heads {self.heads}; set head_size",
        )
        require(
            len(self.pattern) > 0 and self.layers % len(self.pattern) == 0,
            f"layers {self.layers} is not a multiple of the {len(self.pattern)} of pattern "
            f"{self.pattern}",
        )
        require_fraction(self, "attention_dropout", "residual_dropout")

    @property
    def head_width(self) -> int:
        return self.head_size or self.width // self.heads

    @property
    def hidden_width(self) -> int:
        return self.hidden or 4 * self.width

    @property
    def block_weights(self) -> int:
        """Weights of a block's matrix products."""
        return 2 * self.width * (2 * self.heads * self.head_width + self.hidden_width)

    def adapter_weights(self, rank: int) -> int:
        """Weights of the adapters of a rank beside a block's kernels: of qkv, of the attention's
        output, and of the two of the feed-forward layer."""
        return rank * (4 * self.width + 4 * self.heads * self.head_width + 2 * self.hidden_width)

    @property
    def block_parameters(self) -> int:
        """Parameters of a block: those weights, the biases and two norms."""
        biases = 3 * self.heads * self.head_width * self.qkv_bias + self.hidden_width
        return self.block_weights + biases + 6 * self.width

    @property
    def patterns(self) -> frozenset[str]:
        """Every pattern that some head has."""
        layers = ((each,) if isinstance(each, str) else each for each in self.pattern)
        return frozenset(pattern for layer in layers for pattern in layer)

    @property
    def counts_blocks(self) -> bool:
        """Whether some head counts blocks from the first slot, which padding would move."""
        return bool(self.patterns & {"fixed", "block", "summaries"})
