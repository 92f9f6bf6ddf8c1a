"""Bounds and words of a plan; the compiler itself is asked in the slow tests."""

import json
import math
from dataclasses import replace

import pytest

from launch.experiment import resolve
from lm.plan.page import page, row
from lm.plan.plan import Plan, Traffic, axes_of, flops_per_token, refused, total_tokens

GATHER = Traffic("fsdp", "all-gather", 10, 9e9, 6e9, 0.3, 0.2, 10**9)
PLAN = Plan(
    topology="v5p:4x4x4", chips=64, mesh={"fsdp": 64}, tokens=1_000_000, fits=True, problem="",
    limit=90 * 2**30, peak_memory=60 * 2**30, parameters=1e9, optimizer=2e9, temporary=5e9,
    flops=4.59e14, useful=3.672e14, attention_kernels=3,
    arrays={"bf16[8,2048,512]": 2**24}, traffic=(GATHER,), t_mxu=1.0, t_ici=0.3,
    t_synchronous=0.1, compile_seconds=20,
)  # fmt: skip


def test_the_three_bounds_hide_everything_what_is_asynchronous_and_nothing():
    assert PLAN.mfu("overlapped") == pytest.approx(0.8)
    assert PLAN.mfu("compiled") == pytest.approx(0.8 / 1.1)
    assert PLAN.mfu("serial") == pytest.approx(0.8 / 1.3)
    slow = replace(PLAN, t_ici=2.0, t_synchronous=0.1)
    assert slow.mfu("overlapped") == slow.mfu("compiled") == pytest.approx(0.4)


def test_a_page_says_the_margin_the_traffic_and_the_days():
    text = page(PLAN, total_tokens=10**9)
    assert "fits: 60.00 of 90.00 GiB, 30.00 free" in text
    assert "fsdp" in text and "67%" in text and "days for 1e+09 tokens" in text


@pytest.mark.parametrize(
    ("name", "right", "largest"),
    [("gpt3:175b", 300e9, 480e9), ("bert:base", 42.6e9, 131e9), ("gpt2:small", None, None)],
)
def test_the_tokens_of_a_run_are_of_all_its_steps_and_not_of_its_largest(name, right, largest):
    experiment = resolve(name)
    plan = replace(PLAN, tokens=math.prod(experiment.abstract_rows().tokens.shape))
    found, alike = total_tokens(experiment, plan), experiment.steps * plan.tokens
    if right is None:
        assert found == alike
    else:
        assert found == pytest.approx(right, rel=0.01)
        assert alike == pytest.approx(largest, rel=0.01)  # the control: the largest at every step


def test_a_step_that_does_not_fit_is_an_answer_with_what_to_change():
    facts = {
        name: getattr(PLAN, name)
        for name in (
            "topology", "chips", "mesh", "tokens", "limit", "parameters", "optimizer", "useful",
        )
    }  # fmt: skip
    message = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Used 140.25G of 95.73G hbm. Exceeded "
        "hbm capacity by 44.52G.\n  Size: 4.00G\n  Shape: f32[8,2048]"
    )
    plan = refused(facts, message, 3.0)
    assert not plan.fits and plan.peak_memory == pytest.approx(140.25 * 2**30)
    assert math.isnan(plan.mfu("compiled"))
    text = page(plan)
    assert "does not fit: it needs 140.25 GiB of 90.00 GiB" in text and "microbatches" in text
    assert "refused" in row("x", plan)


def test_a_plan_that_does_not_fit_is_json_with_null_for_what_is_not_known():
    nothing = dict.fromkeys(("temporary", "flops", "t_mxu", "t_ici", "t_synchronous"), math.nan)
    found = json.loads(replace(PLAN, fits=False, **nothing).json(), parse_constant=pytest.fail)
    missing = {name for name, value in found.items() if value is None}
    assert missing == {*nothing, "mfu_overlapped", "mfu_compiled", "mfu_serial"}
    assert found["peak_memory"] == PLAN.peak_memory


def test_the_useful_products_are_of_the_rows_that_are_compiled_and_not_of_an_average():
    experiment = resolve("bert:base")
    assert experiment.abstract_rows().tokens.shape[-1] == 512
    assert flops_per_token(experiment) == experiment.model.flops_per_token(512)
    assert flops_per_token(experiment) > 1.05 * experiment.flops_per_token()
    text = resolve("gpt2:small")
    assert flops_per_token(text) == text.flops_per_token()


def test_a_row_tells_a_step_of_milliseconds_from_none():
    cells = row("x", replace(PLAN, t_mxu=0.00123, t_ici=7.156)).split("|")
    assert [cell.strip() for cell in cells[6:8]] == ["0.00123", "7.16"]


def test_a_group_crosses_the_axes_along_which_its_members_differ():
    shape = [1, 4, 2, 1]
    assert axes_of((0, 1), shape) == [2]
    assert axes_of((0, 2, 4, 6), shape) == [1]
    assert axes_of(tuple(range(8)), shape) == [1, 2]
    assert axes_of((), shape) == [1, 2]
