"""ONNX graphs rewritten: how a runtime gets there fast, or in half precision, is not the model's business.

The pipeline in ``edgekit.models`` stays the plain reference. Each function here takes a graph and returns another that answers alike;
its docstring says up to what. What export chains are passes (`edgekit.rewriting.passes`), which say what they require and ensure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from edgekit.rewriting.cropping import crop_in_integers
from edgekit.rewriting.films import read_bytes, unfold_stems
from edgekit.rewriting.gathering import crop_by_gathering
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

__all__ = ["compute_in_float", "crop_by_gathering", "crop_in_integers", "halve", "read_bytes", "round_to_half", "unfold_stems"]

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

CROP_BY_GATHERING = Pass(
    "crop by gathering, in gray levels", partial(crop_by_gathering, in_levels=True), requires=(READS_BYTES,), ensures=(has("Floor"), SORTED)
)
CROP_BY_GATHERING_IN_FLOAT = Pass(
    "crop by gathering", partial(crop_by_gathering, in_levels=False), requires=(READS_BYTES,), ensures=(has("Floor"), SORTED)
)
POOL_STEMS = Pass(
    "pool bytes, and let first convolutions read them",
    partial(unfold_stems, pool_first=True),
    requires=UNFOLD_STEMS.requires,
    ensures=UNFOLD_STEMS.ensures,
)

OWN_WEIGHTS = Pass("give each convolution weights of its own", own_weights, requires=(NAMED,), ensures=(OWN, NAMED))


@dataclass(frozen=True, slots=True)
class Form:
    """What a runtime has fast operators for.

    Attributes
    ----------
    crop
        The crop, rounded to gray levels.
    crops_in
        What a bundle says of it.
    float_crop
        The crop where it is not to be rounded.
    stems
        How first convolutions read bytes.
    in_float
        A graph that stays in float32.
    """

    crop: Pass
    crops_in: str
    float_crop: tuple[Pass, ...]
    stems: Pass
    in_float: tuple[Pass, ...]


IN_INTEGERS = Form(CROP_IN_INTEGERS, "integers", (), UNFOLD_STEMS, ())
"""onnxruntime and OpenVINO multiply bytes as fast as anything, and have no fast gathering."""
BY_GATHERING = Form(CROP_BY_GATHERING, "gray levels", (CROP_BY_GATHERING_IN_FLOAT,), POOL_STEMS, (READ_BYTES, CROP_BY_GATHERING_IN_FLOAT))
"""LiteRT has no product of integers that a crop could use, and copies pixels fast."""


def halve_all_but(keep: Collection[str]) -> Pass:
    """Return the pass `halve`, which keeps the nodes named in `keep` in float32."""
    return Pass("compute in float16", partial(halve, keep=keep), requires=(IN_FLOAT32, NAMED, SORTED), ensures=(HOLDS_HALVES, SORTED))
