"""What is measured of a decoder that learns to see, on the way and at the end."""

from typing import Any

import jax
import numpy as np

from lm.core.mesh import place
from lm.decode.images import ImageGenerator
from lm.evals.gallery import NAME, gallery
from lm.evals.perplexity import HeldOut
from lm.evals.visual import answer, longest
from lm.text.tokenizer import Tokenizer
from lm.train.pretrain import NextToken
from lm.train.session import Session
from lm.train.visual_material import Material

TEXT_BATCHES = 20  # of an estimate of the loss on text
SHOWN = 8  # answers that are written into the samples


class Evaluation:
    """The loss on held-out answers, how many are right when written, and the loss on text."""

    def __init__(
        self, config: Any, material: Material, tokenizer: Tokenizer,
        mesh: jax.sharding.Mesh, session: Session,
    ):  # fmt: skip
        self.config, self.material, self.tokenizer = config, material, tokenizer
        self.mesh, self.session = mesh, session
        self.total = session.asking(jax.jit(config.objective().total))
        self.text_total = session.asking(jax.jit(NextToken(config.model.text).total))

    def __call__(self, step: int, params: Any) -> dict[str, float]:
        config, material = self.config, self.material
        figures = {"valid_loss": self.loss(params)}
        if material.held_out_text is not None:
            rows = config.batch // config.microbatches
            held_out = HeldOut(material.held_out_text, material.rows.width, rows, self.mesh)
            some = held_out.estimate(TEXT_BATCHES, config.seed)
            figures["text_loss"] = held_out.loss(self.text_total, params["text"], some)
        tokenizer = self.tokenizer
        generator = ImageGenerator(config.model, params, tokenizer.end, tokenizer.vocab_size)
        most = min(longest(material.valid, self.tokenizer), config.model.text.length // 2)
        budget = config.answer_tokens or most
        found = answer(generator, self.tokenizer, material.valid, budget)
        figures["valid_accuracy"] = found.accuracy
        if found.unread:
            figures["valid_unread"] = float(len(found.unread))
            if step == self.session.first:
                self.session.journal.say(
                    f"warning: {len(found.unread)} of {len(material.valid)} held-out examples "
                    f"are left out of every figure: {found.unread[0]}"
                )
        if step == config.steps:
            if shown := gallery(config.model, params, tokenizer, found):
                self.session.journal.write(NAME, shown)
        pairs = list(zip(found.examples, found.answers, strict=True))[:SHOWN]
        told = [
            f"{' / '.join(one.question.splitlines())} {said!r} ({one.answers[0]})\n"
            for one, said in pairs
        ]
        self.session.journal.sample(step, "".join(told))
        self.session.tell(step, figures)
        return figures

    def loss(self, params: Any) -> float:
        """Nats a token of the held-out answers."""
        rows, held_out = self.config.batch, self.material.held_out
        mine, found = self.material.mine, []
        for first in range(0, held_out.count, rows):
            index = np.minimum(np.arange(first, first + rows), held_out.count - 1)
            batch, _ = held_out.take(index[mine], first + mine.start, held_out.bucket(index))
            batch.mask[np.arange(first, first + rows)[mine] >= held_out.count] = False
            found.append(self.total(params, place(batch, self.mesh, mine, rows)))
        sums = np.array(jax.device_get(found), np.float64)
        return float(sums[:, 0].sum() / max(1.0, sums[:, 1].sum()))
