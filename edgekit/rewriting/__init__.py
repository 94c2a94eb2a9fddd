"""ONNX graphs rewritten: how a runtime gets there fast, or in half precision, is not the model's business.

The pipeline in ``edgekit.models`` stays the plain reference. Each function here takes a graph and returns another that answers alike;
its docstring says up to what.
"""

from __future__ import annotations

from edgekit.rewriting.cropping import crop_in_integers
from edgekit.rewriting.films import read_bytes, unfold_stems
from edgekit.rewriting.half import halve, round_to_half
from edgekit.rewriting.widening import compute_in_float

__all__ = ["compute_in_float", "crop_in_integers", "halve", "read_bytes", "round_to_half", "unfold_stems"]
