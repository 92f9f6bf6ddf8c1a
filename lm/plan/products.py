"""Floating-point operations of the matrix products of a compiled program, from its HLO text.

A TPU's compiler writes every matrix product as a convolution: batch axes become spatial axes whose
window, padding and dilation let each output see one input. What those let through is counted.
"""

import math
import re
from collections.abc import Mapping

from lm.plan.hlo import ARRAY, Instruction, instructions

OPERAND = re.compile(r"%([\w.\-]+)")
LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
CONTRACTED = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
GROUPS = re.compile(r"(?:feature|batch)_group_count=(\d+)")
SPLASH = re.compile(r"splash_\w*?(fwd|dq|dkv)")
FLOATS = ("bf16", "f32")
SPLASH_PRODUCTS = {"fwd": 2, "dq": 3, "dkv": 4}  # [T S H] products of the kernels


def product_flops(text: str) -> float:
    """Operations (two a multiply-add) of all `dot` and `convolution` in one call, on a device."""
    found = list(instructions(text))
    shapes = {(one.computation, one.name): one.shape for one in found}
    total = 0.0
    for one in found:
        if one.operation in ("dot", "convolution"):
            flops = dot_flops if one.operation == "dot" else convolution_flops
            total += one.runs * flops(one, shapes)
    return total


def splash_flops(text: str, live: float) -> float:
    """Operations of the splash attention kernels, whose text does not show them.

    Args:
      live: share of all query-key pairs that lie in blocks which the kernels compute.
    """
    total = 0.0
    for one in instructions(text):
        if one.operation == "custom-call" and (kind := SPLASH.search(one.name)):
            layouts = one.line.partition("operand_layout_constraints=")[2]
            found = ((dtype, sizes(dims)) for dtype, dims in ARRAY.findall(layouts))
            # queries, keys ...; a batch of one row has no axis
            wide = [dims for dtype, dims in found if dtype in FLOATS and len(dims) >= 3]
            rows, (length, width) = math.prod(wide[0][:-2]), wide[0][-2:]
            pairs = live * length * wide[1][-2]
            total += one.runs * SPLASH_PRODUCTS[kind[1]] * 2.0 * rows * pairs * width
    return total


def operands(one: Instruction, shapes: Mapping[tuple[str, str], str]) -> list[list[int]]:
    """Sizes of the operands, which the text may show at the place or where they are made."""
    inside = one.line.partition(f" {one.operation}(")[2].partition(")")[0]
    shown = [sizes(dims) for _, dims in ARRAY.findall(inside)]
    if len(shown) >= 2:
        return shown
    names = OPERAND.findall(inside)
    return [sizes(ARRAY.findall(shapes[one.computation, name])[0][1]) for name in names]


def sizes(dims: str) -> list[int]:
    return [int(n) for n in dims.split(",") if n]


def result(one: Instruction) -> list[int]:
    return sizes(ARRAY.findall(one.shape)[0][1])


def dot_flops(one: Instruction, shapes: Mapping[tuple[str, str], str]) -> float:
    left = operands(one, shapes)[0]
    contracted = CONTRACTED.search(one.line)
    depth = math.prod(left[i] for i in sizes(contracted[1])) if contracted else 1
    return 2.0 * math.prod(result(one)) * depth


def convolution_flops(one: Instruction, shapes: Mapping[tuple[str, str], str]) -> float:
    left, right = operands(one, shapes)[:2]
    labels = LABELS.search(one.line)
    if labels is None:
        raise ValueError(f"a convolution without dim_labels: {one.line.strip()[:120]}")
    out = result(one)
    spatial = sorted(set(labels[1]) & set("0123456789"))
    seen = 1
    for axis in spatial:
        seen *= pairs(
            left[labels[1].index(axis)], right[labels[2].index(axis)],
            out[labels[3].index(axis)], {k: window(one.line, k, int(axis)) for k in WINDOW},
        )  # fmt: skip
    depth = right[labels[2].index("i")]
    groups = GROUPS.search(one.line)
    others = out[labels[3].index("b")] * out[labels[3].index("f")]
    batch_groups = int(groups[1]) if groups and "batch_group" in groups[0] else 1
    return 2.0 * seen * depth * others / batch_groups


WINDOW = {"stride": 1, "pad": 0, "lhs_dilate": 1, "rhs_dilate": 1}


def window(line: str, name: str, axis: int) -> int:
    """A window's setting along a spatial axis; of the padding, the part before."""
    inside = re.search(r"window=\{([^}]*)\}", line)
    found = re.search(rf"\b{name}=(\S+)", inside[1]) if inside else None
    return int(found[1].split("x")[axis].split("_")[0]) if found else WINDOW[name]


def pairs(inputs: int, taps: int, outputs: int, settings: Mapping[str, int]) -> int:
    """Pairs of an output and a tap of the window that meet a real input, along one axis."""
    stride, pad, spread, step = (settings[k] for k in WINDOW)
    last = (inputs - 1) * spread
    if stride == spread == step == 1 and pad == 0 and outputs == inputs - taps + 1:
        return outputs * taps
    count = 0
    for tap in range(taps):
        shift = tap * step - pad  # the place is shift + output * stride
        for output in range(outputs):
            place = shift + output * stride
            count += 0 <= place <= last and place % spread == 0
    return count
