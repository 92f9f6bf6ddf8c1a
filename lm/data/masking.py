"""Which tokens of a row BERT has to guess, and what stands in their place.

All is drawn from a hash of (row's key, position), so a row has the same masks on any process, in
any batch, after any restart.
"""

import dataclasses

import flax.struct
import numpy as np

from lm.data.permutation import mix
from lm.text.tokenizer import Tokenizer

ORDER, KIND, TOKEN = range(3)  # the draws at a position


@flax.struct.dataclass
class MaskedBatch:
    """Rows of a masked language model; the positions to guess are gathered."""

    tokens: np.ndarray  # [B T] int32
    segments: np.ndarray  # [B T] int32: 1 in B and its [SEP]
    valid: np.ndarray  # [B T] bool: real tokens
    positions: np.ndarray  # [B P] int32: to guess, ascending; 0 where there are fewer
    targets: np.ndarray  # [B P] int32: what stood there
    mask: np.ndarray  # [B P] bool: positions that count
    next: np.ndarray  # [B] int32: 0 if B follows A, 1 if it is from another document
    next_mask: np.ndarray  # [B] bool: rows whose `next` counts
    rows: np.ndarray  # [B] uint32: the row's number in the run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Masks:
    """BERT's masks (Devlin et al. 2019, section 3.1 and appendix A.1)."""

    mask_id: int
    vocab_size: int
    fraction: float  # of a row's tokens
    most: int  # in a row
    masked: float  # share of the chosen that become [MASK]
    kept: float  # share that stay
    starts_word: np.ndarray | None = None  # [V] bool: choose whole words, which begin there

    def __call__(
        self, tokens: np.ndarray, words: np.ndarray, used: np.ndarray, keys: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Masks rows.

        Args:
          tokens: [B T] int32.
          words: [B T] bool, what may be chosen: neither [CLS], [SEP] nor padding.
          used: [B] int64, tokens of the row with [CLS] and [SEP].
          keys: [B] uint64, from which a row's masks are drawn.

        Returns:
          tokens with masks [B T], positions, targets and mask [B P].
        """
        wanted = np.clip(np.rint(used * self.fraction), 1, self.most).astype(np.int64)
        wanted = np.minimum(wanted, words.sum(1))
        order = draws(keys[:, None], np.arange(tokens.shape[1]), ORDER)
        if self.starts_word is None:
            chosen = smallest(order, words, wanted)
        else:
            begins = self.starts_word[tokens] | ~np.pad(words, ((0, 0), (1, 0)))[:, :-1]
            chosen = whole_words(order, words, begins, wanted)
        positions, mask = gathered(chosen, self.most)
        targets = np.where(mask, np.take_along_axis(tokens, positions, 1), 0)
        share = draws(keys[:, None], positions, KIND) / 2.0**64
        drawn = draws(keys[:, None], positions, TOKEN) % np.uint64(self.vocab_size)
        instead = np.where(share < self.masked, self.mask_id, drawn.astype(np.int32))
        instead = np.where(
            (share >= self.masked) & (share < self.masked + self.kept), targets, instead
        )
        seen = tokens.copy()
        rows, columns = np.nonzero(mask)
        seen[rows, positions[rows, columns]] = instead[rows, columns]
        return seen, positions, targets, mask


def draws(keys: np.ndarray, positions: np.ndarray, kind: int) -> np.ndarray:
    """A uniform uint64 for each key and position, another for each kind of draw."""
    with np.errstate(over="ignore"):
        return mix(keys + (3 * positions + kind).astype(np.uint64), 0)


def smallest(order: np.ndarray, words: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The `wanted` words of each row that come first in a random order. [B T] bool"""
    ranked = np.where(words, order, np.uint64(2**64 - 1)).argsort(axis=1)
    rank = np.empty_like(ranked)
    np.put_along_axis(rank, ranked, np.arange(order.shape[1])[None], 1)
    return words & (rank < wanted[:, None])


def whole_words(
    order: np.ndarray, words: np.ndarray, begins: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """Whole words in a random order, those skipped that would exceed `wanted`. [B T] bool

    As in the official code, a row none of whose words fit has no mask.
    """
    count, length = order.shape
    begins = begins & words
    word = np.cumsum(begins, axis=1) - 1  # which word of the row a token is of
    every = np.arange(count)
    sizes = np.zeros((count, length), np.int64)
    np.add.at(sizes, (every[:, None], np.maximum(word, 0)), words)
    # the order of a word is that of its first piece
    keys = np.full((count, length), 2**64 - 1, np.uint64)
    rows, columns = np.nonzero(begins)
    keys[rows, word[rows, columns]] = order[rows, columns]
    ranked = keys.argsort(axis=1)
    taken, left = np.zeros((count, length), bool), wanted.copy()
    for rank in range(int(begins.sum(1).max(initial=0))):
        candidate = ranked[:, rank]
        size = sizes[every, candidate]
        fits = (size > 0) & (size <= left)
        taken[every, candidate] |= fits
        left -= size * fits
        if not left.any():
            break
    return words & np.take_along_axis(taken, np.maximum(word, 0), 1)


def gathered(chosen: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The columns that are true, ascending, and which of the `most` places they fill. [B P] each"""
    count = chosen.sum(1)
    mask = np.arange(most) < count[:, None]
    positions = np.zeros((len(chosen), most), np.int32)
    positions[mask] = np.nonzero(chosen)[1]
    return positions, mask


def word_starts(tokenizer: Tokenizer) -> np.ndarray:
    """Whether each piece begins a word. [V] bool

    It does where it begins with a blank, or where the tokenizer writes a blank between it and a
    piece before it (WordPiece, without `##`). Specials do: an unknown word is a word.
    """
    begins = np.zeros(tokenizer.vocab_size, bool)
    for piece in range(tokenizer.vocab_size):
        once, twice = tokenizer.decode_bytes([piece]), tokenizer.decode_bytes([piece, piece])
        begins[piece] = once[:1].isspace() or twice != once + once
    begins[list(tokenizer.specials.values())] = True
    return begins
