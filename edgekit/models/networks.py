"""What is asked of a network, be it the detector or a member: it may be another one tomorrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Network(Protocol):
    """What a graph and its bundle ask of every network."""

    notice: str
    """Whose work it is, and under which licence: a sentence for whoever distributes a file with it."""

    def list_blocks(self) -> dict[str, str]:
        """Return the layers that are the network itself, by path, each with the path of the block that it is a part of.

        What is below a path belongs to it, unless it has a line of its own; what no line covers is geometry. An activation belongs to the
        block of its convolution: they are computed as one.
        """
        ...


class Locator(Network, Protocol):
    """What the pipeline and the run folder ask of a detector.

    Attributes
    ----------
    side
        Side of its square input in pixels.
    """

    side: int

    @property
    def settings(self) -> dict[str, Any]:
        """What building it again takes beside its weights: in ``detector.json``."""
        ...

    def __call__(self, films: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find what is looked for on films float (N, 1, side, side) in [0, 1].

        Returns
        -------
        boxes, scores, view_scores
            float (N, 4) in input pixels, (N,) and (N, V): see `edgekit.contract`.
        """
        ...

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Return what training makes smaller, and its parts, for a batch as ultralytics' trainer has it."""
        ...
