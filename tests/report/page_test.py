import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lm.core.errors import DataError
from lm.report.figures import measured
from lm.report.page import compare, write_page, write_report
from lm.report.record import read_run
from lm.report.text import escape, number
from tests.report.runs import training_row, valid_row, write_run

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)> & \"'\x00\x1b[31m"


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and that each is closed."""

    VOID = ("meta", "br")

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


def page_of(run):
    return write_report(run).read_text("utf-8")


def test_the_page_shows_what_the_run_wrote(run):
    page = page_of(run)
    assert write_report(run) == run / "report.html"
    for shown in (
        *("Loss", "Validation bits per byte", "Learning rate", "Gradient norm", "Throughput"),
        *("noise before training", "words after training", "model.layers = 4", "8 x TPU v5p"),
        *("824,064", "2 min 5 s", "41.2%", "1.47 (table 3 of the paper)", "2.5 (byte trigram)"),
        *("29.41 (table 4)", "byte trigram: 2.5", "table 3 of the paper: 1.47"),
    ):
        assert shown in page, shown


def test_a_published_figure_has_its_gap_and_why_it_is_not_comparable(run):
    page = page_of(run)
    assert "<td>1.47 (table 3 of the paper)</td><td>+0.03</td>" in page
    assert "<td>29.41 (table 4)</td><td></td>" in page  # of a figure that the run has not
    assert "this run has 824,064 parameters, its own text and the rows that it held out" in page
    summary = json.loads((run / "summary.json").read_text())
    del summary["reference"]
    (run / "summary.json").write_text(json.dumps(summary))
    assert "its own text and the rows" not in page_of(run)  # the control: nothing is compared


def test_a_figure_of_several_numbers_is_read_as_one_would_write_it(run):
    path = run / "summary.json"
    more = {"items": {"rows": 4096, "cut": 32}, "best_of": [1.5, 2.25]}
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    page = page_of(run)
    assert "rows 4,096, cut 32" in page and "1.5, 2.25" in page


def test_the_tiles_of_a_run_that_has_ended_say_how_its_steps_ended_and_what_it_was_for(run):
    summary = {"steps": 100, "seconds": 9.0, "metric": "f1", "f1": 0.625, "valid_kl": 0.25}
    (run / "summary.json").write_text(json.dumps(summary | {"win_rate": [0.5, 0.25, 1.0]}))
    page = page_of(run)
    tiles = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert list(tiles)[:2] == ["f1", "valid kl"] and tiles["f1"] == "0.625"
    assert tiles["training loss"] == number(training_row(100)["loss"]) and tiles["steps"] == "100"
    assert tiles["tokens a second"] == "10,000" and tiles["model FLOPs utilisation"] == "40.0%"
    assert "<th>win rate</th><td>0.5 (95%: 0.25 to 1)</td>" in page
    assert "<th>training loss</th>" in page


def test_a_mixture_of_texts_is_a_table_and_no_figure(run):
    path = run / "summary.json"
    rows = [{"source": "<web>", "tokens": 410_000, "weight": 0.594, "epochs": 0.435}, {"junk": 1}]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mixture": rows}))
    page = page_of(run)
    assert "<th>&lt;web&gt;</th><td>410,000</td><td>59.4%</td><td>0.435</td>" in page
    assert "Training mixture" in page and "junk" not in page and page.count("&lt;web&gt;") == 1
    assert "<th>epochs elapsed</th></tr>" in page
    rows[0]["valid_loss"] = 3.25  # of a run that holds out a part of each
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mixture": rows}))
    assert "<td>0.435</td><td>3.25</td>" in page_of(run)


def test_the_page_asks_for_nothing_from_outside(run):
    for tag, attributes in Tags(page_of(run)).tags:
        assert tag not in ("script", "link", "img", "iframe", "object", "base")
        assert "src" not in attributes
        for name in ("href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#")
    assert not re.search(r"https?:|@import|url\((?!#)", page_of(run))


def test_writing_it_again_gives_the_same_bytes(run):
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert not list(run.glob("*.tmp"))


def test_everything_from_the_run_is_escaped(run):
    hostile = HOSTILE.replace("\x00\x1b", "")
    (run / "samples" / "00000050.txt").write_text(HOSTILE)
    (run / "config.gin").write_text(f"name = {HOSTILE!r}\nplain = {hostile}\n# {hostile}\n")
    rows = [training_row(step, **{hostile: 1.0}) for step in (1, 2)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = [{"name": name, "value": 1.0, "source": hostile} for name in ("loss", hostile)]
    (run / "summary.json").write_text(
        json.dumps({hostile: hostile, "step": hostile, "reference": source})
    )
    page = page_of(run)
    names = {tag for tag, _ in Tags(page).tags}
    assert not names & {"script", "img"}
    assert "alert(1)" in page and "\u2400" in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", page)


def test_text_that_is_not_utf_8_is_shown(run):
    (run / "samples" / "00000100.txt").write_bytes(b"caf\xe9 \xff")
    (run / "summary.json").write_text('{"note": "\\ud800"}')
    assert "caf\ufffd" in page_of(run)


def test_a_run_that_has_not_ended_says_so(run):
    (run / "summary.json").unlink()
    (run / "metrics.jsonl").write_text("")
    page = page_of(run)
    assert "has not ended" in page and "Nothing has been logged" in page


def test_a_comparison_says_which_of_its_runs_have_not_ended(run, tmp_path):
    other = write_run(tmp_path / "<other>")
    (other / "summary.json").unlink()
    page = compare([run, other], tmp_path / "all.html").read_text("utf-8")
    assert "&lt;other&gt; has not ended" in page and "run has not ended" not in page


@pytest.mark.parametrize("out", [".", "/"])
def test_a_page_that_is_a_folder_is_refused(run, tmp_path, out):
    with pytest.raises(DataError, match="it is a folder; name a file"):
        compare([run, write_run(tmp_path / "other")], Path(out))


def test_a_name_that_the_drawing_s_font_has_not_is_drawn_without_a_warning(run, tmp_path, recwarn):
    page = compare([run, write_run(tmp_path / "日本")], tmp_path / "all.html").read_text("utf-8")
    assert "日本" in page and not [one for one in recwarn if "Glyph" in str(one.message)]


def test_numbers_and_controls_are_shown_as_a_reader_expects():
    assert [number(one) for one in (9999.4, 9999.7, 10000.2)] == ["9999", "10,000", "10,000"]
    assert escape("a\x85\x9bb\u202ec\u2067\x1b") == "a\ufffd\ufffdb\ufffdc\ufffd\u241b"


def test_a_run_with_other_metrics_has_a_figure_for_each(run):
    rows = [training_row(step, reward=0.1 * step, kl_to_reference=0.2) for step in (1, 2, 3)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = page_of(run)
    assert "<figcaption>Reward</figcaption>" in page
    assert "<figcaption>Kl to reference</figcaption>" in page


def test_a_loss_is_drawn_beside_what_it_can_be_compared_with_and_in_its_own_unit(run):
    config = (run / "config.gin").read_text()
    (run / "config.gin").write_text(config.replace("pretrain.Pretrain", "finetune.Finetune"))
    assert "nats a token" not in page_of(run)  # of a class, or the square of a distance

    rows = [training_row(1, **{"loss/words": 5.0, "loss/next": 0.7}), valid_row(1)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loss, words = re.findall(r"<figure>.*?</figure>", page_of(run), re.DOTALL)[:2]
    assert "validation loss" not in loss  # it has no next sentence in it, the training loss has
    assert "Masked words" in words and "loss/words" in words and "validation loss" in words

    held_out = valid_row(1) | {"valid_metadata_loss": 0.6}
    rows = [training_row(1, **{"loss/prompts": 0.7, "loss/metadata": 0.5}), held_out]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {title: names for title, _, names in measured([read_run(run)])}
    assert found["Loss"] == ("loss",) and found["Order"] == ("loss/prompts", "valid_loss")
    assert found["Questions"] == ("loss/metadata", "valid_metadata_loss")

    rows = [training_row(1, **{"loss/answers": 0.7, "loss/text": 3.0}),
            valid_row(1) | {"pretraining_loss": 3.1}]  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {title: names for title, _, names in measured([read_run(run)])}
    assert found["Loss"] == ("loss",) and found["Answers"] == ("loss/answers", "valid_loss")
    assert found["Pre-training text"] == ("loss/text", "pretraining_loss")


def test_the_loss_over_all_held_out_text_is_a_point_beside_its_estimates(run, tmp_path):
    rows = [valid_row(1), valid_row(50), valid_row(100) | {
        "whole_valid_loss": 1.5, "whole_valid_bits_per_byte": 0.75, "rare": 1.0, "whole_rare": 2.0,
    }]  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {title: names for title, _, names in measured([read_run(run)])}
    assert found["Loss"] == ("valid_loss", "whole_valid_loss")
    assert found["Validation bits per byte"] == ("valid_bits_per_byte", "whole_valid_bits_per_byte")
    assert found["Rare"] == ("rare", "whole_rare") and len(found) == 3
    assert "validation loss, all held-out text" in page_of(run)
    page = compare([run, write_run(tmp_path / "other")], tmp_path / "both.html").read_text()
    assert "all held-out text" not in page  # of one point a run: the final figures have it


def test_a_loss_that_is_not_a_number_is_drawn_as_a_gap(run):
    rows = [training_row(1), training_row(2, loss=float("nan")), training_row(3)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "<figcaption>Loss</figcaption>" in page_of(run)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 200])
def test_the_first_and_the_last_sample_stand_first(run, count):
    for sample in (run / "samples").iterdir():
        sample.unlink()
    for step in range(count):
        (run / "samples" / f"{step:08}.txt").write_text(f"text of {step}.")
    shown = re.findall(r"text of (\d+)\.", page_of(run))
    assert shown[:2] == ["0", str(count - 1)][: min(count, 2)]
    assert len(shown) == len(set(shown)) == min(count, len(shown)) <= 14


def test_a_comparison_lays_runs_over_each_other(tmp_path):
    runs = [write_run(tmp_path / name, lr=lr) for name, lr in (("low", 1e-4), ("high", 1e-3))]
    out = compare(runs, tmp_path / "all.html")
    page = out.read_text("utf-8")
    assert page.count("<figure>") == 7
    assert "<th>optim.peak_lr</th><td>0.0001</td><td>0.001</td>" in page
    assert "model.layers" not in page
    assert "low" in page and "high" in page
    assert compare(runs, out).read_text("utf-8") == page
    Tags(page)


def test_a_whole_loss_stands_beside_no_estimate(tmp_path):
    runs = [write_run(tmp_path / name) for name in ("a", "b")]
    for run in runs:
        last = valid_row(100) | {"whole_valid_loss": 1.5}
        (run / "metrics.jsonl").write_text(json.dumps(last) + "\n")
    page = compare(runs, tmp_path / "all.html").read_text("utf-8")
    assert "<th>validation loss, all held-out text</th><td>1.5</td><td>1.5</td>" in page
    (runs[1] / "summary.json").unlink()
    (runs[1] / "metrics.jsonl").write_text(json.dumps(valid_row(50)) + "\n")
    page = compare(runs, tmp_path / "all.html").read_text("utf-8")
    assert "<th>validation loss, estimate</th><td>2</td><td>2</td>" in page
    assert "all held-out text" not in page


def test_what_one_run_alone_has_is_drawn_in_its_colour(tmp_path):
    runs = [write_run(tmp_path / name) for name in ("first", "second", "third")]
    rows = [training_row(step, rare=1.0 / step) for step in range(1, 101)]
    (runs[1] / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = compare(runs, tmp_path / "all.html").read_text("utf-8")
    (figure,) = (part for part in page.split("<figure>") if "<figcaption>Rare<" in part)
    figure = figure.split("</figure>")[0]
    assert "var(--series-1)" in figure and "var(--series-0)" not in figure


def test_one_legend_names_all_runs_and_no_figure_is_covered_by_its_own(tmp_path):
    runs = [write_run(tmp_path / "grid" / place / "0") for place in "abcdefghij"]
    page = compare(runs, tmp_path / "all.html").read_text("utf-8")
    (legend,) = re.findall(r'<ul class="legend">.*?</ul>', page)
    items = re.findall(r"<li>(.*?)</li>", legend)
    assert [item.split("</svg> ")[1] for item in items] == [f"{place}/0" for place in "abcdefghij"]
    assert len({item.split("</svg>")[0] for item in items}) == 10  # colours come again, with dashes
    figures = re.findall(r"<figure>.*?</figure>", page, flags=re.DOTALL)
    assert figures and not any("a/0" in figure for figure in figures)


def test_runs_of_the_same_name_are_told_apart_by_their_path(tmp_path):
    runs = [write_run(tmp_path / place / "run") for place in ("a", "b")]
    page = compare(runs, tmp_path / "all.html").read_text("utf-8")
    assert "<th>a/run</th><th>b/run</th>" in page and str(tmp_path) not in page
    assert "None: the bindings are the same." in page


def test_one_run_is_not_a_comparison(run, tmp_path):
    with pytest.raises(DataError, match="two runs or more"):
        compare([run], tmp_path / "all.html")


def test_a_long_run_is_drawn_in_seconds(tmp_path):
    run = write_run(tmp_path / "run", steps=10_000)
    start = time.process_time()
    page = page_of(run)
    assert time.process_time() - start < 4
    assert len(page) < 1_000_000


def report(*flags):
    command = [sys.executable, "-m", "launch.report", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_setting_that_was_changed_on_the_way_is_told_with_its_step(run, tmp_path):
    other = write_run(tmp_path / "other")
    assert "from step" not in page_of(run)  # the control
    changes = [
        {"step": 20, "changed": {"optim.peak_lr": ["0.01", "0.001"]}},
        {"step": 1500, "changed": {"optim.peak_lr": ["0.001", "0.0003"]}},
    ]
    (run / "changes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in changes) + "{")
    page = page_of(run)
    assert "<th>optim.peak_lr</th><td>0.01</td><td>0.001</td><td>20</td>" in page
    assert "<td>0.001</td><td>0.0003</td><td>1,500</td>" in page
    page = compare([run, other], tmp_path / "both.html").read_text()
    assert "0.01 to step 20, then 0.001 to step 1,500, then 0.0003</td><td>0.0003</td>" in page
    assert "Over seeds" not in page  # the same bindings in the end, and not the same run


def test_the_command_writes_the_page_of_a_run(run):
    done = report(f"--runs={run}")
    assert (done.returncode, done.stdout.strip()) == (0, str(run / "report.html"))


def test_the_command_compares_runs(tmp_path):
    runs = [write_run(tmp_path / name) for name in ("a", "b")]
    done = report(f"--runs={runs[0]},{runs[1]}", f"--out={tmp_path / 'all.html'}")
    assert done.returncode == 0 and (tmp_path / "all.html").exists()


@pytest.mark.parametrize(
    "pattern", ["*", *(pytest.param(one, marks=pytest.mark.slow) for one in ("?", "[ab]"))]
)
def test_a_pattern_names_the_folders_that_it_finds(tmp_path, pattern):
    for name in ("a", "b"):
        write_run(tmp_path / "runs" / name)
    (tmp_path / "runs" / "t").write_text("a table beside them")
    other = tmp_path / "runs" / "text"
    other.mkdir()
    done = report(f"--runs={tmp_path}/runs/{pattern}", f"--out={tmp_path / 'all.html'}")
    left_out = f"{other} is left out: it lacks config.gin or metrics.jsonl\n"
    assert (done.returncode, done.stderr) == (0, left_out if pattern == "*" else "")
    assert "2 runs compared" in (tmp_path / "all.html").read_text()


@pytest.mark.parametrize(
    "flags, code, line",
    [
        ([], 1, "--runs is empty"),
        (["--runs=a", "--out=b"], 1, "--out=b is for several runs, and --runs names a alone"),
        (["--runs=a,b"], 1, "--out is missing"),
        (["--run=a"], 1, "Did you mean: runs"),
        (["--runs=nowhere"], 2, "nowhere is not a run directory"),
        (["--runs=nowhere/*", "--out=b"], 1, "--runs=nowhere/*: no run is there"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(flags, code, line):
    done = report(*flags)
    assert done.returncode == code
    assert line in done.stderr and done.stderr.count("\n") == 1


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write .*page.html: Not a directory"):
        write_page(tmp_path / "file" / "page.html", "title", [])
