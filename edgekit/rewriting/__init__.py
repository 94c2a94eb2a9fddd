"""ONNX graphs rewritten: how a runtime gets there fast, or in half precision, is not the model's business.

The pipeline in ``edgekit.models`` stays the plain reference. Each function here takes a graph and returns another that answers alike;
its docstring says up to what. What export chains are passes (`edgekit.rewriting.passes`), which say what they require and ensure.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from edgekit.rewriting.cropping import crop_in_integers
from edgekit.rewriting.films import read_bytes, unfold_stems
from edgekit.rewriting.half import halve, round_to_half
from edgekit.rewriting.passes import (
    FILMS_ARE_BYTES,
    HOLDS_HALVES,
    IN_FLOAT32,
    NAMED,
    OWN,
    READS_BYTES,
    SORTED,
    Pass,
    has,
    has_no,
    opset_from,
)
from edgekit.rewriting.sharing import own_weights
from edgekit.rewriting.widening import compute_in_float

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["compute_in_float", "crop_in_integers", "halve", "read_bytes", "round_to_half", "unfold_stems"]

READ_BYTES = Pass("read films as bytes", read_bytes, requires=(FILMS_ARE_BYTES, IN_FLOAT32, opset_from(13)), ensures=(READS_BYTES, SORTED))
CROP_IN_INTEGERS = Pass(
    "crop in integers", crop_in_integers, requires=(READS_BYTES, has_no("MatMulInteger")), ensures=(has("MatMulInteger"), SORTED)
)
UNFOLD_STEMS = Pass(
    "let first convolutions read bytes",
    unfold_stems,
    requires=(READS_BYTES, has_no("SpaceToDepth")),
    ensures=(has("SpaceToDepth"), NAMED, SORTED),  # a detector's first convolution can always be unfolded, a member's after an integer crop
)

OWN_WEIGHTS = Pass("give each convolution weights of its own", own_weights, requires=(NAMED,), ensures=(OWN, NAMED))


def halve_all_but(keep: Collection[str]) -> Pass:
    """Return the pass `halve`, which keeps the nodes named in `keep` in float32."""
    return Pass("compute in float16", partial(halve, keep=keep), requires=(IN_FLOAT32, NAMED, SORTED), ensures=(HOLDS_HALVES, SORTED))
