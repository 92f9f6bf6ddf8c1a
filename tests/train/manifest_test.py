"""What a manifest says of its checkpoint is what was saved, or it is damaged."""

import json

import jax.numpy as jnp
import pytest

from lm.train.manifest import Damaged, make_manifest, read_manifest, steps_in

FACTS = {"data": "a9" * 32, "tokenizer": "b7" * 32, "tokens": 96, "rollbacks": 0, "skipped": 0}


def saved(tmp_path, change=lambda manifest: None):
    """The folder of step 6, its manifest changed."""
    manifest = make_manifest(6, {"w": jnp.arange(4.0)}, FACTS)
    change(manifest)
    folder = tmp_path / "checkpoints" / "6"
    (folder / "manifest").mkdir(parents=True)
    (folder / "manifest" / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_bit_that_flips_in_a_manifest_is_damage_or_changes_nothing_that_is_said(tmp_path):
    folder = saved(tmp_path)
    path, manifest = folder / "manifest" / "manifest.json", read_manifest(folder)
    whole = path.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place % 7)
        path.write_bytes(flipped)
        try:
            found = read_manifest(folder)
        except Damaged:
            continue
        assert all(found[name] == manifest[name] for name in ("step", "tree", *FACTS))


def without(manifest):
    del manifest["checksum"]


def test_a_manifest_of_an_earlier_run_is_read_without_a_checksum(tmp_path):
    assert read_manifest(saved(tmp_path, without))["tokens"] == 96


@pytest.mark.parametrize(
    "wrong",
    [{"step": 4}, {"step": "6"}, {"tokens": "x"}, {"rollbacks": None}, {"tokenizer": 5}],
)
def test_a_field_of_another_kind_is_damage_without_a_checksum_too(tmp_path, wrong):
    def change(manifest):
        without(manifest)
        manifest.update(wrong)

    with pytest.raises(Damaged):
        read_manifest(saved(tmp_path, change))


def test_a_folder_whose_name_is_no_number_as_we_write_them_is_no_step(tmp_path):
    for name in ("2", "10", "0", "\u00b2", "\u0663", "007", "3.corrupt", "-1"):
        (tmp_path / name).mkdir()
    assert steps_in(tmp_path) == [0, 2, 10]
