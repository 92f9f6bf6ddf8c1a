"""Whatever a file holds, a task reads records of it or says in one line why not."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.core.errors import DataError
from lm.data.tasks import TaskConfig, read

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
NAMES = (
    ("text", "pair", "label", "context", "question", "choices", "answers", "words", "tags", "id")
    + ("goal", "sol1", "sol2", "query", "gold", "endings", "ctx", "sentence1", "gold_label")
    + ("article", "questions", "options")
    + ("data", "paragraphs", "qas", "answer_start", "answerKey", "Choices", "title")
)  # fmt: skip
objects = st.dictionaries(st.sampled_from(NAMES), json_values | st.sampled_from(NAMES))
json_lines = st.lists(objects.map(json.dumps), max_size=5).map(
    lambda rows: "\n".join(rows).encode()
)
cells = st.text(st.sampled_from('\t\n\r,"#-aB0. O'), max_size=60).map(str.encode)
contents = json_lines | cells | st.binary(max_size=80)
READERS = [
    ("classification", "jsonl"), ("classification", "tsv"), ("regression", "csv"),
    ("choice", "jsonl"), ("span", "jsonl"), ("span", "json"), ("tagging", "jsonl"),
    ("tagging", "conll"), ("cola", "tsv"), ("snli", "jsonl"), ("piqa", "jsonl"), ("copa", "jsonl"),
    ("hellaswag", "jsonl"), ("openbookqa", "jsonl"), ("openbookqa", "tsv"), ("storycloze", "csv"),
    ("swag", "csv"), ("uner", "iob2"), ("classification", "tsv.gz"), ("scitail", "tsv"),
    ("race", "txt"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "end"), READERS)
def test_any_content_is_read_or_refused_in_one_line(tmp_path_factory, name, end):
    path = tmp_path_factory.mktemp("fuzz") / f"x.{end}"

    @settings(max_examples=12, database=None)
    @given(contents, st.sampled_from(("stop", "drop")))
    def one(content, on_bad):
        path.write_bytes(content)
        task = read(
            TaskConfig(
                name=name, root=str(path.parent), train=path.name, valid=path.name, on_bad=on_bad
            )
        )
        try:
            records = task.train
            assert records and len(task.references("train")) == len(records)
            assert len(task.fingerprint) == 64
        except DataError as error:
            assert path.name in str(error) and "\n" not in str(error)

    one()
