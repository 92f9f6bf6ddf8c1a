"""ROUGE of summaries: how many words, pairs of words and common sequences of a reference they have.

Definitions of Lin 2004, sections 2 and 3, as F1 with equal weights; words are runs of ASCII
letters and digits in lower case, without stemming or stop words. The numbers are those of the
package rouge-score (`rouge1`, `rouge2`, `rougeLsum`), which the tests compare them with.
"""

import re
from collections import Counter
from collections.abc import Sequence

WORD = re.compile(r"[a-z0-9]+")


def words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def rouge(prediction: Sequence[str], reference: Sequence[str]) -> dict[str, float]:
    """`rouge1`, `rouge2`, `rougeL` and their mean `rouge` of one summary, as fractions.

    Args:
      prediction, reference: sentences. ROUGE-L is of the whole summary (Lin 2004, section 3.2);
        the others do not look at where sentences end.
    """
    given, wanted = ([words(sentence) for sentence in each] for each in (prediction, reference))
    found = {
        "rouge1": ngram_f1(given, wanted, 1),
        "rouge2": ngram_f1(given, wanted, 2),
        "rougeL": sequence_f1(given, wanted),
    }
    return found | {"rouge": sum(found.values()) / 3}


def ngram_f1(given: Sequence[list[str]], wanted: Sequence[list[str]], size: int) -> float:
    """F1 of the runs of `size` words, each counted as often as it stands in both."""
    counts = []
    for sentences in (given, wanted):
        whole = [word for sentence in sentences for word in sentence]
        counts.append(Counter(zip(*(whole[n:] for n in range(size)), strict=False)))
    return f1((counts[0] & counts[1]).total(), counts[0].total(), counts[1].total())


def sequence_f1(given: Sequence[list[str]], wanted: Sequence[list[str]]) -> float:
    """F1 of the words of each wanted sentence that stand in a longest common sequence with one of
    the given sentences; a word counts no oftener than it stands in either summary."""
    left_given = Counter(word for sentence in given for word in sentence)
    left_wanted = Counter(word for sentence in wanted for word in sentence)
    sizes = left_given.total(), left_wanted.total()
    shared = 0
    for sentence in wanted:
        places = sorted({place for other in given for place in common(sentence, other)})
        for word in (sentence[place] for place in places):
            if left_given[word] > 0 and left_wanted[word] > 0:
                left_given[word] -= 1
                left_wanted[word] -= 1
                shared += 1
    return f1(shared, *sizes)


def common(sentence: Sequence[str], other: Sequence[str]) -> list[int]:
    """Places in `sentence` of one longest sequence of words that both have."""
    rows = [[0] * (len(other) + 1)]
    for word in sentence:
        row = [0]
        for column, candidate in enumerate(other):
            row.append(
                rows[-1][column] + 1 if word == candidate else max(row[-1], rows[-1][column + 1])
            )
        rows.append(row)
    places, i, j = [], len(sentence), len(other)
    while i and j:
        if sentence[i - 1] == other[j - 1]:
            places.append(i - 1)
            i, j = i - 1, j - 1
        elif rows[i][j - 1] > rows[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return places[::-1]


def f1(shared: int, given: int, wanted: int) -> float:
    return 2 * shared / (given + wanted) if shared else 0.0
