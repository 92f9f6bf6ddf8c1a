"""What workers get of the code: the commit that is checked out here, and nothing else."""

import subprocess
from pathlib import Path

from lm.core.errors import ConfigError
from lm.core.paths import at_home

CODE = ("lm", "experiments", "launch", "requirements", "pyproject.toml", "setup.py")


def check_committed(flag: str, name: str) -> None:
    """A file that a flag names is one that workers have: of HEAD, as it is here, or of a store or
    another place outside of this repository, which all hosts must see.

    Raises:
      ConfigError: it is not.
    """
    if "://" in name or not at_home(name).resolve().is_relative_to(Path.cwd().resolve()):
        return
    same = ["git", "diff", "--quiet", "HEAD", "--", name]
    known = ["git", "ls-files", "--error-unmatch", "--", name]
    try:
        whole = all(subprocess.run(w, capture_output=True).returncode == 0 for w in (known, same))
    except FileNotFoundError:
        raise ConfigError("git is not installed here") from None
    if not whole or Path(name).is_absolute():
        raise ConfigError(
            f"--{flag}={name}: workers have what is committed here, by its relative path, and "
            "this is not: commit it, or put it where all hosts see it"
        )


def check_code() -> None:
    """What workers run is as it stands here: they get the commit.

    Raises:
      ConfigError: something of it is changed or new, or this is no git repository.
    """
    changed = [line[3:] for line in git("status", "--porcelain", "--", *CODE).splitlines()]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise ConfigError(
            f"{', '.join(changed[:3])}{more}: workers have what is committed here, and this is "
            "not: commit it, or git stash"
        )


def pushed_commit() -> str:
    """The commit that is checked out here. Raises ConfigError where it is on no remote branch."""
    commit = git("rev-parse", "HEAD").strip()
    if not git("branch", "--remotes", "--contains", commit):
        raise ConfigError(
            f"commit {commit[:12]} is on no remote branch, where workers fetch it: git push"
        )
    return commit


def git(*words: str) -> str:
    """What git prints. Raises ConfigError where it fails."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True)
    except FileNotFoundError:
        raise ConfigError("git is not installed here") from None
    if done.returncode:
        raise ConfigError(f"git {words[0]}: {done.stderr.strip() or 'failed'}".splitlines()[0])
    return done.stdout
