"""Checkpoints that are whole or absent, whatever happens to their files."""

import asyncio
import errno
import gc
import logging
import os
import shutil
from collections import namedtuple
from types import SimpleNamespace
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.core.errors import CheckpointError, StorageError
from lm.core.tree import size_bytes
from lm.train import checkpoint
from lm.train.checkpoint import Checkpoints, on_all
from lm.train.manifest import Damaged, digest, passing
from tests.launched import free_port
from tests.train.process_test import child


def state_of(step):
    numbers = np.random.default_rng(step)
    return {
        "w": jnp.asarray(numbers.standard_normal((64, 64)), jnp.float32),
        "n": jnp.asarray(step, jnp.int32),
    }


def abstract():
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state_of(0)
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Steps 1 and 2 of a run."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    checkpoints = Checkpoints(folder)
    assert checkpoints.save(1, state_of(1), {}) and checkpoints.save(2, state_of(2), {})
    assert checkpoints.close()
    return folder


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def delete(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def files(folder):
    return sorted(p.relative_to(folder / "2") for p in (folder / "2").rglob("*") if p.is_file())


def restored_after(saved, tmp_path, damage):
    """The step that is taken once step 2 is damaged, its arrays compared with what was saved."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(saved, folder)
    damage(folder / "2")
    checkpoints = Checkpoints(folder)
    try:
        state, manifest = checkpoints.restore(abstract())
    finally:
        checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, state, state_of(manifest["step"]))
    return manifest["step"], folder


def test_an_undamaged_step_is_taken(saved, tmp_path):
    assert restored_after(saved, tmp_path, lambda folder: None)[0] == 2


def test_an_older_step_is_taken_where_a_manifest_says_another_step(saved, tmp_path, capsys):
    def spoil(folder):
        path = folder / "manifest" / "manifest.json"
        path.write_text(path.read_text().replace('"step": 2', '"step": 3'))

    step, folder = restored_after(saved, tmp_path, spoil)
    assert step == 1 and (folder / "2.corrupt").exists()
    assert "its checksum is another; trying an older step" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("damage", [truncate, delete, empty])
def test_no_damage_to_any_one_file_gives_other_numbers(saved, tmp_path, capsys, damage):
    taken = {}
    for number, name in enumerate(files(saved)):

        def spoil(folder, name=name):
            damage(folder / name)

        step, folder = restored_after(saved, tmp_path / str(number), spoil)
        taken[str(name)] = step
        if step == 1:
            assert (folder / "2.corrupt").exists()
            assert "trying an older step" in capsys.readouterr().err
    assert taken["manifest/manifest.json"] == 1
    arrays = [name for name in taken if "/d/" in name]
    assert arrays and any(taken[name] == 1 for name in arrays)


@pytest.mark.slow
def test_junk_beside_the_steps_and_an_empty_step_are_no_steps(saved, tmp_path):
    def junk(folder):
        shutil.rmtree(folder)
        folder.mkdir()
        (folder.parent / "notes.txt").write_text("mine")
        (folder.parent / "3").mkdir()
        (folder.parent / "3" / "junk").write_bytes(b"\0" * 100)

    assert restored_after(saved, tmp_path, junk)[0] == 1


def test_what_a_killed_save_left_is_gone_before_the_next_save(tmp_path):
    left = tmp_path / "checkpoints" / "1.orbax-checkpoint-tmp" / "state.orbax-checkpoint-tmp"
    left.mkdir(parents=True)
    for number in range(3000):  # enough that a thread which removes them would meet the next line
        (left / str(number)).touch()
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert list(checkpoints.folder.iterdir()) == []
    assert checkpoints.restore(abstract()) is None
    assert checkpoints.save(1, state_of(1), {}) and checkpoints.close()
    assert Checkpoints(checkpoints.folder, read_only=True).restore(abstract())[1]["step"] == 1


def test_a_bit_that_flips_changes_the_digest_wherever_it_is():
    leaf = jnp.zeros((4, 5), jnp.float32)
    numbers = {int(digest(leaf))}
    for index in range(20):
        bits = np.zeros(20, np.uint32)
        bits[index] = 1 << (index % 32)
        numbers.add(int(digest(jnp.asarray(bits.view(np.float32).reshape(4, 5)))))
    assert len(numbers) == 21


def test_a_disk_without_room_is_told_before_anything_is_written(
    saved, tmp_path, monkeypatch, capsys
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: usage(2, 1, 1000))
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert not checkpoints.save(1, state_of(1), {})
    assert "step 1 was not saved: 0 MB free" in capsys.readouterr().err
    assert list((tmp_path / "checkpoints").iterdir()) == [] and checkpoints.failures == 1
    monkeypatch.undo()
    assert checkpoints.save(2, state_of(2), {}) and checkpoints.close()


@pytest.mark.parametrize("call", ["steps_in", "shutil.disk_usage"])
def test_a_disk_that_does_not_answer_is_a_save_that_failed_and_no_end(
    tmp_path, monkeypatch, capsys, call
):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with monkeypatch.context() as disk:

        def stale(folder):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

        disk.setattr(f"lm.train.checkpoint.{call}", stale)
        assert not checkpoints.save(1, state_of(1), {})
    assert "step 1 was not saved: [Errno 116] Stale file handle" in capsys.readouterr().err
    assert checkpoints.failures == 1
    assert checkpoints.save(2, state_of(2), {}) and checkpoints.settle()
    assert checkpoints.failures == 0 and checkpoints.steps() == [2] and checkpoints.close()


def test_the_room_for_a_save_is_that_of_all_processes_which_write_to_one_disk(
    tmp_path, monkeypatch, capsys
):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    free = 1.5 * size_bytes(state_of(1))
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(checkpoint, "agreed", bool)
    monkeypatch.setattr(checkpoint, "of_first", list)
    monkeypatch.setattr(checkpoints, "manager", Mock())
    assert not checkpoints.save(1, state_of(1), {})
    assert "step 1 was not saved: 0 MB free on its disk" in capsys.readouterr().err


def test_other_shapes_are_named_all_at_once(saved):
    checkpoints = Checkpoints(saved, read_only=True)
    other = abstract() | {"more": jax.ShapeDtypeStruct((3,), jnp.float32)}
    other["w"] = jax.ShapeDtypeStruct((64, 32), jnp.float32)
    with pytest.raises(
        CheckpointError, match=r"missing: more; other shape: w: .*\[64, 64\].*\[64, 32\]"
    ):
        checkpoints.restore(other)
    checkpoints.close()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (MemoryError("Unable to allocate"), "Unable to allocate"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "Out of memory"),
        (OSError(24, "Too many open files"), "Too many open files"),
    ],
)
@pytest.mark.parametrize("place", ["arrays", "manifest"])
def test_a_step_that_a_process_cannot_read_for_a_passing_fault_is_left_where_it_is(
    saved, tmp_path, monkeypatch, capsys, fault, told, place
):
    folder = tmp_path / "checkpoints"
    shutil.copytree(saved, folder)
    checkpoints = Checkpoints(folder)

    def fail(*_, **__):
        if place == "manifest":
            raise fault
        raise Exception("Encountered error while reading array index") from fault  # as Orbax does

    whole = "StandardCheckpointHandler.restore"
    with monkeypatch.context() as patch:
        if place == "arrays":
            patch.setattr(f"lm.train.checkpoint.ocp.{whole}", fail)
        else:
            patch.setattr("pathlib.Path.read_text", fail)
        expected = (
            CheckpointError if place == "arrays" or isinstance(fault, OSError) else type(fault)
        )
        with pytest.raises(expected, match=told):
            checkpoints.restore(abstract())
    assert capsys.readouterr().err == ""
    assert checkpoints.steps() == [1, 2] and not list(folder.glob("*.corrupt"))
    assert checkpoints.restore(abstract())[1]["step"] == 2
    checkpoints.close()


def of_tensorstore(status, reason, *facts):
    """An error as TensorStore words it; its facts come in any order."""
    spec = """[tensorstore_spec='{\\"driver\\":\\"zarr\\",\\"recheck_cached_metadata\\":false}']"""
    where = 'Error reading "w/.zarray" in OCDBT database at local file "/run/2/state/"'
    text = (
        f'{status}Error opening "zarr" driver: {where}: Error reading /run/2/state/d/e5: {reason}'
    )
    return ValueError(" ".join([text, *(fact or spec for fact in facts)]))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (("UNKNOWN: ", "Input/output error", "[os_error_code='5']", None), "Input/output error"),
        (("ABORTED: ", "Stale file handle", None, "[os_error_code='116']"), "Stale file handle"),
        (
            ("ABORTED: ", "All 32 retry attempts failed: busy", None, "[http_response_code='503']"),
            "busy",
        ),
    ],
)
def test_arrays_of_a_disk_or_store_that_does_not_answer_are_left_where_they_are(
    saved, tmp_path, monkeypatch, fault, reason
):
    folder = tmp_path / "checkpoints"
    shutil.copytree(saved, folder)
    checkpoints = Checkpoints(folder)
    handler = checkpoint.ocp.StandardCheckpointHandler
    monkeypatch.setattr(handler, "restore", Mock(side_effect=of_tensorstore(*fault)))
    with pytest.raises(CheckpointError, match=f"/2 cannot be read now: {reason}; mend that and"):
        checkpoints.restore(abstract())
    assert checkpoints.steps() == [1, 2] and not list(folder.glob("*.corrupt"))
    checkpoints.close()


@pytest.mark.parametrize(
    "place",
    [
        "pathlib.Path.read_text",
        "lm.train.checkpoint.ocp.StandardCheckpointHandler.restore",
        "lm.train.checkpoint.ocp.CheckpointManager",
    ],
)
def test_a_fault_that_passes_ends_with_an_exit_code_after_which_a_run_is_started_again(
    saved, monkeypatch, place
):
    monkeypatch.setattr(place, Mock(side_effect=OSError(errno.EIO, "Input/output error")))
    with pytest.raises(CheckpointError, match="Input/output error") as caught:
        Checkpoints(saved, read_only=True).restore(abstract())
    assert caught.value.exit_code == 70


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR, errno.EISDIR])
def test_arrays_that_the_system_says_are_not_there_are_damaged(number):
    fault = of_tensorstore("NOT_FOUND: ", "away", None, f"[os_error_code='{number}']")
    assert passing(fault) is None


@pytest.mark.parametrize("turn", [1, -1])
def test_the_reason_is_told_in_whatever_order_the_facts_beside_it_come(turn):
    for number in ("5", "116"):
        facts = [f"[os_error_code='{number}']", None][::turn]
        assert checkpoint.first_line(of_tensorstore("", "no answer", *facts)) == "no answer"
    assert checkpoint.first_line(of_tensorstore("", "Invalid JSON", None)) == "Invalid JSON"
    assert checkpoint.first_line(ValueError("one: two [three]\nfour")) == "one: two [three]"


def test_a_step_is_damaged_only_where_every_process_finds_it_so(monkeypatch):
    def act():
        raise Damaged("digest mismatch")

    with pytest.raises(Damaged, match="digest mismatch"):
        on_all(act)
    monkeypatch.setattr(checkpoint, "agreed", lambda done: False)  # another has no memory for it
    with pytest.raises(StorageError, match="digest mismatch"):
        on_all(act)


def test_another_step_is_chosen_by_the_flag_that_the_command_has(saved, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(saved, folder)
    delete(folder / "2" / "manifest" / "manifest.json")
    for read_only, way_out in (
        (True, "; choose another step$"),
        (False, "another --restore_step$"),
    ):
        checkpoints = Checkpoints(folder, read_only=read_only)
        with pytest.raises(CheckpointError, match=way_out):
            checkpoints.restore(abstract(), 2)
        checkpoints.close()


async def two_failures_of_which_one_is_awaited():
    async def write(name):
        raise ValueError(f"no room for {name}")

    tasks = [asyncio.create_task(write(name)) for name in ("first", "second")]
    with pytest.raises(ValueError, match="first"):
        await tasks[0]
    await asyncio.sleep(0)


@pytest.mark.slow
def test_the_other_writes_of_a_save_that_failed_are_not_told_beside_the_first(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("asyncio"), "filters", [])
    for silent in (False, True):
        if silent:
            Checkpoints(tmp_path / "checkpoints").close()
        caplog.clear()
        asyncio.run(two_failures_of_which_one_is_awaited())
        gc.collect()
        assert ("never retrieved" in caplog.text) != silent


PAIR = """
    import pathlib, sys
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import NamedSharding, PartitionSpec
    from lm.train import checkpoint
    folder, port, me, fault = sys.argv[1:]
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", 2, int(me))
    shards = NamedSharding(jax.make_mesh((2,), ("d",)), PartitionSpec("d"))
    def state(step):
        whole = np.full((8,), step, np.float32)
        return {"w": jax.make_array_from_callback((8,), shards, lambda index: whole[index])}
    def spoiled(real):
        def read(*words, **named):
            if "2" in words[-1].parts:
                raise checkpoint.Damaged("not here")
            return real(*words, **named)
        return read
    checkpoints = checkpoint.Checkpoints(pathlib.Path(folder))
    for step in (1, 2):
        assert checkpoints.save(step, state(step), {}) and checkpoints.settle()
    if me == "1":
        handler = checkpoint.ocp.StandardCheckpointHandler
        if fault == "listing":
            checkpoint.steps_in = lambda folder: [1]
        elif fault == "manifest":
            checkpoint.read_manifest = spoiled(checkpoint.read_manifest)
        else:
            handler.restore = spoiled(handler.restore)
    abstract = {"w": jax.ShapeDtypeStruct((8,), jnp.float32, sharding=shards)}
    found, manifest = checkpoints.restore(abstract)
    assert all((shard.data == manifest["step"]).all() for shard in found["w"].addressable_shards)
    checkpoints.abandon_after(1)
    assert checkpoints.save(3, state(3), {}) and checkpoints.settle()
    print("restored", manifest["step"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "taken", "left"),
    [
        ("listing", 2, ["1", "2.abandoned", "3"]),
        ("manifest", 1, ["1", "2.corrupt", "3"]),
        ("arrays", 1, ["1", "2.corrupt", "3"]),
    ],
)
def test_two_processes_take_one_step_where_one_lists_an_old_folder_or_cannot_read_all(
    tmp_path, fault, taken, left
):
    port = str(free_port())
    processes = [child(PAIR, str(tmp_path), port, str(me), fault) for me in range(2)]
    try:
        told = [process.communicate(timeout=100) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], told
    assert all(out.endswith(f"restored {taken}\n") for out, _ in told), told
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    assert fault == "listing" or "2: not here; trying an older step" in told[1][1]
    assert ("another process cannot read it" in told[0][1]) == (fault != "listing")
