"""Summaries without training: an article, then "TL;DR:" (Radford et al. 2019, section 3.6).

The model writes 100 tokens with top-k 2, and the first three sentences are the summary. Three
controls say what the hint is worth: the same without the hint (15.03 against 21.40 for the largest
model), three sentences of the article at random (20.98), and its first three (31.55).

An article too long for the context keeps its beginning, which the report does not speak of.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lm.data.prose import sentences
from lm.evals.scorer import Scorer
from lm.evals.zeroshot.figure import Figure, mean
from lm.metrics.rouge import rouge

HINT = "\nTL;DR:"
TOKENS = 100
TOP_K = 2
SHOWN = 3  # sentences of a summary


@dataclass(frozen=True)
class Article:
    text: str
    summary: str


def summary_figures(scorer: Scorer, articles: Sequence[Article], seed: int) -> list[Figure]:
    """ROUGE-1, 2, L and their mean of the summaries, and the mean of each control.

    Raises:
      DataError: a context with no room for an article before the hint.
    """
    hinted, cut = written(scorer, articles, HINT, seed)
    found = rouges(articles, hinted)
    figures = [replace(mean(name, values), cut=cut) for name, values in found.items()]
    controls = {
        "no_hint": written(scorer, articles, "", seed),
        "random_3": (random_sentences(articles, seed), 0),
        "lede_3": ([list(sentences(a.text))[:SHOWN] for a in articles], 0),
    }
    for name, (summaries, cut) in controls.items():
        values = rouges(articles, summaries)["rouge"]
        figures.append(replace(mean(f"rouge_{name}", values), cut=cut))
    return figures


def rouges(articles: Sequence[Article], summaries: Sequence[list[str]]) -> dict[str, list[float]]:
    """Each measure of each article's summary."""
    each = [
        rouge(summary, list(sentences(article.summary)))
        for article, summary in zip(articles, summaries, strict=True)
    ]
    return {name: [one[name] for one in each] for name in (each[0] if each else ())}


def written(
    scorer: Scorer, articles: Sequence[Article], hint: str, seed: int
) -> tuple[list[list[str]], int]:
    """The first three sentences of what the model writes after each article and the hint, and how
    many articles were cut."""
    room = scorer.length - TOKENS - len(scorer.tokenizer.encode(hint))
    prompts = [shortened(scorer, article.text, room, hint) for article in articles]
    cut = sum(
        prompt != article.text + hint for prompt, article in zip(prompts, articles, strict=True)
    )
    texts = scorer.generate(prompts, TOKENS, stop=(), top_k=TOP_K, temperature=1.0, seed=seed)
    return [list(sentences(" ".join(text.split())))[:SHOWN] for text in texts], cut


def shortened(scorer: Scorer, text: str, room: int, hint: str) -> str:
    """The article and the hint, the article cut behind a word so that both fit."""
    ids = scorer.tokenizer.encode(text)
    if len(ids) > room:
        text = scorer.tokenizer.decode(ids[: max(0, room)]).rpartition(" ")[0]
    # what was cut may be read as other, and more, tokens
    while len(scorer.tokenizer.encode(text + hint)) > scorer.length - TOKENS and text:
        text = text.rpartition(" ")[0]
    return text + hint


def random_sentences(articles: Sequence[Article], seed: int) -> list[list[str]]:
    """Three sentences of each article, in their order."""
    found = []
    for number, article in enumerate(articles):
        every = list(sentences(article.text))
        random = np.random.default_rng((seed, number))
        some = random.permutation(len(every))[:SHOWN]
        found.append([every[n] for n in sorted(some)])
    return found
