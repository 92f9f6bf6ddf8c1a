"""What a step of PPO runs before its update: programs of their own, each with memory of its own."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from lm.core.mesh import batch_sharding, replicated
from lm.rlhf.experience import assess
from lm.rlhf.rollout import roll_out
from lm.rlhf.scores import score_rollout
from lm.train.supervised import Programs


def before_update(config: Any, mesh: jax.sharding.Mesh) -> Programs:
    """Those of a `PpoSetting`, in their order, lowered for a mesh whose devices may be absent.

    A reward that is a function has none: it is not known what it needs.
    """
    rows = batch_sharding(mesh)

    def placed(tree: Any) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=rows), tree
        )

    with jax.set_mesh(mesh):
        state, beside, asked = config.abstract(mesh), config.beside(mesh), config.abstract_rows()
        short = jax.ShapeDtypeStruct((config.batch, config.prompt_length), jnp.int32)
        drawing = roll_out.lower(
            config.policy_model, state.policy, placed(replace(asked, tokens=short)),
            jax.eval_shape(lambda: jax.random.key(0)), count=config.answer_length,
            end=-1 if config.fixed_length else 0, temperature=config.temperature,
            parts=config.rollout_parts,
        )  # fmt: skip
        rollout = placed(drawing.out_info)
        scoring = score_rollout.lower(
            config.critic_model, beside["reward"], rollout, parts=config.parts
        )
        assessing = assess.lower(
            config.policy_model, config.critic_model, config.advantages, state.policy,
            beside["reference"], state.value, rollout, placed(scoring.out_info),
            jax.ShapeDtypeStruct((), jnp.float32, sharding=replicated(mesh)),
            temperature=config.temperature, parts=config.parts,
        )  # fmt: skip
    return {
        "rollout": (drawing, ("policy",)),
        **({} if config.reward.function else {"scores": (scoring, ("reward",))}),
        "experience": (assessing, ("policy", "reference", "value")),
    }
