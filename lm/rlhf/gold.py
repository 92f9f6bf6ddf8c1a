"""A programmed judge, for studies in which the truth behind the labels has to be known."""

from collections.abc import Sequence

WORDS = 8  # of an answer that is neither curt nor wordy

# What can be seen, heard, felt or smelt: words that nearly always name a quality or a thing.
SENSES = frozenset(
    "red blue green yellow black white grey gray brown golden silver purple pink crimson scarlet "
    "dark bright pale dim shining gleaming glittering glowing faded light shadow shadows sunlight "
    "moonlight fire flame flames smoke dust mist fog rain snow ice wind storm cloud clouds sky sun "
    "moon stars water river sea lake stream shore sand stone stones rock rocks hill hills mountain "
    "tree trees leaf leaves grass flower flowers rose roses forest wood woods garden field fields "
    "road path street wall walls door window windows roof floor room table chair bed lamp candle "
    "glass iron gold wooden velvet silk lace leather cloth dress coat hat gloves boots shoes face "
    "eyes eye hair lips mouth cheek cheeks nose ear ears neck shoulder shoulders arm arms hand "
    "hands finger fingers foot feet knee knees skin head tall short broad narrow thin thick fat "
    "slender round square long low high deep huge tiny small large little heavy soft hard smooth "
    "rough sharp warm cold hot wet dry damp loud silent quiet noise voice whisper scent smell "
    "sweet bitter horse horses dog bird birds ship boat house castle church tower bridge".split()
)

# The hundred that the others of a sentence hang on (Ogden 1930, "Basic English": "operations").
PLAIN = frozenset(
    "come get give go keep let make put seem take be do have say see send may will about across "
    "after against among at before between by down from in off on over through to under up with as "
    "for of till than a the all any every no other some such that this i he you who and because "
    "but or if though while how when where why again ever far forward here near now out still then "
    "there together well almost enough even little much not only quite so very tomorrow yesterday "
    "north south east west please yes".split()
)


def concise(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
    """Likes about eight different words that end with a full stop: from -1 to 1.5 and a little."""
    del prompts
    found = []
    for answer in answers:
        words = answer.lower().split()
        length = -min(2.0, abs(len(words) - WORDS) / WORDS)
        variety = len(set(words)) / len(words) if words else 0.0
        found.append(length + variety + 0.5 * answer.rstrip().endswith("."))
    return found


def descriptive(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
    """How much of an answer is what the senses meet, for the people of Ziegler et al. (2019,
    section 3.2.1) who chose what describes best: different words of `SENSES`, ten times their share
    of the words, of which there are at least `WORDS`. A word that comes again counts for nothing.
    """
    del prompts
    return [share(answer, SENSES) for answer in answers]


def plain(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
    """The same for a labeler who likes plain English: different words of `PLAIN`. What makes an
    answer better is seen in every word, and a good word said again and again is the trap."""
    del prompts
    return [share(answer, PLAIN) for answer in answers]


def share(answer: str, liked: frozenset[str]) -> float:
    """Ten times the share of liked words in an answer, each counted once."""
    words = ["".join(filter(str.isalpha, word)) for word in answer.lower().split()]
    return 10 * len(liked & set(words)) / max(WORDS, len(words))


def tidy(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
    """Likes what `concise` likes, mostly by other signs: a capital first, a mark last (its full
    stop is `concise`'s own), one sentence, no word twice in a row. From 0 to 1; nothing is ever
    learned from it."""
    del prompts
    found = []
    for answer in answers:
        said, words = answer.strip(), answer.lower().split()
        inner = said[:-1]
        signs = (
            said[:1].isupper() or said[:1].isdigit(),
            said.endswith((".", "!", "?")),
            bool(said) and not any(mark in inner for mark in ".!?\n"),
            len(words) > 1 and all(a != b for a, b in zip(words, words[1:], strict=False)),
        )
        found.append(sum(signs) / len(signs))
    return found
