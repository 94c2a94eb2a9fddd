"""Where a node of a pipeline's graph belongs: its stage, and the block that is given back to float as a whole.

A node is named by the module that it comes from (`edgekit.graphs.exporting.export_graph`), and the networks say themselves what their
layers are. Nothing else reads a node's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgekit.models.networks import Network
    from edgekit.types import Target

STAGES = ("detector", "geometry", "members", "ensemble")
"""The recipe's stages."""


def check_stages(target: Target, precisions: Mapping[str, tuple[str, ...]]) -> None:
    """Raise unless each stage of `target` has one of the `precisions` that its backend makes of it.

    Raises
    ------
    InputError
        One has not; the message names the stage and what is accepted.
    """
    for stage, precision in target.stages.items():
        if precision not in precisions[stage]:
            raise InputError(
                f"{target.name}: the backend {target.backend} makes no {precision} of the stage {stage}",
                f"accepted: {', '.join(precisions[stage])}",
            )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node belongs.

    Attributes
    ----------
    stage
        One of `STAGES`.
    block
        Path of the module that is computed in one precision; None where nothing is ever in 8 bits.
    """

    stage: str
    block: str | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Where each node of a pipeline's graph belongs.

    Attributes
    ----------
    by_path
        The place of modules, and of what is below them.

    Examples
    --------
    >>> Places({"members": Place("members")}).find("members.ap.network.conv_stem/conv2d_85").stage
    'members'
    """

    by_path: Mapping[str, Place]

    def find(self, name: str) -> Place:
        """Return the place of a node, or of a module by its path; what decodes a box, crops, normalizes or explains is geometry."""
        path = name.partition("/")[0]
        while path:
            if path in self.by_path:
                return self.by_path[path]
            path = path.rpartition(".")[0]
        return Place("geometry")


def find_places(pipeline: Any) -> Places:
    """Ask the networks of an ``edgekit.models.pipeline.Pipeline`` for their blocks."""
    by_path = {"members": Place("members"), "ensemble": Place("ensemble")}
    networks: dict[str, tuple[str, Network]] = {} if pipeline.detector is None else {"detector": ("detector", pipeline.detector)}
    networks |= {f"members.{name}": ("members", member) for name, member in pipeline.members.items()}
    for owner, (stage, network) in networks.items():
        by_path |= {f"{owner}.{path}": Place(stage, f"{owner}.{block}") for path, block in network.list_blocks().items()}
    return Places(by_path)
