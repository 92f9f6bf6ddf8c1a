"""Writes the page of a run, or one page of several runs laid over each other.

python -m launch.report --runs=runs/demo
python -m launch.report --runs=runs/small,runs/longer --out=report.html
python -m launch.report --runs='runs/sst2/*/*' --out=seeds.html
"""

import glob
import os
import sys

from absl import flags

from launch.command import run
from lm.core.errors import ConfigError
from lm.core.paths import run_path

RUNS = flags.DEFINE_list("runs", [], "Run directories, separated by commas.")
OUT = flags.DEFINE_string(
    "out", None, "Page to write where several runs are compared; one run's page is in its folder."
)

OF_A_RUN = ("config.gin", "metrics.jsonl")


def main() -> None:
    runs = [run_path(found) for name in RUNS.value if name for found in matching(name)]
    if not runs:
        raise ConfigError("--runs is empty: name one run directory, or several to compare them")
    if len(runs) == 1 and OUT.value is not None:
        raise ConfigError(
            f"--out={OUT.value} is for several runs, and --runs names {runs[0]} alone; one writes "
            "its own report.html"
        )
    if len(runs) > 1 and not OUT.value:
        raise ConfigError(
            "--out is missing: several runs are compared in one page, --out=FILE.html"
        )

    from lm.report.page import compare, write_report

    page = write_report(runs[0]) if len(runs) == 1 else compare(runs, run_path(OUT.value or ""))
    print(page)


def matching(name: str) -> list[str]:
    """The runs that a glob finds; any other name as it is.

    Raises:
      ConfigError: it finds none.
    """
    if not glob.has_magic(name):
        return [name]
    folders = sorted(filter(os.path.isdir, glob.glob(os.path.expanduser(name))))
    runs = [one for one in folders if all(os.path.isfile(f"{one}/{file}") for file in OF_A_RUN)]
    for other in sorted(set(folders) - set(runs)):
        print(f"{other} is left out: it lacks {' or '.join(OF_A_RUN)}", file=sys.stderr)
    if not runs:
        raise ConfigError(f"--runs={name}: no run is there")
    return runs


if __name__ == "__main__":
    run(main)
