"""What a fine-tuning run answers to held-out items, on the way and at the end."""

from typing import TYPE_CHECKING, Any

import jax

from lm.core import tree
from lm.data.features import Encoded
from lm.data.tasks import Task
from lm.evals.published import beside
from lm.evals.tasks import Answers, answer_task
from lm.models.bert import BertConfig
from lm.text.tokenizer import Tokenizer
from lm.train.session import Session

if TYPE_CHECKING:
    from lm.train.finetune import Finetune


class Evaluation:
    """The task's metrics, its answers, and the published figures beside them."""

    def __init__(
        self, config: "Finetune", task: Task, valid: Encoded, tokenizer: Tokenizer,
        mesh: jax.sharding.Mesh, session: Session,
    ):  # fmt: skip
        self.config, self.task, self.valid = config, task, valid
        self.tokenizer, self.mesh, self.session = tokenizer, mesh, session
        self.scores = session.asking(jax.jit(config.objective().scores))

    def __call__(self, step: int, params: Any) -> Answers:
        """Answers the held-out items; tells the metrics and keeps the answers."""
        rows = self.config.batch // self.config.microbatches
        answers = answer_task(
            self.scores, params, self.valid, self.task, "valid", self.tokenizer, self.mesh, rows
        )
        told = ", ".join(f"{name} {value:.4f}" for name, value in answers.figures.items())
        figures = {f"valid_{name}": value for name, value in answers.figures.items()}
        self.session.tell(step, figures, f"{self.task.name}: {told}")
        self.session.journal.sample(step, answers.shown(self.task, "valid"))
        return answers

    def finish(self, params: Any) -> None:
        """The last figures, and the summary of the run."""
        answers = self(self.session.total, params)
        if self.session.main:
            path = self.session.workdir / "evaluations" / f"{self.task.name}-valid.jsonl"
            answers.write(path, self.task, "valid")
        summary: dict[str, Any] = {
            "parameters": tree.count(params),
            "task": self.task.name,
            "metric": self.task.metrics[0],
            "items": {"train": len(self.task.train), "valid": len(self.task.valid)},
            "cut": self.valid.counts.truncated,
            **answers.figures,
        }
        family = "bert" if isinstance(self.config.model, BertConfig) else "gpt1"
        if published := beside(family, self.task.name):
            summary["reference"] = published
        self.session.finish(summary)
