"""Collectives as compiled programs name them."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from lm.core.mesh import DATA, MeshConfig, make_mesh
from lm.plan.hlo import collectives, group

LOOP = """\
%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %ar = f32[4]{0} all-reduce(%x), to_apply=%add
}

%cond (p: (s32[], f32[4])) -> pred[] {
  %n = s32[] constant(7)
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %w = (s32[], f32[4]{0}) while(%t), condition=%cond, body=%body
  %both = (f32[2,3]{1,0}, /*index=1*/bf16[8]{0}) all-reduce(%a, %b), to_apply=%add
  %gather = (f32[2]{0}, f32[16]{0}) all-gather-start(%c), dimensions={0}
  %done = f32[16]{0} all-gather-done(%gather)
  %start = f32[5]{0} all-reduce-start(%d), to_apply=%add
}
"""


def test_loops_tuples_and_started_operations_are_counted():
    found = {c.name: (c.kind, c.bytes, c.runs) for c in collectives(LOOP)}
    assert found == {
        "ar": ("all-reduce", 16, 7),
        "both": ("all-reduce", 40, 1),
        "gather": ("all-gather", 64, 1),
        "start": ("all-reduce", 20, 1),
    }


def test_a_loop_of_unknown_length_is_an_error():
    with pytest.raises(ValueError, match="trip count"):
        collectives(LOOP.replace("constant(7)", "parameter(0)"))


def test_a_loop_that_counts_by_two_has_half_the_trips():
    by_two = LOOP.replace(
        "  %n = s32[] constant(7)",
        "  %i = s32[] get-tuple-element(%p), index=0\n  %n = s32[] constant(7)",
    ).replace(
        "  %ar = f32[4]{0} all-reduce(%x), to_apply=%add\n",
        "  %ar = f32[4]{0} all-reduce(%x), to_apply=%add\n"
        "  %two = s32[] constant(2)\n  %next = s32[] add(%i, %two)\n"
        "  ROOT %t = (s32[], f32[4]) tuple(%next, %ar)\n",
    )
    assert {one.name: one.runs for one in collectives(by_two)}["ar"] == 4


def test_a_reduction_in_a_compiled_scan_runs_once_a_trip():
    mesh = make_mesh(MeshConfig(data=8))

    def local(x: jax.Array) -> jax.Array:
        step = lambda sums, _: (jax.lax.psum(jnp.sin(sums), DATA), None)  # noqa: E731
        return jax.lax.scan(step, x, None, length=5)[0]

    f = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False))
    (found,) = collectives(f.lower(jnp.ones(16)).compile().as_text())
    assert (found.kind, found.bytes, found.runs) == ("all-reduce", 64, 5)


@pytest.mark.parametrize(
    ("spelling", "members"),
    [
        ("replica_groups={{0,2},{1,3}}", (0, 2)),
        ("replica_groups=[2,2]<=[4]", (0, 1)),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", (0, 2)),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=2] {'axis_0'}", (0, 2)),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=2] {'axis_0','axis_1'}", (0, 1, 2, 3)),
        ("source_target_pairs={{0,0},{1,3},{3,1}}", (1, 3)),
        ("to_apply=%add", ()),
    ],
)
def test_the_members_of_a_group_in_every_spelling(spelling, members):
    assert group(f"  %x = f32[4]{{0}} all-reduce(%a), channel_id=1, {spelling}, to_apply=%b") == (
        members
    )


def test_a_gather_in_three_fusions_is_one_that_runs_beside_other_work():
    text = """\
%begin (p: bf16[2]) -> bf16[8] {
  ROOT %g1 = bf16[8]{0} all-gather(%p), channel_id=9, replica_groups=[1,4]<=[4]
}

%between (p: bf16[2]) -> bf16[8] {
  ROOT %g2 = bf16[8]{0} all-gather(%p), channel_id=9, replica_groups=[1,4]<=[4]
}

%plain (p: bf16[2]) -> bf16[8] {
  ROOT %g3 = bf16[8]{0} all-gather(%p), channel_id=7, replica_groups=[1,4]<=[4]
}

ENTRY %main (x: bf16[2]) -> bf16[8] {
  %async-collective-start.1 = bf16[8]{0} fusion(%x), kind=kCustom, calls=%begin
  %fusion.2 = bf16[8]{0} fusion(%x), kind=kOutput, calls=%between
  %fusion.3 = bf16[8]{0} fusion(%x), kind=kOutput, calls=%plain
}
"""
    found = {one.name: one.asynchronous for one in collectives(text)}
    assert found == {"g1": True, "g3": False}


def test_a_gather_on_a_sparse_core_is_beside_what_is_scheduled_before_its_end():
    def program(between):
        return f"""\
%called (param: bf16[12,24]) -> bf16[12,96] {{
  %param = bf16[12,24]{{1,0}} parameter(0)
  ROOT %all-gather.1 = bf16[12,96]{{1,0}} all-gather(%param), channel_id=7, \
replica_groups=[2,4]<=[8], dimensions={{1}}
}}, execution_thread="sparsecore"

ENTRY %main (p: bf16[12,24]) -> bf16[12,96] {{
  %p = bf16[12,24]{{1,0}} parameter(0)
  %start = ((), (), (s32[1]{{0}})) call-start(), async_execution_thread="sparsecore", \
to_apply=%called
  %before = bf16[12,24]{{1,0}} fusion(%p), kind=kLoop, calls=%fused
  %update = ((bf16[12,24]{{1,0}}), bf16[12,96]{{1,0}}) call-update(%start, %before)
  {between}
  ROOT %done = bf16[12,96]{{1,0}} call-done(%update)
}}
"""

    work = "%other = bf16[12,24]{1,0} fusion(%p), kind=kLoop, calls=%fused"
    (beside,), (alone,) = collectives(program(work)), collectives(program(""))
    assert beside.asynchronous and not alone.asynchronous  # work before its operands is not beside
    assert (beside.kind, beside.bytes, beside.group) == ("all-gather", 12 * 96 * 2, (0, 1, 2, 3))


def test_a_reduction_of_which_a_part_is_kept_is_a_reduce_scatter():
    text = """\
%all-reduce-scatter.1 (p: f32[32]) -> f32[8] {
  %r = f32[32]{0} all-reduce(%p), channel_id=9, replica_groups=[1,4]<=[4], to_apply=%add
  ROOT %d = f32[8]{0} dynamic-slice(%r, %i), dynamic_slice_sizes={8}
}

ENTRY %main (x: f32[32]) -> f32[8] {
  ROOT %fusion.2 = f32[8]{0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
}
"""
    (one,) = collectives(text)
    assert (one.kind, one.bytes, one.wire) == ("reduce-scatter", 32, 96)


def test_a_reduction_between_slices_of_tpus_is_a_send_to_the_hosts():
    transfer = (
        '_xla_megascale_reduce_operation="SUM",_xla_megascale_target="{1,2}x{0:15}",'
        '_xla_megascale_transfer_type="ALL_REDUCE"'
    )
    text = f"""\
ENTRY %main (x: f32[4,2]) -> f32[4,2] {{
  %send.1 = (f32[4,2]{{1,0}}, u32[], token[]) send(%x, %t), frontend_attributes={{{transfer}}}
  %sent = token[] send-done(%send.1), channel_id=6
  %other = (f32[9]{{0}}, u32[], token[]) send(%y, %t), channel_id=7, is_host_transfer=true
}}
"""
    (one,) = collectives(text)
    assert (one.kind, one.bytes, one.group) == ("all-reduce", 32, (0, 16))
    assert one.asynchronous and one.wire == 32


def test_the_bytes_that_a_ring_sends():
    text = LOOP.replace("to_apply=%add", "to_apply=%add, replica_groups=[1,4]<=[4]")
    sent = {one.name: one.wire for one in collectives(text)}
    assert sent["ar"] == 2 * 3 / 4 * 16  # each part goes round twice
    scattered = text.replace("f32[5]{0} all-reduce-start(%d)", "f32[5]{0} reduce-scatter(%d)")
    assert {one.name: one.wire for one in collectives(scattered)}["start"] == 3 * 20
