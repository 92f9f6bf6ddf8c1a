"""Files and code that workers would not have are told before anything starts."""

import subprocess

import pytest

from launch.commit import check_code, check_committed, pushed_commit
from lm.core.errors import ConfigError


def test_a_file_that_workers_have_not_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for name in ("kept.gin", "changed.gin"):
        (folder / name).write_text("steps = 1\n")
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "both"]):
        subprocess.run(["git", *words], check=True)
    (folder / "changed.gin").write_text("steps = 2\n")
    (folder / "added.gin").write_text("steps = 1\n")
    subprocess.run(["git", "add", "added.gin"], check=True)
    (folder / "new.gin").write_text("steps = 1\n")
    for name in ("changed.gin", "added.gin", "new.gin", str(folder / "kept.gin")):
        with pytest.raises(ConfigError, match=f"--gin_file={name}: workers have what is committed"):
            check_committed("gin_file", name)
    for name in ("kept.gin", "gs://bucket/run/config.gin", str(tmp_path / "shared.gin")):
        check_committed("gin_file", name)


def test_code_that_is_not_committed_or_not_pushed_is_refused_where_workers_get_the_commit(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="git status: fatal: not a git repository"):
        check_code()
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "old.py").write_text("steps = 1\n")
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *words], check=True)
    (tmp_path / "notes.txt").write_text("no code")
    check_code()
    with pytest.raises(ConfigError, match="^commit [0-9a-f]{12} is on no remote branch.*git push"):
        pushed_commit()
    subprocess.run(["git", "update-ref", "refs/remotes/origin/main", "HEAD"], check=True)
    assert len(pushed_commit()) == 40
    (tmp_path / "lm" / "old.py").write_text("steps = 2\n")
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "new.py").write_text("")
    with pytest.raises(ConfigError, match="^lm/old.py, experiments/: workers have what is commit"):
        check_code()
