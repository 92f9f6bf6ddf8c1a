"""Bounds and words of a plan; the compiler itself is asked in the slow tests."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from launch.experiment import resolve
from lm.core.mesh import MESH_AXES, MeshConfig, make_mesh
from lm.data.tasks.config import TaskConfig
from lm.models.bert import BertConfig
from lm.models.gpt import GptConfig
from lm.models.gpt_vision import GptVisionConfig
from lm.models.vision import VisionConfig
from lm.plan.hlo import Collective
from lm.plan.memory import Need, largest_parts, needs
from lm.plan.page import page, row
from lm.plan.plan import (
    Plan,
    Traffic,
    axes_of,
    flops_per_token,
    refused,
    total_tokens,
    traffic,
)  # fmt: skip
from lm.plan.products import product_flops
from lm.plan.topology import Topology
from lm.rlhf.ppo import Ppo
from lm.rlhf.reward import RewardTraining
from lm.rlhf.sft import Sft
from lm.rlhf.update import UpdateConfig
from lm.train.finetune import Finetune
from lm.train.optimizer import AdamWConfig
from lm.train.visual import VisualTuning

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


GIB = 2**30


def test_a_step_of_several_programs_fits_by_the_tightest_and_has_no_days():
    others = {"rollout": Need(17 * GIB, 12 * GIB), "scores": Need(1 * GIB, 12 * GIB)}
    refused = page(replace(PLAN, fits=False, others=others), total_tokens=10**9)
    assert "does not fit: the rollout program needs 17.00 GiB of 12.00 GiB" in refused
    assert "rollout_parts, or a smaller answer_length" in refused
    assert "microbatches" not in refused
    read = replace(PLAN, fits=False, others={"scores": Need(17 * GIB, 12 * GIB)})
    assert "more microbatches" in page(read) and "rollout_parts" not in page(read)
    assert "arrays of the program" not in refused  # they are of the update, which fits
    assert "rollout 17.00 of 12.00, scores 1.00 of 12.00, update 60.00 of 90.00 GiB" in refused
    assert "needs 17.0 of 12.0" in row("x", replace(PLAN, fits=False, others=others))
    others["rollout"] = Need(11 * GIB, 12 * GIB)
    text = page(replace(PLAN, others=others), total_tokens=10**9)
    assert "fits: 11.00 of 12.00 GiB, 1.00 free, in the rollout program" in text
    assert "the update alone: " in text and "programs rollout, scores" in text
    assert " days for " not in text


def test_a_program_has_the_memory_that_networks_which_it_does_not_read_leave():
    class Refused:
        def compile(self):
            raise jax.errors.JaxRuntimeError(EXCEEDED)

    added = jax.jit(lambda x: x + 1).lower(np.zeros(256, np.float32))
    programs = {"small": (added, ("policy",)), "large": (Refused(), ("policy", "value"))}
    found = needs(programs, {"policy": 5.0, "value": 7.0, "reward": 11.0}, 100_000.0)
    assert found["small"].limit == 100_000 - 18 and found["large"].limit == 100_000 - 11
    assert 2 * 1024 <= found["small"].peak < 4 * 1024 and found["small"].free > 0
    assert found["large"].peak == 7.78 * 2**40 and found["large"].free < 0
    plan = replace(PLAN, others=found | {"untold": Need(math.nan, 1.0)})
    assert plan.tightest == "untold"
    assert json.loads(plan.json())["others"]["untold"] == {"peak": None, "limit": 1.0}


def test_a_plan_says_what_it_was_made_by_whether_it_fits_or_not():
    made = json.loads(PLAN.json())["versions"]
    assert list(made) == ["python", "jax", "jaxlib", "libtpu"]
    assert made["jax"] == jax.__version__
    line = f"python {made['python']}, jax {made['jax']}, jaxlib {made['jaxlib']}, libtpu "
    assert line in page(PLAN) and line in page(replace(PLAN, fits=False))


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


FACTS = {
    name: getattr(PLAN, name)
    for name in (
        "topology", "chips", "mesh", "tokens", "limit", "parameters", "optimizer", "useful",
    )
}  # fmt: skip
USED = (
    "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Used 140.25G of 95.73G hbm. Exceeded hbm "
    "capacity by 44.52G."
)
# of gpt2:small on v5e:2x2 with batch 32768 and mesh.fsdp 4, and libtpu 0.0.50.1
EXCEEDED = (
    "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
    "required for HLO temporaries (7.78T) exceeds available HBM (15.75G). HLO module: jit_step.\n"
    "See https://openxla.org/xla/errors/error_1000 for more details."
)


@pytest.mark.parametrize(
    ("message", "needs"),
    [
        (USED, 140.25),
        (EXCEEDED, 7.78 * 1024),
        (EXCEEDED.replace("7.78T", "17.50G"), 17.5),
        (EXCEEDED.replace(" (7.78T)", ""), None),
    ],
)
def test_a_step_that_does_not_fit_is_an_answer_with_what_to_change(message, needs):
    plan = refused(FACTS, {}, message, 3.0)
    assert not plan.fits and math.isnan(plan.mfu("compiled"))
    said = "more than it has" if needs is None else f"{needs:.2f} GiB"
    assert f"does not fit: it needs {said} of 90.00 GiB" in page(plan)
    assert "microbatches" in page(plan) and "refused" in row("x", plan)


def test_a_step_that_does_not_fit_is_told_with_the_largest_arrays_known():
    experiment = replace(resolve("gpt2:tiny"), mesh=MeshConfig(data=1, fsdp=2))
    mesh = make_mesh(experiment.mesh, jax.devices()[:2])
    model, parts = experiment.model, largest_parts(experiment.abstract(mesh), 5)
    table = f"params.tokens.table float32[{model.vocab},{model.width // 2}]"
    assert parts[table] == 4 * model.vocab * model.width // 2 and len(parts) == 5
    text = page(refused(FACTS, parts, EXCEEDED, 3.0))  # whose compiler names none
    assert f"{table} 0.00" in text and "beside gradients of 0.47 GiB at the least" in text
    beside = page(replace(PLAN, fits=False))  # a program, but other networks leave no room for it
    assert "the largest arrays of the program: bf16[8,2048,512] 0.02 GiB" in beside


def test_a_plan_that_does_not_fit_is_json_with_null_for_what_is_not_known():
    nothing = dict.fromkeys(("temporary", "flops", "t_mxu", "t_ici", "t_synchronous"), math.nan)
    found = json.loads(replace(PLAN, fits=False, **nothing).json(), parse_constant=pytest.fail)
    missing = {name for name, value in found.items() if value is None}
    assert missing == {*nothing, "mfu_overlapped", "mfu_compiled", "mfu_serial"}
    assert found["peak_memory"] == PLAN.peak_memory


def test_the_useful_products_are_of_the_rows_that_are_compiled_and_not_of_an_average():
    experiment = resolve("bert:base")
    assert experiment.abstract_rows().tokens.shape[-1] == 512
    assert flops_per_token(experiment) == experiment.model.flops_per_token(512, 77 / 512)
    assert flops_per_token(experiment) > 1.05 * experiment.flops_per_token()
    text = resolve("gpt2:small")
    assert flops_per_token(text) == text.flops_per_token()


DECODER = GptConfig(layers=2, width=64, heads=2, vocab=256, length=32, attention="plain")
ENCODER = BertConfig(layers=2, width=64, heads=2, vocab=256, length=32)
EYES = VisionConfig(image=32, patch=8, layers=2, width=64, heads=2)
ADAM = AdamWConfig(peak_lr=1e-3)


def stage(kind, **changes):
    return kind(model=DECODER, optim=ADAM, batch=4, length=32, steps=1, **changes)


def seeing(*learned):
    model = GptVisionConfig(text=DECODER, vision=EYES, image_id=255)
    return VisualTuning(model=model, optim=ADAM, batch=4, length=32, steps=1, learned=learned)


def ppo(**changes):
    return Ppo(
        model=DECODER, value_model=DECODER, optim=ADAM, batch=4, prompt_length=24, answer_length=8,
        update=UpdateConfig(minibatches=1), **changes,
    )  # fmt: skip


def tuned(kind, model, **changes):
    return Finetune(
        model=model, data=TaskConfig(name=kind), classes=2, optim=ADAM, batch=4, length=32,
        steps=1, **changes,
    )  # fmt: skip


def output_layer(tokens=1.0):
    """Operations of one product with the word table for this share of the tokens, a token."""
    return 2 * tokens * DECODER.vocab * DECODER.width


def test_products_of_parts_that_are_frozen_or_not_there_are_not_useful():
    whole = DECODER.flops_per_token(32)
    assert stage(Sft).flops_per_token() == whole
    # of each of two layers 64 + 192, 64 + 64 and twice 64 + 256 weights are learned, and no
    # gradient is made of its own 12 x 64 x 64
    less = 2 * 2 * 12 * 64**2 - 6 * 2 * 1024
    assert stage(Sft, lora_rank=1).flops_per_token() == whole - output_layer() - less
    without = whole - 3 * output_layer()
    assert stage(RewardTraining).flops_per_token() == without
    assert stage(RewardTraining, lora_rank=1).flops_per_token() == without - less
    assert ppo().flops_per_token() == 2 * without + 3 * output_layer(8 / 32)
    assert ppo(lora_rank=1).flops_per_token() == 2 * (without - less) + 2 * output_layer(8 / 32)
    weights = 2 * (2 * 12 * 64**2 + DECODER.vocab * DECODER.width)  # of one pass
    seen = EYES.flops_per_image() / 32
    joining = 2 * 16 / 32 * 64**2  # of one pass through one of the two layers, 16 slots a row
    every = seeing("vision", "connector", "text").flops_per_token()
    assert every == whole + seen + 6 * joining
    assert seeing("vision").flops_per_token() == whole - weights + seen + 4 * joining
    assert seeing("connector").flops_per_token() == whole - weights + seen / 3 + 5 * joining
    assert seeing("text").flops_per_token() == whole + seen / 3 + 2 * joining
    words = ENCODER.flops_per_token(32, scored=0.0)
    assert tuned("classification", ENCODER).flops_per_token() == words
    assert tuned("classification", DECODER, lm_weight=0.5).flops_per_token() == whole
    assert tuned("classification", DECODER).flops_per_token() == without
    tagger = (
        2 * 4 * 64 * (4 * 2 * 64 + 6 * (64 + 3 * 64))
    )  # both ways: gates of what is read, others
    assert tuned("tagging", ENCODER, features=2).flops_per_token() == words / 3 + tagger


@pytest.mark.slow
@pytest.mark.parametrize(
    "experiment",
    [
        stage(Sft), stage(Sft, lora_rank=1), stage(RewardTraining), ppo(), ppo(lora_rank=1),
        seeing("vision"), seeing("connector"), seeing("text"),
        tuned("classification", ENCODER), tuned("tagging", ENCODER, features=2),
    ],
    ids=[
        "sft", "lora", "reward", "ppo", "ppo lora", "vision", "connector", "text", "bert",
        "features",
    ],
)  # fmt: skip
def test_the_useful_products_are_those_of_the_compiled_step(experiment):
    """Short rows: of what causal attention leaves out the program makes all, a few per cent."""
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    text = experiment.lowered(mesh).compile().as_text()
    tokens = math.prod(experiment.abstract_rows().tokens.shape)
    assert 1.0 <= product_flops(text) / (tokens * flops_per_token(experiment)) < 1.08


def test_a_row_tells_a_step_of_milliseconds_from_none():
    cells = row("x", replace(PLAN, t_mxu=0.00123, t_ici=7.156)).split("|")
    assert [cell.strip() for cell in cells[6:8]] == ["0.00123", "7.16"]


def test_a_group_crosses_the_axes_along_which_its_members_differ():
    shape = [1, 4, 2, 1]
    assert axes_of((0, 1), shape) == [2]
    assert axes_of((0, 2, 4, 6), shape) == [1]
    assert axes_of(tuple(range(8)), shape) == [1, 2]
    assert axes_of((), shape) == [1, 2]


def test_what_stays_in_a_slice_is_not_charged_at_the_rate_of_the_network_between_slices():
    pod, flat = Topology("v5e:4x4", slices=2), np.empty(32, object)
    for n in range(32):  # data 4, of which two to a slice, by fsdp 8
        place = (n % 16 // 4, n % 4)
        flat[n] = SimpleNamespace(coords=place, slice_index=n // 16, platform="tpu")
    devices = flat.reshape(4, 8, 1, 1)
    mesh = SimpleNamespace(devices=devices, shape=dict(zip(MESH_AXES, devices.shape, strict=True)))

    def seconds(*group):
        (row,) = traffic([Collective("all-reduce", 10**9, 1, "one", group)], mesh, pod)
        assert row.axes == "data"
        return row.seconds

    assert seconds(0, 16) == seconds(8, 24) == 1e9 / pod.chip.outside
    assert seconds(0, 8) == seconds(16, 24) == 1e9 / pod.links(devices[:2], 0)
    assert pod.links(devices[:2], 0) >= pod.chip.link / 2 > 5 * pod.chip.outside
