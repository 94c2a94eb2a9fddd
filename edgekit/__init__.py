"""edgekit: put a multi-model medical imaging pipeline on phones, Jetsons and desktop GPUs, and prove it still answers right.

``docs/library.md`` shows what a program does with it. Names are imported when they are asked for: the package itself costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

from edgekit.version import VERSION as __version__

_PUBLIC = {
    "Bundle": "edgekit.types:Bundle",
    "EdgekitError": "edgekit.errors:EdgekitError",
    "Prediction": "edgekit.types:Prediction",
    "Predictor": "edgekit.inference:Predictor",
    "Radiograph": "edgekit.types:Radiograph",
    "open_bundle": "edgekit.manifest:open_bundle",
    "open_run": "edgekit.sessions.torch:open_run",
    "read_film": "edgekit.radiograph:read_radiograph",
    "score": "edgekit.evaluation.study:score_table",
}
"""Where each public name is; ``__init__.pyi`` tells type checkers."""

__all__ = [
    "Bundle",
    "EdgekitError",
    "Prediction",
    "Predictor",
    "Radiograph",
    "__version__",
    "open_bundle",
    "open_run",
    "read_film",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
