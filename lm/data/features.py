"""What a model reads of a task's items: arrays of one shape, for every kind of task.

A row is an item, or one window of a long passage. Its candidates are what is encoded apart: the
answers of a choice, the two orders of a similarity, one in every other case.
"""

import flax.struct
import numpy as np


@flax.struct.dataclass
class TaskBatch:
    """Rows of a task."""

    tokens: np.ndarray  # [B C T] int32
    segments: np.ndarray  # [B C T] int32: 0 or 1, BERT's token types
    valid: np.ndarray  # [B C T] bool: real tokens
    read: np.ndarray  # [B C] int32: where the head reads ([CLS], or GPT-1's last token)
    lm_mask: np.ndarray  # [B C T] bool: tokens whose successor counts in an auxiliary LM loss
    candidates: np.ndarray  # [B C] bool: candidates that are there
    label: np.ndarray  # [B] int32 class or choice, or float32; [B 2] span; [B T] tags, -1: none
    mask: np.ndarray  # [B] bool: rows that count
    example: np.ndarray  # [B] int32: the item a row is of
    rows: np.ndarray  # [B] uint32: the row's number in the run
