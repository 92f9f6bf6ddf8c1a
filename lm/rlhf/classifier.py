"""A classifier as a reward: the log-odds of its second class, of an answer alone.

So Ziegler et al. (2019, section 3.1) stood a sentiment classifier in for people; a run of
`gpt1:finetune` or `bert:finetune` on SST-2 is one.
"""

from collections.abc import Sequence

import jax
import numpy as np

from lm.core.errors import ConfigError
from lm.data import bert_features, gpt1_features
from lm.data.features import Encoded
from lm.data.gpt1_features import Gpt1Features, Specials
from lm.data.records import Classification
from lm.evals.tasks import of_batches
from lm.models.bert import BertConfig
from lm.rlhf.function import Scorer
from lm.text.tokenizer import Tokenizer
from lm.train.finetune import SPECIALS, Finetune
from lm.train.saved import Saved

ROWS = 32  # answers that are read at once


def classifier_scorer(saved: Saved, mesh: jax.sharding.Mesh) -> Scorer:
    """A scorer of texts from a fine-tuned run; it brings its own tokenizer.

    Raises:
      ConfigError: the run tells apart more classes than two, or no classes at all.
    """
    config, tokenizer = saved.config, saved.tokenizer
    assert isinstance(config, Finetune) and tokenizer is not None
    if config.data.form().kind != "classification" or config.classes != 2:
        raise ConfigError(
            f"reward.run is a classifier of {config.classes} classes on {config.data.name}: a "
            "reward needs one of two"
        )
    scores = jax.jit(config.objective().scores)

    def log_odds(
        prompts: Sequence[str], answers: Sequence[str], ended: Sequence[bool] | None = None
    ) -> np.ndarray:
        del prompts, ended
        rows = encoded(config, tokenizer, answers).rows
        said = np.concatenate(of_batches(scores, saved.params, rows, mesh, ROWS))
        return (said[:, 1] - said[:, 0])[: len(answers)].astype(np.float32)

    return log_odds


def encoded(config: Finetune, tokenizer: Tokenizer, answers: Sequence[str]) -> Encoded:
    """Texts as the run read its task's, in rows of one width."""
    # a text of nothing has no token to read: a blank has
    items = [Classification(id=str(n), text=text or " ") for n, text in enumerate(answers)]
    if isinstance(config.backbone, BertConfig):
        return bert_features.encode(items, tokenizer, config.bert_features())
    specials = Specials.after(config.backbone.vocab - SPECIALS)
    return gpt1_features.encode(
        items, tokenizer, Gpt1Features(length=config.row, both_orders=False), specials
    )
