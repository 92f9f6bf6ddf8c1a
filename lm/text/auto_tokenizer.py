"""A vocabulary as AutoTokenizer of transformers reads it, where that can be said in its terms.

In a folder without these files it looks for the architecture's own vocabulary, finds nothing of it,
or nothing of what was added behind it, and gives other ids or none at all without a word.
"""

import base64
import json
from typing import TYPE_CHECKING

import numpy as np

from lm.core.errors import ConfigError
from lm.text.added import AddedSpecials
from lm.text.dialogue import AS_ROLE, DIALOGUE_SPECIALS, ROLES
from lm.text.gpt2 import Gpt2Tokenizer
from lm.text.interface import SPECIALS, Tokenizer
from lm.text.sentencepiece import BLANK, FILE, MODEL, PROBE, SentencePieceTokenizer
from lm.text.vocabulary import OPTIONS, WHOLE, library

if TYPE_CHECKING:
    import tokenizers

NONE = "NoTokenizerOfTransformers"  # a class that is not there, so that it stops


def files(tokenizer: Tokenizer, *, in_turns: bool = False) -> dict[str, bytes]:
    """What to write beside a vocabulary that is not the architecture's own, or more than it.

    AutoTokenizer then gives the ids of `tokenizer`, but for text that spells a special or has
    U+2581; or it stops, where there is no `tokenizer.json` among the files. A conversation has the
    ids of `lm.text.dialogue` where the model has learned them, `in_turns`.
    """
    options = json.loads(tokenizer.files().get(OPTIONS, b"{}"))  # a WordPiece has its own
    base = tokenizer
    while isinstance(base, AddedSpecials):
        base = base.base
    whole = None
    if isinstance(base, SentencePieceTokenizer) and base.lossless:
        whole = merged(base)
    elif isinstance(base, Gpt2Tokenizer):
        whole = copied(base)
    marks = {
        name: i
        for name, i in tokenizer.specials.items()
        if i >= base.vocab_size or (in_turns and name in DIALOGUE_SPECIALS)
    }
    if whole is None or not alike(base, whole) or not marked(whole, marks):
        return {OPTIONS: json.dumps(options | {"tokenizer_class": NONE}).encode()}
    options |= {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    names = {"bos_token": "bos", "eos_token": "end", "pad_token": "pad", "unk_token": "unk"}
    spelled = {name: str(whole.id_to_token(i)) for name, i in tokenizer.specials.items()}
    told = {key: spelled[name] for key, name in names.items() if name in spelled}
    options |= told
    if isinstance(base, SentencePieceTokenizer):  # so that it is read again once others saved it
        options[MODEL] = base64.b64encode(base.files()[FILE]).decode()
    if in_turns:
        refused = {*told.values(), *(spelled[name] for name in marks)}
        options["chat_template"] = template(spelled, sorted(refused))
    return {WHOLE: whole.to_str().encode(), OPTIONS: json.dumps(options).encode()}


def merged(tokenizer: SentencePieceTokenizer) -> "tokenizers.Tokenizer | None":
    """A SentencePiece of BPE: of two neighbours those are joined first whose piece has the highest
    score. None where the package is not there."""
    try:
        made = library()
    except ConfigError:
        return None
    pieces = tokenizer.pieces()
    ids = {piece: number for number, (piece, _) in enumerate(pieces)}
    scores = {piece: score for piece, score in pieces if score is not None}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in sorted(scores, key=scores.__getitem__, reverse=True)
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    whole = made.Tokenizer(made.models.BPE(vocab=ids, merges=merges, byte_fallback=True))
    whole.normalizer = made.normalizers.Replace(" ", BLANK)
    decoders = made.decoders
    whole.decoder = decoders.Sequence(
        [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return whole


def copied(tokenizer: Gpt2Tokenizer) -> "tokenizers.Tokenizer":
    """Its own of the library, to add to, with the way back from bytes."""
    made = library()
    whole = made.Tokenizer.from_str(tokenizer.encoder.to_str())
    whole.decoder = made.decoders.ByteLevel()
    return whole


def alike(tokenizer: Tokenizer, whole: "tokenizers.Tokenizer") -> bool:
    """Whether both give the same ids to texts of pieces at random, and give these back."""
    rows = np.random.default_rng(0).integers(0, tokenizer.vocab_size, (300, 30)).tolist()
    for text in (PROBE, *map(tokenizer.decode, rows)):
        ids = tokenizer.encode(text)
        if whole.encode(text).ids != ids or whole.decode(ids) != text:
            return False
    return True


def marked(whole: "tokenizers.Tokenizer", marks: dict[str, int]) -> bool:
    """Makes these specials such of `whole`; whether they have their ids there."""
    for name, i in sorted(marks.items(), key=lambda item: item[1]):
        spelling = whole.id_to_token(i) or SPECIALS.get(name, name)
        whole.add_special_tokens([library().AddedToken(spelling, special=True, normalized=False)])
        if whole.token_to_id(spelling) != i:
            return False
    return True


def template(spelled: dict[str, str], refused: list[str]) -> str:
    """A conversation as a template of Jinja: turns as `lm.text.dialogue.Chat` has them, with its
    order, its roles and its parts of a content. A content that spells one of `refused`, which
    would become a special, is refused."""
    start, end = spelled["im_start"], spelled["im_end"]
    role = {role: spelled[role] for role in ROLES}
    names = {name: name for name in ROLES} | AS_ROLE
    return (
        f"{{% set names = {json.dumps(names)} %}}{{% set marks = {json.dumps(role)} %}}"
        "{% set first = 1 if messages and names.get(messages[0].role) == 'system' else 0 %}"
        "{% for one in messages %}"
        "{% set at = loop.index0 - first %}"
        "{% set wanted = 'system' if at < 0 else ('user', 'assistant')[at % 2] %}"
        "{% if names.get(one.role) != wanted %}"
        "{{ raise_exception('message ' ~ loop.index ~ ' is not of the ' ~ wanted) }}"
        "{% endif %}"
        "{% set said = one.content if one.content is string"
        " else one.content | map(attribute='text') | join %}"
        f"{{% for mark in {json.dumps(refused)} if mark in said %}}"
        "{{ raise_exception('message spells the special ' ~ mark) }}"
        "{% endfor %}"
        f"{{{{ '{start}' ~ marks[wanted] ~ said ~ '{end}' }}}}"
        "{% endfor %}"
        f"{{% if add_generation_prompt %}}{start}{role['assistant']}{{% endif %}}"
    )
