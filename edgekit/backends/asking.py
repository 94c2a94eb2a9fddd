"""What every backend asks of a target before it converts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgekit.types import Target


def check_stages(target: Target, precisions: Mapping[str, tuple[str, ...]]) -> None:
    """Raise unless each stage of `target` has one of the `precisions` that a backend makes of it.

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
