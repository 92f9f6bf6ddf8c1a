"""Published weights, in and out: Hugging Face's folders of config.json and model.safetensors."""

from lm.models.pretrained.folder import read, write

__all__ = ["read", "write"]
