"""LAMBADA in two protocols, which must not be mixed up (Paperno et al. 2016).

"paper" (Radford et al. 2019, section 3.3): the last word, however many tokens it has, is predicted
as the likeliest word of all that is no stop word, since a stop word seldom ends a sentence. A word
is weighed with the chance that it ends there. `accuracy_no_filter` takes the likeliest word as it
is (for the largest model 52.66 against 63.24).

"harness" (lm-evaluation-harness, lambada_openai): what stands after the last blank, with any mark
or line end that clings to it, counts as right when each of its tokens is the likeliest.

So the released small model has 45.99 in the one and 32.56 in the other, though nothing but the
protocol differs; the report gives neither its list of stop words (here: NLTK's English one) nor
its search.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np

from lm.decode.words import Parts, next_words
from lm.evals.batches import power_of_two, together
from lm.evals.requests import Score
from lm.evals.scorer import Request, Scorer
from lm.evals.zeroshot.figure import Figure, mean, perplexity
from lm.text.tokenizer import Tokenizer

LAST_WORD = re.compile(r"(?: (?=\w))?\w+(?:['’-]\w+)*\W*\Z")
PART = re.compile(r"(?:\w|['’-](?!-))+")  # of a word; two hyphens are a dash
LONGEST = 8  # tokens of a predicted word
WIDTH = 32  # words that are looked at

STOP_WORDS = frozenset(
    """
    i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she
    her hers herself it its itself they them their theirs themselves what which who whom this that
    these those am is are was were be been being have has had having do does did doing a an the and
    but if or because as until while of at by for with about against between into through during
    before after above below to from up down in out on off over under again further then once here
    there when where why how all any both each few more most other some such no nor not only own
    same so than too very s t can will just don should now
    """.split()
)


def harness_figures(scorer: Scorer, texts: Sequence[str]) -> list[Figure]:
    """As lambada_openai of lm-evaluation-harness has it."""
    scores = scorer.scores([harness_request(text) for text in texts])
    accuracy = mean("accuracy", [float(score.greedy) for score in scores])
    return [replace(accuracy, cut=cuts(scores)), perplexity_of(scores)]


def perplexity_of(scores: Sequence[Score]) -> Figure:
    """Per word."""
    nats = [-score.log_likelihood for score in scores]
    return replace(perplexity("perplexity", nats, [1] * len(nats)), cut=cuts(scores))


def cuts(scores: Sequence[Score]) -> int:
    """Of how many contexts the model could not read the first tokens."""
    return sum(score.truncated > 0 for score in scores)


def harness_request(text: str) -> Request:
    context, _, word = text.rpartition(" ")
    return Request(context, f" {word}")


def paper_figures(scorer: Scorer, texts: Sequence[str]) -> list[Figure]:
    """As GPT-2's report has it: accuracy with the filter and without, perplexity per word."""
    cut = [last_word(text) for text in texts]
    sizes = map(len, scorer.tokenizer.encode_batch([request.context for request in cut]))
    long = sum(size > scorer.length - LONGEST for size in sizes)
    predicted = predictions(scorer, cut)
    right = [request.continuation.strip() for request in cut]
    kept = [next((w for w in words if w.lower() not in STOP_WORDS), "") for words in predicted]
    first = [next(iter(words), "") for words in predicted]
    return [
        *(
            replace(
                mean(metric, [float(a == b) for a, b in zip(said, right, strict=True)]), cut=long
            )
            for metric, said in (("accuracy", kept), ("accuracy_no_filter", first))
        ),
        perplexity_of(scorer.scores(cut, exact=True)),  # line ends before a word are none of it
    ]


def last_word(text: str) -> Request:
    """The word alone is to be predicted: an opening quotation mark before it is context, and marks
    after it are dropped."""
    found = LAST_WORD.search(text)
    if found is None:
        return harness_request(text)
    word = re.sub(r"\W+\Z", "", found[0])
    return Request(text[: found.start()], word)


def predictions(scorer: Scorer, requests: Sequence[Request]) -> list[list[str]]:
    """The likeliest words for each request, the likeliest first."""
    found: list[list[str]] = [[] for _ in requests]
    room, end = scorer.length - LONGEST, scorer.tokenizer.end
    contexts = [
        ids[-room:] or [end]
        for ids in scorer.tokenizer.encode_batch([request.context for request in requests])
    ]
    for blank in (True, False):
        parts = parts_of(scorer.tokenizer, blank)
        chosen = [n for n, r in enumerate(requests) if r.continuation.startswith(" ") == blank]
        chosen.sort(key=lambda n: -len(contexts[n]))
        while chosen:
            longest = len(contexts[chosen[0]])
            rows = max(1, 2 * scorer.batches.tokens // ((longest + LONGEST) * WIDTH))
            some = together(scorer.config, chosen, contexts, rows)
            chosen = chosen[len(some) :]
            prompts = [contexts[n] for n in some]
            prompts += prompts[:1] * (min(rows, power_of_two(len(some))) - len(some))
            with jax.set_mesh(scorer.mesh):
                words = next_words(scorer.generator, prompts, parts, width=WIDTH, longest=LONGEST)
            for n, row in zip(some, words, strict=False):
                texts = (scorer.tokenizer.decode(ids).strip().rstrip("'’-") for ids, _ in row)
                found[n] = [text for text in dict.fromkeys(texts) if text]
    return found


def parts_of(tokenizer: Tokenizer, blank: bool) -> Parts:
    """Which tokens begin a word (after one blank, or with none), go on with it, or follow it."""
    kinds = np.zeros((3, tokenizer.vocab_size), bool)
    for i in range(tokenizer.vocab_size):
        piece = tokenizer.decode_bytes([i])
        text = piece.decode("utf-8", "ignore")
        # bytes that make no character are a part of one
        part = bool(piece) and (not text or PART.fullmatch(text) is not None)
        begun = text.removeprefix(" ") if blank else text
        first = (not begun and bool(piece)) or (
            PART.fullmatch(begun) is not None and begun[0].isalnum()
        )
        kinds[:, i] = first and text.startswith(" ") == blank, part, not part
    return Parts(*kinds)
