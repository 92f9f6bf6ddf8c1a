"""A task at several rates and numbers of epochs, of which dev picks one: BERT's fine-tuning (Devlin
et al. 2019, appendix A.3). Every member, `<workdir>/<rate>-<epochs>`, is an ordinary run; what is
told of the one that is picked is a little too good, as it was picked by the very items.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import jax

from lm.core.config import require
from lm.report.markdown import table
from lm.studies.several import SUMMARY, alone, begin, check_distinct, fixed, run_member
from lm.train.finetune import Finetune
from lm.train.process import Process

PAPERS = (5e-5, 4e-5, 3e-5, 2e-5)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """A fine-tuning, and what is tried."""

    tuning: Finetune  # whose `init` is the run that all of them start from
    rates: tuple[float, ...] = PAPERS
    epochs: tuple[float, ...] = (3.0,)  # the paper tries 2, 3 and 4

    def __post_init__(self) -> None:
        check_distinct(rates=self.rates, epochs=self.epochs)
        given = self.tuning
        for name, value, known, ours in (
            ("optim.peak_lr", given.optim.peak_lr, (*PAPERS, *self.rates), "rates"),
            ("epochs", given.epochs, (Finetune.epochs, *self.epochs), "epochs"),
        ):
            require(value in known, f"tuning.{name}={value!r} would do nothing: set {ours}")
        require(given.steps is None, f"tuning.steps={given.steps} would undo epochs: set epochs")

    def members(self) -> dict[str, Finetune]:
        """Every fine-tuning, by the name of its folder."""
        return {
            f"{rate:g}-{epochs:g}": replace(
                self.tuning, optim=replace(self.tuning.optim, peak_lr=rate), epochs=epochs
            )
            for rate in self.rates
            for epochs in self.epochs
        }

    def run(self, workdir: Path, process: Process | None = None) -> None:
        """Runs the members that are not done, and tells which is the best on dev."""
        process = process or Process()
        with alone(workdir, process):
            begin(workdir, self, fixed(workdir, {f"*/{SUMMARY}": ["tuning."]}, pooled=True))
            for name, tuning in self.members().items():
                run_member(tuning, workdir / name, process, name)
            if jax.process_index() == 0:
                self.tell(workdir)

    def tell(self, workdir: Path) -> None:
        """Writes `table.md`, and `summary.json` with the best member's folder."""
        found = {
            name: json.loads((workdir / name / SUMMARY).read_text()) for name in self.members()
        }
        metric = next(iter(found.values()))["metric"]  # of all, more is better
        values = {name: one[metric] for name, one in found.items()}
        best = max(values, key=lambda name: values[name])
        rows = [
            (name, f"{value:.4f}", "best" if name == best else "") for name, value in values.items()
        ]
        told = "\n".join(table(("rate-epochs", metric, ""), rows)) + "\n"
        (workdir / "table.md").write_text(told)
        summary = {"metric": metric, "values": values, "best": best}
        (workdir / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")
        print(f"{told}{workdir / best}")
