"""Prompts of a file that texts are written after."""

import json

import pytest

from lm.core.errors import DataError
from lm.evals.rows import read_sources


@pytest.mark.parametrize("name", ["a.json", "A.JSON", "b.JSONL"])
def test_prompts_are_read_from_rows_whatever_the_letters_of_their_ending(tmp_path, name):
    path = tmp_path / name
    rows = [{"prompt": "one"}, {"prompt": "two"}]
    listed = json.dumps(rows, indent=1)
    path.write_text(listed if "json" == name[2:].lower() else "\n".join(map(json.dumps, rows)))
    assert [one.prompt for one in read_sources(path)] == ["one", "two"]
    path.write_text('{"prompt": null}\n')
    with pytest.raises(DataError, match=rf"{name}:1: prompt must be text"):
        read_sources(path)
