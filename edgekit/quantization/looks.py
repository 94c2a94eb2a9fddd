"""Several looks at each film, so that forty patients say more than forty numbers.

What 8 bits do to a patient's answer is a draw: a few patients whose box jumps decide a mean over eighty. Moved by a few pixels and a
little darker or brighter, the same films give further draws, and need no label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from edgekit.contract import views_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.types import Tensors

LOOKS = 6
SHIFT = 0.02
"""Largest shift of a film, as a share of the canvas."""

GAMMA = 0.2
"""Largest logarithm of the exponent that gray levels are raised to."""


class Looks(Sequence["Tensors"]):
    """`LOOKS` at each patient, made when they are asked for: first all patients as they are, then all of them again.

    Parameters
    ----------
    patients
        The graph's inputs of each, canvases uint8 (1, 1, S, S).
    """

    def __init__(self, patients: Sequence[Tensors]) -> None:
        self._patients = patients

    def __len__(self) -> int:
        return LOOKS * len(self._patients)

    @overload
    def __getitem__(self, place: int) -> Tensors: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Tensors]: ...

    def __getitem__(self, place: int | slice) -> Tensors | Sequence[Tensors]:
        """Return a look, or several; the same place gives the same look."""
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        look, patient = divmod(range(len(self))[place], len(self._patients))
        inputs = self._patients[patient]
        if look == 0:
            return inputs
        random = np.random.default_rng((patient, look))
        return {**inputs, **{view: _look_again(inputs[view], random) for view in views_of(inputs)}}


def _look_again(canvas: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    """Move a canvas (1, 1, S, S) of bytes, black where nothing was, and change its gray levels."""
    side = canvas.shape[-1]
    far = round(SHIFT * side)
    down, right = random.integers(-far, far + 1, 2).tolist()
    levels = (255 * (np.arange(256) / 255) ** np.exp(random.uniform(-GAMMA, GAMMA))).round().astype(np.uint8)
    moved = np.zeros_like(canvas)
    moved[..., max(down, 0) : side + min(down, 0), max(right, 0) : side + min(right, 0)] = levels[
        canvas[..., max(-down, 0) : side + min(-down, 0), max(-right, 0) : side + min(-right, 0)]
    ]
    return moved
