"""The networks of a reward model's training and of PPO on a pod that is not here."""

import json
from dataclasses import replace
from functools import partial

import jax
import pytest

from experiments import gpt4
from experiments.instructgpt import ppo_ptx
from lm.core import tree
from lm.core.config import bind
from lm.core.mesh import MeshConfig, make_mesh
from lm.rlhf.eyes import look
from lm.rlhf.ppo import Ppo
from lm.rlhf.reward import RewardTraining
from lm.rlhf.scores import RewardConfig
from lm.rlhf.update import UpdateConfig
from lm.train.optimizer import AdamWConfig
from tests.plan.compile_test import compiling
from tests.rlhf.runs import MODEL


def test_reference_and_reward_model_lie_beside_the_state_split_like_it():
    small = replace(MODEL, layers=2)
    config = Ppo(
        model=small, value_model=MODEL, optim=AdamWConfig(peak_lr=1e-3), batch=16,
        prompt_length=10, answer_length=8,
    )  # fmt: skip
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    beside, state = config.beside(mesh), config.abstract(mesh)
    assert list(beside) == ["reference", "reward"]
    assert beside["reference"] == state.policy and beside["reward"] == state.value
    assert tree.count(state.policy) == small.parameters()
    assert config.abstract_rows().tokens.shape == (16, 18)


def test_what_a_step_runs_before_its_update_is_lowered_with_the_networks_that_it_reads():
    config = Ppo(
        model=MODEL, value_model=MODEL, optim=AdamWConfig(peak_lr=1e-3), batch=16,
        prompt_length=10, answer_length=8, update=UpdateConfig(minibatches=2),
    )  # fmt: skip
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    networks = {"policy": config.abstract(mesh).policy, "value": config.abstract(mesh).value}
    networks |= config.beside(mesh)
    found = config.others(mesh)
    assert list(found) == ["rollout", "scores", "experience"]
    for lowered, read in found.values():
        taken = tree.count([networks[name] for name in read])
        assert 0 <= tree.count(lowered.args_info) - taken < 16 * 18 * 6  # the rest: rows
    assert found["rollout"][0].out_info.tokens.shape == (16, 18)
    assert found["scores"][0].out_info.shape == (16,)
    assert found["experience"][0].out_info[0].advantages.shape == (16, 8)
    judged = replace(config, reward=RewardConfig(function="mine:brevity"))
    assert list(judged.others(mesh)) == ["rollout", "experience"]


def test_a_reward_model_that_learns_questions_is_lowered_with_its_heads_split_alike():
    config = RewardTraining(
        model=MODEL, optim=AdamWConfig(peak_lr=1e-3), batch=8, length=16, metadata=("a", "b")
    )
    rows = config.abstract_rows()
    assert rows.answered.shape == (8, 9, 2) and rows.answered.dtype == "int8"
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    heads = config.abstract(mesh).params
    assert heads["metadata"]["kernel"].sharding == heads["head"]["kernel"].sharding
    alone = replace(config, metadata=()).abstract(mesh).params
    assert tree.count(heads) == tree.count(alone) + 2 * (MODEL.width + 1)
    config.lowered(mesh)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reward", "ppo"])
def test_alignment_on_images_is_lowered_with_what_its_prompts_show(name):
    tiny = gpt4.tiny().model
    config = replace(getattr(gpt4, name)("base"), model=tiny.text, sees=tiny, batch=32)
    sizes = {
        "reward": {"length": "64"},
        "ppo": {"prompt_length": "32", "answer_length": "8", "update.minibatches": "2"},
    }
    config = bind(config, sizes[name])
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    sight = config.abstract_rows().sight
    assert sight.vectors.shape == (32, 16, 64) and sight.whole
    eyes = config.beside(mesh)["eyes"]
    images = jax.ShapeDtypeStruct((32, 1, 64, 64, 3), "uint8")
    seen = jax.eval_shape(partial(look, tiny), eyes, images)
    assert (seen.shape, seen.dtype) == (sight.vectors.shape, sight.vectors.dtype)
    assert tree.count(eyes) == tiny.parameters() - tiny.text.parameters()
    # the same without what is seen is another program
    assert config.lowered(mesh).as_text() != replace(config, sees=None).lowered(mesh).as_text()
    for lowered, _ in config.others(mesh).values():  # of a reward model none
        assert any(leaf.shape == sight.vectors.shape for leaf in jax.tree.leaves(lowered.args_info))


@pytest.mark.parametrize("size", ["base", "large"])
def test_alignment_on_images_is_known_by_its_size_before_it_has_begun(size):
    seen = gpt4.by_size(size)
    for config in (gpt4.reward(size), gpt4.ppo(size)):
        assert config.model == seen.model.text and config.flops_per_token() > 0
        rows = config.abstract_rows()
        assert rows.sight.vectors.dtype == "bfloat16"
        assert rows.tokens.shape[-1] == seen.length > rows.sight.vectors.shape[1] == 196


@pytest.mark.slow
def test_a_plan_of_ppo_ptx_has_every_network_and_leaves_room_for_those_beside_it():
    config = ppo_ptx("1.3b")
    assert config.model is not None
    sets = {"batch": 16, "update.minibatches": 2, "update.text_rows": 1, "mesh.data": 1,
            "mesh.fsdp": 4, "prompt_length": 128, "answer_length": 128}  # fmt: skip
    for name in ("model", "value_model"):
        sets |= {f"{name}.layers": 2, f"{name}.width": 512, f"{name}.heads": 4,
                 f"{name}.head_size": 128, f"{name}.vocab": 1024}  # fmt: skip
    words = [f"--set={name}={value}" for name, value in sets.items()]
    done = compiling(
        "-m", "launch.plan", "--topology=v5e:2x2", "--json",
        "--experiment=instructgpt:ppo_ptx(size='1.3b')", *words,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    plan = json.loads(done.stdout.splitlines()[-1])
    networks = plan["networks"]
    assert set(networks) == {"policy", "value", "average", "policy_moments", "value_moments",
                             "reference", "reward"}  # fmt: skip
    assert networks["policy"] == networks["average"] == networks["reference"]
    assert networks["policy_moments"] == pytest.approx(2 * networks["policy"], rel=1e-3)
    assert plan["fits"] and plan["limit"] < 15.75 * 2**30 - networks["reference"]
    own = sum(networks.values()) - networks["reference"] - networks["reward"]
    assert plan["peak_memory"] > own
    others = plan["others"]
    assert list(others) == ["rollout", "scores", "experience"]
    aside = sum(networks.values()) - networks["policy"]  # without the little that the guard keeps
    assert 15.7 * 2**30 < others["rollout"]["limit"] + aside <= 15.75 * 2**30
    cache = 2 * 2 * 2 * 16 / 4 * 256 * 512  # bytes: keys and values of 2 layers, 4 rows a device
    assert networks["policy"] + cache < others["rollout"]["peak"] < others["rollout"]["limit"]
