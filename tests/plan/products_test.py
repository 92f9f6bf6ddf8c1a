"""Products counted from HLO text: as a CPU writes them, and as a TPU does."""

import jax
import jax.numpy as jnp
import pytest

from lm.plan.products import pairs, product_flops, splash_flops

TPU = """\
ENTRY %main (x: f32[4]) -> f32[4] {{
  %lhs = bf16[{lhs}]{{0}} parameter(0)
  %rhs = bf16[{rhs}]{{0}} parameter(1)
  %convolution.1 = f32[{out}]{{0}} convolution(%lhs, %rhs), {rest}
}}
"""


def test_a_product_in_a_loop_counts_once_a_trip():
    def f(x, w):
        return jax.lax.scan(lambda y, _: (y @ w, None), x, None, length=5)[0]

    text = jax.jit(f).lower(jnp.ones((8, 16)), jnp.ones((16, 16))).compile().as_text()
    assert product_flops(text) == 5 * 2 * 8 * 16 * 16


PROJECTION = 4 * 512 * 256 * (3 * 2 * 64)


@pytest.mark.parametrize(
    ("lhs", "rhs", "out", "rest", "multiply_adds"),
    [
        # x [B T D] @ kernel [D F]
        ("4,512,256", "256,512,1", "4,512,512",
         "window={size=1}, dim_labels=0bf_io0->0bf", 4 * 512 * 256 * 512),
        # x [B T D] @ kernel [D 3 N H]: a window slides over the one input of two axes
        ("4,512,256,1,1", "256,3,2,64,1", "4,512,3,2,64",
         "window={size=3x1x2 pad=2_2x0_0x1_1 rhs_reversal=1x0x1}, dim_labels=1bf02_i02o1->1b02f",
         PROJECTION),
        # its gradient by the kernel
        ("4,512,256,1,1", "4,512,3,2,64", "256,3,2,64,1",
         "window={size=3x2x4 pad=2_2x1_1x0_0 rhs_reversal=1x1x0}, dim_labels=2fb01_2i01o->b01f2",
         PROJECTION),
        # its gradient by x
        ("4,512,3,2,64", "256,3,2,64,1", "4,512,256,1,1",
         "window={size=3x1x2}, dim_labels=1b02f_o02i1->1bf02", PROJECTION),
        # context [B T N H] @ kernel [N H D], N as a window
        ("4,512,2,64", "2,64,256,1", "4,512,256,1",
         "window={size=1x2}, dim_labels=0b1f_1io0->0bf1", 4 * 512 * 2 * 64 * 256),
    ],
)  # fmt: skip
def test_a_product_written_as_a_convolution(lhs, rhs, out, rest, multiply_adds):
    text = TPU.format(lhs=lhs, rhs=rhs, out=out, rest=rest)
    assert product_flops(text) == 2 * multiply_adds


def test_only_taps_on_real_inputs_count():
    plain = {"stride": 1, "pad": 0, "lhs_dilate": 1, "rhs_dilate": 1}
    assert pairs(7, 3, 5, plain) == 15
    assert pairs(1, 3, 3, plain | {"pad": 2}) == 3  # one input under a window that slides over it
    # a batch of 8 as an axis: the dilated input meets the window once an output
    assert pairs(8, 8, 8, plain | {"stride": 7, "lhs_dilate": 8}) == 8


@pytest.mark.parametrize(("batch", "rows"), [("4,", 4), ("", 1)])
def test_the_kernels_of_splash_count_by_their_blocks(batch, rows):
    line = (
        "  %splash_mha_{kind}.1 = (f32[2,512,64]{{2,1,0}}) custom-call(%a, %b), "
        'custom_call_target="tpu_custom_call", operand_layout_constraints={{s8[1,1,1]{{2,1,0}}, '
        f"bf16[{batch}2,512,64]{{{{2,1,0}}}}, bf16[{batch}2,512,64]{{{{2,1,0}}}}}}}}"
    )
    lines = "\n".join(line.format(kind=kind) for kind in ("fwd_residuals", "dq", "dkv"))
    text = f"ENTRY %main (x: f32[4]) -> f32[4] {{\n{lines}\n}}\n"
    one = 2 * rows * 2 * 512 * 512 * 64
    assert splash_flops(text, live=1.0) == (2 + 3 + 4) * one
    assert splash_flops(text, live=0.5) == (2 + 3 + 4) * one / 2
