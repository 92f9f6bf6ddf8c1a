"""Questions about images: what an example is, sets of them, and the rows that a model reads."""

from lm.data.visual.example import Example, Picture
from lm.data.visual.rows import VisionBatch, VisualConfig, VisualRows

__all__ = ["Example", "Picture", "VisionBatch", "VisualConfig", "VisualRows"]
