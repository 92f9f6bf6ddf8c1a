import json
import random
import signal
import subprocess
import sys

import pytest

from lm.core.errors import AccessError, ConfigError, DataError
from lm.data import shards, sources
from lm.data.bookmarks import alone
from lm.data.cleaning import CleaningConfig, clean
from lm.data.cleaning_passes import sampled
from lm.data.sources import documents
from tests.launched import ROOT

QUESTION = "What is it that walks on four legs in the morning, on two at noon and on three?"


def page(kind, seed, words=120):
    numbers = random.Random(f"{kind}{seed}")
    own = [f"{kind}{int(numbers.paretovariate(0.7)) % 3000}" for _ in range(words // 3)]
    both = [f"the{int(numbers.paretovariate(0.7)) % 3000}" for _ in range(words - words // 3)]
    return " ".join(numbers.sample(own + both, words))


def write(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


@pytest.fixture
def corpus(tmp_path):
    """A crawl of 60 good and 200 bad pages, 10 near copies, one leak; and what is beside it."""
    good = [page("essay", n) for n in range(60)]
    bad = [page("click", n) for n in range(200)]
    copies = [text.replace(text.split()[60], "other", 1) for text in good[:10]]
    leak = f"{page('essay', 900, 200)} {QUESTION} {page('essay', 901, 200)}"
    crawl = [*good, *bad, *copies, leak]
    return {
        "input": write(tmp_path / "crawl.jsonl", crawl),
        "curated": write(tmp_path / "good.jsonl", [page("essay", n) for n in range(100, 200)]),
        "against": write(tmp_path / "web.jsonl", [good[20].upper(), "nothing like it"]),
        "held_out": write(tmp_path / "test.jsonl", [QUESTION]),
    }, tmp_path


def read(folder):
    return [document.text for document in documents(str(folder))]


def test_copies_and_leaks_go_and_the_report_counts_them(corpus):
    specs, root = corpus
    del specs["curated"]
    figures = clean(CleaningConfig(**specs), root / "out")
    assert json.loads((root / "out" / "report.json").read_text()) == figures
    texts = read(root / "out")
    assert figures["input"]["documents"] == 271 and "quality" not in figures
    assert figures["copies"]["documents"] == 11  # 10 within, 1 against
    assert figures["copies"]["share_of_documents"] == pytest.approx(11 / 271)
    assert figures["kept"]["documents"] == 260
    overlaps = figures["overlaps"]
    assert overlaps["documents_touched"] == 1 and overlaps["documents_dropped"] == 0
    assert overlaps["characters"] == len(QUESTION) + 400 and overlaps["test_texts"] == 1
    assert figures["output"]["documents"] == 261 == len(texts)  # the leak is in two pieces
    assert figures["output"]["characters"] == sum(map(len, texts))
    assert not any("four legs in the morning" in text for text in texts)
    assert sorted(path.name for path in root.glob("out*")) == ["out"]


def test_a_test_text_of_fewer_words_than_a_gram_cuts_nothing(tmp_path):
    """13 words are what is cut for; 8 to 13 are the sizes of measuring contamination."""
    twelve, thirteen = (" ".join(QUESTION.split()[:count]) for count in (12, 13))
    crawl = write(tmp_path / "crawl.jsonl", [f"{page('a', 0)} {QUESTION} {page('b', 0)}"])
    found = {}
    for name, text in (("twelve", twelve), ("thirteen", thirteen)):
        specs = {"input": crawl, "held_out": write(tmp_path / f"{name}.jsonl", [text])}
        found[name] = clean(CleaningConfig(**specs), tmp_path / name)["overlaps"]
    assert found["twelve"]["documents_touched"] == 0 and found["thirteen"]["documents_touched"] == 1
    assert found["twelve"]["test_texts_without_a_gram"] == 1


def test_bad_pages_go_by_quality(corpus):
    specs, root = corpus
    raw = write(root / "raw.jsonl", [page("click", n) for n in range(300, 400)])
    specs = {name: specs[name] for name in ("input", "curated")}
    config = CleaningConfig(**specs, raw=raw, copies=False)
    figures = clean(config, root / "out")
    quality = figures["quality"]
    assert quality["right_on_curated"] > 0.8 and quality["right_on_raw"] > 0.8
    assert quality["learned_from"] == [90, 90]
    texts = read(root / "out")
    bad = sum("click" in text for text in texts)
    assert bad < 0.1 * 200 and len(texts) - bad > 0.8 * 71
    assert quality["documents"] == 271 - len(texts)
    again = clean(config, root / "again")
    assert again == figures


def test_the_same_text_makes_the_same_bytes(corpus):
    specs, root = corpus
    for name in ("a", "b"):
        clean(CleaningConfig(input=specs["input"]), root / name)
    first, second = ((root / name / "text-00000.jsonl.gz").read_bytes() for name in ("a", "b"))
    assert first[10:] == second[10:]


def test_what_more_than_ten_documents_hold_is_left_alone(tmp_path):
    texts = [f"{page('a', n)} {QUESTION} {page('b', n)}" for n in range(11)]
    specs = {"held_out": write(tmp_path / "t.jsonl", [QUESTION])}
    for size, touched in ((10, 10), (11, 0)):
        config = CleaningConfig(input=write(tmp_path / f"{size}.jsonl", texts[:size]), **specs)
        overlaps = clean(config, tmp_path / f"out{size}")["overlaps"]
        assert overlaps["documents_touched"] == touched
        assert overlaps["grams_too_common"] == (0 if touched else len(QUESTION.split()) - 12)


def test_long_text_is_kept_whole_in_files_of_their_size(corpus, monkeypatch):
    specs, root = corpus
    monkeypatch.setattr(shards, "SHARD", 20_000)
    monkeypatch.setattr(shards, "LARGE", 1500)
    clean(CleaningConfig(input=specs["input"], copies=False), root / "out")
    names = sorted(path.name for path in (root / "out").glob("text-*"))
    assert len(names) > 5 and sum(name.endswith(".txt.gz") for name in names) == 1
    assert sorted(read(root / "out")) == sorted(d.text for d in documents(specs["input"]))


def test_a_failure_leaves_nothing_and_a_folder_that_exists_is_kept(corpus):
    specs, root = corpus
    with pytest.raises(DataError, match="no text in"):
        clean(CleaningConfig(input=specs["input"], held_out=str(root / "absent")), root / "out")
    (root / "empty.jsonl").write_text(json.dumps({"text": QUESTION}) + "\n")
    config = CleaningConfig(input=str(root / "empty.jsonl"), held_out=specs["held_out"])
    with pytest.raises(DataError, match=r"nothing of .*empty\.jsonl stays"):
        clean(config, root / "out")
    assert not list(root.glob("out*"))
    (root / "out").mkdir()
    with pytest.raises(DataError, match="out exists"):
        clean(CleaningConfig(input=specs["input"]), root / "out")


KILLED = """
import os, signal, sys
from pathlib import Path
from lm.data import shards
from lm.data.cleaning import CleaningConfig, clean
shards.SHARD, shards.LARGE = 6000, 1500
left = int(sys.argv[2])
write = shards.Shards.write
def counted(self, text):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, text)
shards.Shards.write = counted
clean(CleaningConfig(**eval(sys.argv[3])), Path(sys.argv[1]))
"""


def killed(out, after, specs):
    """Cleans in a process of its own that is killed before it writes document `after`."""
    words = [sys.executable, "-c", KILLED, str(out), str(after), repr(specs)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("part", [pytest.param("all", marks=pytest.mark.slow), "one pass"])
def test_what_is_killed_goes_on_after_its_last_file_and_ends_with_the_same_bytes(corpus, part):
    specs, root = corpus
    specs |= {"raw": write(root / "raw.jsonl", [page("click", n) for n in range(300, 400)])}
    if part == "one pass":
        specs = {"input": specs["input"]}
    assert killed(root / "whole", 0, specs).returncode == 0
    expected = bytes_of(root / "whole")
    assert len(expected) > 4
    kills, resumed = 0, 0
    for after in (1, 25, 45, 70, 200):
        done = killed(root / "out", after, specs)
        kills += done.returncode == -signal.SIGKILL
        resumed += "going on after" in done.stdout
        if done.returncode == 0:
            break
        assert not (root / "out").exists() and (root / "out.part").is_dir()
    while not (root / "out").exists():
        resumed += "going on after" in killed(root / "out", 0, specs).stdout
    assert kills >= 3 and resumed >= 2
    assert bytes_of(root / "out") == expected
    assert not (root / "out.part").exists()


def test_what_was_begun_stays_where_a_text_cannot_be_read_for_now(corpus, monkeypatch):
    specs, root = corpus
    config = CleaningConfig(input=specs["input"])
    clean(config, root / "whole")
    assert killed(root / "out", 150, {"input": specs["input"]}).returncode == -signal.SIGKILL

    def failing(file):
        raise ConnectionResetError("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(sources, "lines", failing)
        with pytest.raises(DataError, match="cannot read .*reset") as raised:
            clean(config, root / "out")
    assert isinstance(raised.value, AccessError) and (root / "out.part" / "bookmarks").is_dir()
    said = []
    clean(config, root / "out", said.append)
    assert "going on after" in said[0]
    assert sorted(read(root / "out")) == sorted(read(root / "whole"))


def test_a_folder_among_the_texts_is_refused(corpus):
    specs, root = corpus
    for name in ("input", "curated", "against", "held_out"):
        with pytest.raises(DataError, match=f"out is in {root}, of which every text is read"):
            clean(CleaningConfig(**specs | {name: str(root)}), root / "out")
    assert not list(root.glob("out*"))


def test_what_was_begun_with_other_text_or_by_another_process_is_not_gone_on_with(corpus):
    specs, root = corpus
    assert killed(root / "out", 5, specs).returncode == -signal.SIGKILL
    with pytest.raises(DataError, match=r"out\.part was begun with other settings or texts"):
        clean(CleaningConfig(**specs | {"seed": 1}), root / "out")
    write(root / "web.jsonl", ["another text"])
    with pytest.raises(DataError, match=r"out\.part was begun with other settings or texts"):
        clean(CleaningConfig(**specs), root / "out")
    with alone(root / "out.part"), pytest.raises(DataError, match="another process works in"):
        clean(CleaningConfig(**specs), root / "out")


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ConfigError, match="raw=b without curated"):
        CleaningConfig(input="a", raw="b")
    with pytest.raises(ConfigError, match="against=b with copies=False"):
        CleaningConfig(input="a", against="b", copies=False)


def test_every_text_has_the_same_chance_of_a_sample():
    counts = [0] * 20
    for seed in range(2000):
        for text in sampled(map(str, range(20)), 5, seed):
            counts[int(text)] += 1
    spread = (2000 * 0.25 * 0.75) ** 0.5
    assert all(abs(count - 500) < 4 * spread for count in counts)
    assert sampled("abc", 5, 0) == ["a", "b", "c"]
