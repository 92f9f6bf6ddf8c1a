"""Where English words end, as spaCy's tokenizer has it, without spaCy.

GPT-1's text was split by spaCy 2.0; the rules here are those of spaCy 3.8 (MIT licence), which
splits standardised prose alike and can still be installed, so that tests can compare.

A chunk between blanks loses prefixes and suffixes, such as quotes, until a special case or nothing
is left to take off. What remains is one word where it is an address of the web, and is otherwise
cut at infixes, such as hyphens between letters. Last, a special case that was taken apart is whole
again. Special cases have their case: `Mr.` is one, `mr.` is none.
"""

import re

from lm.text.characters import ALPHA, LOWER, SYMBOLS, UPPER

MARKS = "… …… , : ; ! ? ¿ ؟ ¡ ( ) [ ] { } < > _ # * & 。 ？ ！ ， 、 ； ： ～ · । ، ۔ ؛ ٪".split()
QUOTES = "' \" ” “ ` ‘ ´ ’ ‚ , „ » « 「 」 『 』 （ ） 〔 〕 【 】 《 》 〈 〉 〈 〉 ⟦ ⟧".split()
CURRENCY = (
    "$ £ € ¥ ฿ US$ C$ A$ ₽ ﷼ ₴ ₠ ₡ ₢ ₣ ₤ ₥ ₦ ₧ ₨ ₩ ₪ ₫ ₭ ₮ ₯ ₰ ₱ ₲ ₳ ₵ ₶ ₷ ₸ ₹ ₺ ₻ ₼ ₾ ₿"
).split()
UNITS = (
    "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s "
    "km/h kmh mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K % км км² км³ м м² м³ дм дм² дм³ см "
    "см² см³ мм мм² мм³ нм кг г мг м/с км/ч кПа Па мбар Кб КБ кб Мб МБ мб Гб ГБ гб Тб ТБ тбكم كم² "
    "كم³ م م² م³ سم سم² سم³ مم مم² مم³ كم غرام جرام جم كغ ملغ كوب اكواب"
).split()


def either(words: list[str]) -> str:
    return "|".join(map(re.escape, words))


DOTS = r"\.\.+|…"
QUOTE = "".join(map(re.escape, QUOTES))
CLOSERS = rf"0-9{LOWER}%²\-+|()?:{QUOTE}{re.escape(''.join(MARKS))}"  # before a full stop
PREFIX = re.compile(
    rf"[§%=—–]|\+(?![0-9])|{either(MARKS)}|{DOTS}|{either(QUOTES + CURRENCY)}|[{SYMBOLS}]"
)
SUFFIX = re.compile(
    rf"(?:{either(MARKS + QUOTES)}|{DOTS}|[{SYMBOLS}]|['’][sS]|[—–]|(?<=[0-9])\+|(?<=°[FfCcKk])\."
    rf"|(?<=[0-9])(?:{either(CURRENCY + UNITS)})|(?<=[{CLOSERS}])\.|(?<=[{UPPER}][{UPPER}])\.)$"
)
NEAR = 8  # characters that hold any suffix but dots, and what it looks back at
INFIX = re.compile(
    rf"{DOTS}|[{SYMBOLS}]|(?<=[0-9])[+\-*^](?=[0-9-])|(?<=[{LOWER}{QUOTE}])\.(?=[{UPPER}{QUOTE}])"
    rf"|(?<=[{ALPHA}]),(?=[{ALPHA}])|(?<=[{ALPHA}0-9])(?:-|–|—|--|---|——|~)(?=[{ALPHA}])"
    rf"|(?<=[{ALPHA}0-9])[:<>=/](?=[{ALPHA}])"
)
# An address after Diego Perini's pattern (MIT licence): scheme, user, host or number, port, path.
HOST = r"A-Za-z0-9\u00a1-\uffff"
ADDRESS = re.compile(
    r"(?:[\w+\-.]{2,}://)?(?:\S+@)?(?:"
    r"(?!(?:10|127)(?:\.\d{1,3}){3})(?!(?:169\.254|192\.168)(?:\.\d{1,3}){2})"
    r"(?!172\.(?:1[6-9]|2\d|3[0-1])(?:\.\d{1,3}){2})"
    r"(?:[1-9]\d?|1\d\d|2[01]\d|22[0-3])(?:\.(?:1?\d{1,2}|2[0-4]\d|25[0-5])){2}"
    r"\.(?:[1-9]\d?|1\d\d|2[0-4]\d|25[0-4])"
    rf"|(?:(?:[{HOST}][{HOST}_-]{{0,62}})?[{HOST}]\.)+[{LOWER}]{{2,63}}"
    r")(?::\d{2,5})?(?:[/?#]\S*)?$"
)


def split(chunk: str) -> list[str]:
    """The words of a text without blanks, in order; joined they are the text."""
    words = _without_affixes(chunk, SPECIAL)
    return words if len(words) == 1 or chunk in SPECIAL else _restored(words)


def _without_affixes(text: str, special: dict[str, list[str]]) -> list[str]:
    """The words of a text, of which text[low:high] is left; each step looks at its ends alone."""
    before: list[str] = []
    after: list[str] = []
    low, high = 0, len(text)

    def known(begin: int, end: int) -> bool:
        return end - begin <= LONGEST_CASE and text[begin:end] in special

    while low < high and not known(low, high):
        prefix = PREFIX.match(text, low, high)
        first = prefix.end() if prefix else low
        if first > low and known(first, high):
            before.append(text[low:first])
            low = first
            break
        last = _suffix(text, first, high)
        if last < high and known(low, last):
            after.append(text[last:high])
            high = last
            break
        if first > low:
            before.append(text[low:first])
        if last < high:
            after.append(text[last:high])
        if first == low and last == high:
            break
        low, high = first, last
    return [*before, *_inner(text[low:high], special), *reversed(after)]


def _suffix(text: str, low: int, high: int) -> int:
    """Where the longest suffix of text[low:high] begins; `high` where there is none."""
    dots = high
    while dots > low and text[dots - 1] == ".":
        dots -= 1
    if high - dots > 1:  # the one suffix that may be of any length
        return dots
    near = max(low, high - NEAR)
    suffix = SUFFIX.search(text[near:high])
    return near + suffix.start() if suffix else high


def _inner(chunk: str, special: dict[str, list[str]]) -> list[str]:
    if not chunk:
        return []
    if chunk in special:
        return special[chunk]
    if ADDRESS.match(chunk):
        return [chunk]
    words, start = [], 0
    for infix in INFIX.finditer(chunk):
        if infix.start() == 0:
            continue
        if infix.start() > start:
            words.append(chunk[start : infix.start()])
        words.append(infix[0])
        start = infix.end()
    return [*words, chunk[start:]] if start < len(chunk) else words


def _restored(words: list[str]) -> list[str]:
    """The words, special cases that the rules took apart put together again, longest first."""
    spans = [
        (size, start)
        for size in range(2, LONGEST + 1)
        for start in range(len(words) - size + 1)
        if tuple(words[start : start + size]) in APART
    ]
    if not spans:
        return words
    used: set[int] = set()
    whole: dict[int, tuple[int, list[str]]] = {}
    for size, start in sorted(spans, key=lambda span: (-span[0], span[1])):
        if start not in used and start + size - 1 not in used:
            whole[start] = (size, SPECIAL["".join(words[start : start + size])])
        used.update(range(start, start + size))
    result, place = [], 0
    while place < len(words):
        size, replaced = whole.get(place, (1, [words[place]]))
        result += replaced
        place += size
    return result


def curled(text: str) -> str:
    return text.replace("'", "’")


def _special_cases() -> dict[str, list[str]]:
    """Text without blanks -> its words."""
    cases: dict[str, list[str]] = {}

    def add(*words: str, title: bool = True) -> None:
        """The words in a row, with and without their apostrophes, and with a capital."""
        for first in (words[0], words[0].title()) if title else (words[0],):
            for rest in (words[1:], tuple(word.replace("'", "") for word in words[1:])):
                cases["".join((first, *rest))] = [first, *rest]

    for ending in (("'m",), ("'m", "a")):
        add("i", *ending)
    persons = "i you he she it we they".split()
    asking = "who what when where why how there that this these those".split()
    for word in persons + asking:
        for ending in (("'ll",), ("'ll", "'ve"), ("'d",), ("'d", "'ve")):
            add(word, *ending)
    for word in "i you we they who what when where why how there these those".split():
        add(word, "'ve")
    for word in "you we they who what when where why how there these those".split():
        add(word, "'re")
    for word in "he she it who what when where why how there that this".split():
        add(word, "'s")
    modal = "ca could do does did had may might must need ought sha should wo would".split()
    for word in modal:
        add(word, "n't", "'ve")
    for word in modal + "ai are is was were have has dare".split():
        add(word, "n't")
    for word in "could might must should would not".split():
        add(word, "'ve")
    # without the apostrophe, these are words of their own
    for word in "ill its hell shell shed were well whore".split():
        del cases[word], cases[word.title()]

    hours = [(f"{hour}", half) for hour in range(1, 13) for half in ("a.m.", "am", "p.m.", "pm")]
    parts = "y' all|y all|how 'd 'y|How 'd 'y|can not|gon na|got ta|let 's|c'm on|Can not|Gon na"
    for words in (*hours, *(case.split() for case in f"{parts}|Got ta|Let 's|C'm on".split("|"))):
        cases["".join(words)] = list(words)
    cases |= {f"°{scale}.": ["°", scale, "."] for scale in "cfkCFK"}
    cases |= {word: [word] for word in f"{WHOLE} {FACES}".split()}
    return cases | {curled(case): [*map(curled, words)] for case, words in cases.items()}


WHOLE = """
    ' '' \\") <space> \\t \\n — C++ a. b. c. d. e. f. g. h. i. j. k. l. m. n. o. p. q. r. s. t.
    u. v. w. x. y. z. ä. ö. ü. 'S 's ‘S ‘s and/or w/o 're 'Cause 'cause 'cos 'Cos 'coz 'Coz 'cuz
    'Cuz 'bout ma'am Ma'am o'clock O'clock lovin' Lovin' lovin Lovin havin' Havin' havin Havin
    doin' Doin' doin Doin goin' Goin' goin Goin nothin' Nothin' nothin Nothin nuthin' Nuthin'
    nuthin Nuthin ol' Ol' ol Ol somethin' Somethin' somethin Somethin em 'em ll 'll nuff 'nuff
    'd Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill.
    Ind. Jan. Jul. Jun. Kan. Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M.
    N.Y. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. S.C. Sep. Sept. Tenn. Va. Wash. Wis. a.m. Adm.
    Bros. co. Co. Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. i.e. I.e. I.E. Inc. Jr. Ltd. Md.
    Messrs. Mo. Mont. Mr. Mrs. Ms. p.m. Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s.
"""
FACES = r"""
    (: (; (= ): 8) 8D :( :) :* :/ :0 :1 :3 :> :D :O :P :X :] :o :p :x :| :} ;) ;D <3 =( =) =/ =3 =D
    =[ =] =| XD [: [= ]= xD (-8 (-: (-; (o: )-: -_- ._. 0.0 0.o 0_0 0_o 8-) 8-D :'( :') :(( :() :))
    :-( :-) :-* :-/ :-0 :-3 :-> :-D :-O :-P :-X :-] :-o :-p :-x :-| :-} :o) ;-) ;-D ;_; <.< </3 <33
    >.< >.> >:( >:o @_@ O.O O.o O_O O_o V.V V_V XDD [-: ^_^ o.0 o.O o.o o_0 o_O o_o v.v v_v xDD ಠ_ಠ
    ಠ︵ಠ -__- :'-( :'-) :((( :))) :-(( :-)) <333 ^__^ (*_*) (-_-) (._.) (>_<) (^_^) (¬_¬) (ಠ_ಠ)
    :-((( :-))) ^___^ ><(((*> ¯\(ツ)/¯ (╯°□°）╯︵┻━┻
"""
SPECIAL = _special_cases()
LONGEST_CASE = max(map(len, SPECIAL))  # characters
APART = {
    words for word in SPECIAL if len(words := tuple(_without_affixes(word, {}))) > 1
}  # the words that the rules alone make of a special case
LONGEST = max(map(len, APART))
