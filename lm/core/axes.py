"""The letters of shapes, and the names of the axes that kernels and activations are split by.

Letters in comments and einsums mean one thing everywhere:

    B batch, T query length, S key length, D width, N heads, H head size,
    F feed-forward width, V vocabulary, L layers, P prompt, C choices,
    I images of a row, R pixels of a side, M patches

A kernel names its axes with the words below; only `lm.core.mesh` knows which axes of a device mesh
they are split over.
"""

BATCH = "batch"
LENGTH = "length"
WIDTH = "width"
RESIDUAL = "residual"  # the width, between blocks
SPAN = "span"  # the length, between blocks
ENTRY = "entry"  # the width of a table's rows
HEADS = "heads"
HEAD = "head"
HIDDEN = "hidden"  # the feed-forward width, F
VOCABULARY = "vocabulary"
POSITIONS = "positions"
LAYERS = "layers"
QKV = "qkv"  # the three of query, key and value in a fused projection
PIXELS = "pixels"  # the values of a patch
CLASSES = "classes"  # what a task's head tells apart
