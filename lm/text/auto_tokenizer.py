"""A vocabulary as AutoTokenizer of transformers reads it, where that can be said in its terms.

In a folder without these files it looks for the architecture's own vocabulary, finds nothing of it,
and gives no ids at all without a word.
"""

import json
from typing import TYPE_CHECKING

import numpy as np

from lm.core.errors import ConfigError
from lm.text.interface import SPECIALS, Tokenizer
from lm.text.sentencepiece import BLANK, PROBE, SentencePieceTokenizer
from lm.text.vocabulary import OPTIONS, WHOLE, library

if TYPE_CHECKING:
    import tokenizers

NONE = "NoTokenizerOfTransformers"  # a class that is not there, so that it stops


def files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """What to write beside a vocabulary that is not the architecture's own.

    AutoTokenizer then gives the ids of `tokenizer`, but for text that spells a special or has
    U+2581; or it stops, where there is no `tokenizer.json` among the files.
    """
    whole = None
    if isinstance(tokenizer, SentencePieceTokenizer) and tokenizer.lossless:
        whole = merged(tokenizer)
    if whole is None or not alike(tokenizer, whole):
        return {OPTIONS: json.dumps({"tokenizer_class": NONE}).encode()}
    options = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    names = {"bos_token": "bos", "eos_token": "end", "pad_token": "pad", "unk_token": "unk"}
    told = {key: SPECIALS[name] for key, name in names.items() if name in tokenizer.specials}
    return {WHOLE: whole.to_str().encode(), OPTIONS: json.dumps(options | told).encode()}


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


def alike(tokenizer: Tokenizer, whole: "tokenizers.Tokenizer") -> bool:
    """Whether both give the same ids to texts of pieces at random, and give these back."""
    rows = np.random.default_rng(0).integers(0, tokenizer.vocab_size, (300, 30)).tolist()
    for text in (PROBE, *map(tokenizer.decode, rows)):
        ids = tokenizer.encode(text)
        if whole.encode(text).ids != ids or whole.decode(ids) != text:
            return False
    return True
