"""The embedding model: wordllama's static vectors, which are in its package and need no network."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL = "wordllama-l2_supercat-256"
DIMENSIONS = 256


class Encoder:
    """Texts to vectors of length one."""

    def __init__(self) -> None:
        self._model = _load()

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, 256) float32.  A text's vector does not depend on the texts beside it."""
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)
        # One by one: a batch is padded to its longest text, which costs more time and memory than it saves.
        for row, text in enumerate(texts):
            vector = self._model.embed(text)[0]
            vectors[row] = vector / max(float(np.linalg.norm(vector)), 1e-12)
        return vectors


def _load() -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would only compete with ours
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    import wordllama  # here, because importing it configures the root logger

    root.handlers[:], root.level = handlers, level
    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
