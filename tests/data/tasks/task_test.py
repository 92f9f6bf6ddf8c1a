import gzip
import json

import pytest

from lm.core.config import bind, dump, load
from lm.core.errors import ConfigError, DataError
from lm.data.records import Classification, Regression
from lm.data.tasks import Form, TaskConfig, check_metrics, read


def written(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def rows(*objects):
    return "".join(json.dumps(row) + "\n" for row in objects)


def sst2(root, train, valid="sentence\tlabel\nfine\t1\n", **fields):
    written(root, "train.tsv", train)
    written(root, "dev.tsv", valid)
    return read(TaskConfig(name="sst2", root=str(root), **fields))


def own(root, *objects, name="classification", **fields):
    written(root, "train.jsonl", rows(*objects))
    return read(TaskConfig(name=name, root=str(root), **fields))


MANY = [{"text": f"text {k // 2}", "label": "ab"[k % 2]} for k in range(400)]


def test_a_task_is_found_in_its_own_folder_or_below_the_folder_of_all_data(tmp_path):
    text = "sentence\tlabel\nfine\t1\n"
    for folder, train in (("a/SST-2", "train.tsv"), ("b/glue_sst2", "train.tsv.gz"), ("c", "")):
        written(tmp_path / folder, train or "train.tsv", text)
        written(tmp_path / folder, "dev.tsv", text)
        for root in {tmp_path / folder, tmp_path / folder[0]}:
            task = read(TaskConfig(name="sst2", root=str(root)))
            assert task.train == [Classification(id="train:2", text="fine", label=1)]


def test_a_quotation_mark_in_a_tsv_is_text(tmp_path):
    text = 'sentence\tlabel\n" open\t0\nclosed "\t1\n""\t0\n'
    assert [r.text for r in sst2(tmp_path, text).train] == ['" open', 'closed "', '""']


def test_only_lf_and_crlf_divide_lines_and_a_bom_is_no_text(tmp_path):
    text = "\ufeffsentence\tlabel\r\none\u2028line\x0c of\x85 text\r\t0\r\nlast\t1"
    assert [r.text for r in sst2(tmp_path, text).train] == [
        "one\u2028line\x0c of\x85 text\r",
        "last",
    ]


def test_malformed_rows_are_named_by_file_and_line_the_first_five_and_the_rest_counted(tmp_path):
    text = "sentence\tlabel\n" + "fine\t1\n" + "no label\n" * 7 + "fine\t1\n"
    with pytest.raises(DataError) as caught:
        sst2(tmp_path, text).train  # noqa: B018
    message = str(caught.value)
    path = tmp_path / "train.tsv"
    assert message.startswith(f"{path}:3: 1 columns, expected 2 (sentence, label); {path}:4: ")
    assert f"{path}:7:" in message and f"{path}:8:" not in message and "and 2 more" in message
    assert "\n" not in message and "data.on_bad=drop" in message


def test_rows_behind_a_quotation_that_stays_open_are_not_dropped_as_malformed(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text('text,label\n"a"b,x\nfine,x\n"open,y\nbad,y\n')
    config = TaskConfig(name="classification", root=str(tmp_path), on_bad="drop")
    with pytest.raises(DataError, match=r"train.csv:4: not CSV .*, nor can the rows behind it"):
        read(config).train  # noqa: B018
    path.write_text('text,label\n"a"b,x\nfine,x\nbad,y\n')
    task = read(config)
    assert len(task.train) + len(task.valid) == 2


def test_malformed_rows_are_dropped_only_when_asked_and_are_counted(tmp_path, capsys):
    text = "sentence\tlabel\nfine\t1\nno label\n \t1\nbad\t7\n"
    task = sst2(tmp_path, text, on_bad="drop")
    assert [r.id for r in task.train] == ["train:2"]
    assert "sst2, train: 3 malformed rows of 4 dropped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (" \t1", '"text" is empty'),
        ("fine\t", 'missing "label"'),
        ("fine\tgood", "unknown label 'good'; known: negative, positive"),
        ("fine\t2", "unknown label '2'; known: negative, positive"),
        ("fine\t-1", '"label" is -1, which is none'),
        ("fine\t1\tmore", "3 columns, expected 2"),
    ],
)
def test_a_row_that_is_no_record_says_why(tmp_path, row, problem):
    with pytest.raises(DataError, match=f"train.tsv:3: {problem}"):
        sst2(tmp_path, f"sentence\tlabel\nfine\t1\n{row}\n").train  # noqa: B018


def test_bytes_that_are_not_utf8_are_named_by_line(tmp_path):
    with pytest.raises(DataError, match="train.tsv:2: not UTF-8 at byte 3 of the line"):
        sst2(tmp_path, b"sentence\tlabel\ncaf\xe9\t1\n").train  # noqa: B018


def test_a_damaged_gzip_is_named(tmp_path):
    whole = gzip.compress(b"sentence\tlabel\n" + b"fine\t1\n" * 500)
    (tmp_path / "train.tsv.gz").write_bytes(whole[:-9])
    with pytest.raises(DataError, match="train.tsv.gz: damaged gzip"):
        read(TaskConfig(name="sst2", root=str(tmp_path))).train  # noqa: B018


def test_an_empty_set_and_absent_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="no records in .*train.tsv"):
        sst2(tmp_path, "sentence\tlabel\n").train  # noqa: B018
    with pytest.raises(DataError, match="no records"):
        sst2(tmp_path, "").train  # noqa: B018
    with pytest.raises(DataError, match="no files of rte in .*: looked for train.tsv.*glue_rte"):
        read(TaskConfig(name="rte", root=str(tmp_path / "none")))
    with pytest.raises(DataError, match="data.train=mine.tsv: no file"):
        read(TaskConfig(name="rte", root=str(tmp_path), train="mine.tsv"))


def test_one_id_twice_is_an_error_and_both_places_are_named(tmp_path):
    task = own(tmp_path, {"id": 7, "text": "x", "label": 0}, {"id": "7", "text": "y", "label": 1})
    with pytest.raises(DataError, match=r"jsonl:2: id '7' already stands at .*jsonl:1"):
        task.train  # noqa: B018


def test_an_unknown_task_is_answered_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"unknown task 'sst-2'; did you mean sst2\?"):
        read(TaskConfig(name="sst-2"))


def test_labels_may_be_names_or_indices_as_json_or_as_text(tmp_path):
    labels = ["bad", "good", 0, 1, "1"]
    task = own(tmp_path, *({"text": "x", "label": y} for y in labels), labels=("bad", "good"))
    records = task._items("train")
    assert [item.record.label for item in records] == [0, 1, 0, 1, 1]


def test_labels_of_own_data_are_those_of_the_training_rows(tmp_path):
    written(tmp_path, "valid.jsonl", rows({"text": "x", "label": "c"}))
    task = own(tmp_path, {"text": "x", "label": "b"}, {"text": "y", "label": "a"})
    assert task.labels == ("a", "b") and [r.label for r in task.train] == [1, 0]
    with pytest.raises(DataError, match="valid.jsonl:1: unknown label 'c'; known: a, b"):
        task.valid  # noqa: B018


def test_grades_as_labels_are_in_the_order_of_their_numbers(tmp_path):
    task = own(tmp_path, *({"text": f"t{y}", "label": y} for y in (10, 9, 1, 2)))
    assert task.labels == ("1", "2", "9", "10")
    assert [task.labels[r.label] for r in task.train + task.valid] != []
    assert {r.text: task.labels[r.label] for r in task.train + task.valid}["t10"] == "10"


@pytest.mark.parametrize("grades", [(1, 2, 4, 5), (1.0, 2.0, 4.0, 5.0), (-1, -2, -4, -5)])
def test_a_grade_that_no_training_row_has_is_never_the_index_of_another(tmp_path, grades):
    written(tmp_path, "valid.jsonl", rows({"text": "x", "label": 3}))
    task = own(tmp_path, *({"text": f"t{y}", "label": y} for y in grades))
    assert set(task.labels) == set(map(str, grades))
    with pytest.raises(DataError, match="valid.jsonl:1: unknown label '3'; known: "):
        len(task.valid)


def test_minus_one_beside_classes_that_are_counted_is_no_label(tmp_path):
    labelled = [{"text": f"t{k}", "label": k % 2} for k in range(6)]
    written(tmp_path, "test.jsonl", rows({"text": "x", "label": -1}, {"text": "y", "label": 1}))
    task = own(tmp_path, *labelled)
    assert [record.label for record in task.test] == [None, 1]
    task = own(tmp_path, *labelled, {"text": "x", "label": -1})
    assert task.labels == ("0", "1")
    with pytest.raises(DataError, match='train.jsonl:7: "label" is -1, which is none; .*data.lab'):
        len(task.train)
    assert own(tmp_path, {"text": "x", "label": -1}).labels == ()
    task = own(tmp_path, *labelled, {"text": "x", "label": -1}, on_bad="drop")
    assert len(task.train) + len(task.valid) == 6
    for label in (-1, "-1"):  # the control
        own_labels = own(tmp_path, {"text": "x", "label": label}, labels=("-1", "0", "1"))
        assert [item.record.label for item in own_labels._items("train")] == [0]


def test_minus_one_among_other_names_is_a_class(tmp_path):
    for others in (("a", "0"), (-2, 0), (0.5, 0), (1,)):
        task = own(tmp_path, *({"text": f"t{y}", "label": y} for y in (-1, *others)))
        assert set(task.labels) == {"-1", *map(str, others)}


@pytest.mark.parametrize("label", [float("nan"), float("inf")])
def test_a_label_that_is_not_finite_is_no_class(tmp_path, label):
    task = own(tmp_path, *MANY, {"text": "x", "label": label})
    assert task.labels == ("a", "b")
    with pytest.raises(DataError, match=f"train.jsonl:401: a label is {label}, expected text or"):
        len(task.train)


def test_own_columns_are_named_without_code(tmp_path):
    written(tmp_path, "stars.jsonl", rows(*({"review": f"r{k}", "stars": k % 2} for k in range(9))))
    base = TaskConfig(name="classification", root=str(tmp_path), train="stars.jsonl")
    config = bind(base, {"columns": "text=review,label=stars"})
    assert config.columns == ("text=review", "label=stars")
    task = read(config)
    assert len(task.train) == 8 and task.train[0].text.startswith("r") and not task.pair
    with pytest.raises(DataError, match='stars.jsonl:1: missing "text"'):
        read(base).train  # noqa: B018


def test_a_format_of_ones_own_is_one_small_class(tmp_path):
    class Reviews(TaskConfig):
        def form(self):
            return Form(
                kind="regression",
                metrics=("pearson",),
                restate=lambda row: {"text": row["body"]["en"], "label": row["stars"] / 5},
            )

    written(tmp_path, "train.jsonl", rows(*({"body": {"en": str(k)}, "stars": k} for k in (1, 5))))
    written(tmp_path, "valid.jsonl", rows({"body": {}, "stars": 1}))
    task = read(Reviews(root=str(tmp_path)))
    assert task.train[1] == Regression(id="train:2", text="5", label=1.0)
    with pytest.raises(
        DataError, match=r"valid.jsonl:1: not a row of this task \(KeyError\('en'\)"
    ):
        task.valid  # noqa: B018


def test_pairs_are_all_or_none(tmp_path):
    texts = [{"text": f"{k}", "label": 0} for k in range(5)]
    written(tmp_path, "valid.jsonl", rows(*texts))
    assert not own(tmp_path, *texts).pair
    assert own(tmp_path, *({**row, "pair": "y"} for row in texts)).pair
    with pytest.raises(DataError, match="1 of 5 training records have a pair"):
        own(tmp_path, {**texts[0], "pair": "y"}, *texts[1:]).pair  # noqa: B018


def test_what_is_held_out_shares_no_text_with_what_is_trained_on(tmp_path):
    task = own(tmp_path, *MANY)
    train, valid = ({r.text for r in part} for part in (task.train, task.valid))
    assert not train & valid and len(train | valid) == 200
    assert len(valid) == 20 and len(task.valid) == 40  # both rows of a text
    assert len({r.label for r in task.valid}) == 2


def test_what_is_held_out_depends_on_neither_place_nor_order_nor_packing(tmp_path):
    one = own(tmp_path / "one", *MANY)
    other = written(tmp_path / "other", "all.jsonl.gz", rows(*reversed(MANY)))
    same = read(TaskConfig(name="classification", root=str(tmp_path), train=str(other)))
    assert {r.text for r in one.valid} == {r.text for r in same.valid}
    few = own(tmp_path / "few", *MANY, valid_fraction=0.05)
    assert {r.text for r in few.valid} < {r.text for r in one.valid}


def test_at_least_one_text_is_held_out_and_never_all(tmp_path):
    two = [{"text": "x", "label": 0}, {"text": "y", "label": 1}]
    for fraction in (0.01, 0.99):
        task = own(tmp_path, *two, valid_fraction=fraction)
        assert len(task.train) == len(task.valid) == 1
    with pytest.raises(DataError, match="one text in .*: none can be held out"):
        own(tmp_path, two[0], two[0]).valid  # noqa: B018


def test_a_part_of_a_set_that_has_only_its_held_out_file_is_trained_on(tmp_path):
    written(tmp_path, "dev.tsv", "sentence\tlabel\n" + "".join(f"{k}\t1\n" for k in range(30)))
    task = read(TaskConfig(name="sst2", root=str(tmp_path)))
    assert (len(task.train), len(task.valid)) == (27, 3)


def test_a_smaller_limit_is_part_of_a_larger_one_and_not_the_head_of_the_file(tmp_path):
    parts = [own(tmp_path, *MANY, limit=n, valid_limit=5).train for n in (20, 60)]
    assert [len(part) for part in parts] == [20, 60]
    small, large = ({r.id for r in part} for part in parts)
    assert small < large
    assert max(int(name.partition(":")[2]) for name in small) > 200
    lines = [int(r.id.partition(":")[2]) for r in parts[1]]
    assert lines == sorted(lines)
    assert len(own(tmp_path, *MANY, valid_limit=5).valid) == 5


def test_the_fingerprint_is_of_the_content_and_of_the_split(tmp_path):
    prints = [
        own(tmp_path / "a", *MANY).fingerprint,
        own(tmp_path / "b", *MANY).fingerprint,
        own(tmp_path / "a", *MANY, limit=100).fingerprint,
        own(tmp_path / "a", *MANY, valid_fraction=0.2).fingerprint,
        own(tmp_path / "a", *MANY, labels=("b", "a")).fingerprint,
        own(tmp_path / "a", *MANY[:-1], {"text": "text 199", "label": "a"}).fingerprint,
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 5


def test_the_config_is_bound_and_read_back_as_any_other():
    config = bind(TaskConfig(), {"name": "rte", "limit": "200", "on_bad": "drop"})
    assert load(dump(config)) == config
    for wrong in ({"valid_fraction": "0.0"}, {"limit": "0"}, {"columns": "('text',)"}):
        with pytest.raises(ConfigError):
            bind(config, wrong)


def test_a_test_file_may_have_no_labels_but_must_be_there(tmp_path):
    written(tmp_path, "test.tsv", "index\tsentence\n0\tfine\n")
    task = sst2(tmp_path, "sentence\tlabel\nfine\t1\n")
    assert task.test == [Classification(id="0", text="fine", label=None)]
    assert task.references("valid") == [1] and task.references("test") == [None]
    (tmp_path / "test.tsv").unlink()
    with pytest.raises(DataError, match="no test file of sst2; set data.test=FILE"):
        read(TaskConfig(name="sst2", root=str(tmp_path))).test  # noqa: B018


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("choice", {"context": "x", "choices": ["a", "b"], "label": 1}),
        ("regression", {"text": "x", "label": 0.5}),
        ("sst2", {"sentence": "x", "label": 1}),
    ],
)
def test_a_test_file_stands_alone_and_is_read_whole(tmp_path, name, row):
    mine = written(tmp_path, "mine.jsonl", rows(*[row] * 30))
    task = read(TaskConfig(name=name, root=str(tmp_path), test=str(mine)))
    assert len(task.test) == len(task.references("test")) == 30
    for part in ("train", "valid"):  # as where no file is there at all
        with pytest.raises(DataError, match=f"no files of {name} in .*; set data.train=FILE"):
            task.records(part)


def test_labels_of_own_data_are_never_those_of_a_test_file(tmp_path):
    mine = written(tmp_path, "mine.jsonl", rows({"text": "x", "label": "b"}))
    config = TaskConfig(name="classification", root=str(tmp_path), test=str(mine))
    with pytest.raises(DataError, match="no files of classification in .*; set data.train=FILE"):
        read(config).test  # noqa: B018
    written(tmp_path, "train.jsonl", rows({"text": "x", "label": "a"}, {"text": "y", "label": "b"}))
    assert read(config).test == [Classification(id="mine:1", text="x", label=1)]


def test_several_files_are_read_one_after_another_and_may_share_a_name(tmp_path):
    for folder in "ab":
        written(tmp_path, f"{folder}/x.jsonl", rows({"text": folder, "label": 0}))
    for spec in ("a/x.jsonl, b/x.jsonl", "*/x.jsonl"):
        config = TaskConfig(
            name="classification", root=str(tmp_path), train=spec, valid="a/x.jsonl"
        )
        assert [(r.id, r.text) for r in read(config).train] == [("x:1", "a"), ("x:1@1", "b")]


def test_columns_of_a_conll_file_are_numbers(tmp_path):
    written(tmp_path, "x.conll", "7 NNP Ann B-A\n8 VB ran O\n\n9 NNP Bo B-B\n")
    config = TaskConfig(
        name="tagging", root=str(tmp_path), train="x.conll", columns=("words=2", "tags=3")
    )
    task = read(config)
    assert task.labels == ("O", "B-A", "B-B")
    found = {(r.words, task.references(part)[0]) for part in ("train", "valid")
             for r in task.records(part)}  # fmt: skip
    assert found == {(("Ann", "ran"), ("B-A", "O")), (("Bo",), ("B-B",))}


def test_an_unknown_field_or_metric_is_refused_before_a_file_is_read():
    with pytest.raises(ConfigError, match="unknown field 'txt'; known: id, text, pair, label"):
        read(TaskConfig(name="classification", root="none", columns=("txt=review",)))
    with pytest.raises(ConfigError, match="unknown metric 'f2'"):
        read(TaskConfig(name="sst2", root="none", metrics=("f2",)))


def test_f1_is_refused_where_there_is_no_second_of_two_labels(tmp_path):
    three = own(tmp_path, *({"text": f"x{k}", "label": "abc"[k % 3]} for k in range(9)))
    with pytest.raises(ConfigError, match=r"f1 is of the second of two .* 3 \(a, b, c\): .*macro_"):
        check_metrics(("accuracy", "f1"), three.labels)
    with pytest.raises(ConfigError, match=r"here are 0 \(none\)"):
        check_metrics(("f1",), ())
    check_metrics(("macro_f1",), three.labels)
    check_metrics(("f1",), three.labels[:2])


def test_rows_without_an_agreed_label_are_left_out_and_told(tmp_path, capsys):
    row = {"premise": "x", "hypothesis": "y", "label": "neutral"}
    written(tmp_path, "dev.jsonl", rows(row))
    written(tmp_path, "train.jsonl", rows(row, {**row, "label": "-"}))
    assert len(read(TaskConfig(name="snli", root=str(tmp_path))).train) == 1
    assert "snli, train: 1 rows without an agreed label left out" in capsys.readouterr().out
