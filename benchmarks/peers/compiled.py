"""Our pipeline in torch.compile."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from edgekit.errors import MissingError
from peers.setup import ENSEMBLE, Setup

if TYPE_CHECKING:
    from edgekit.types import Session


def prepare(setup: Setup) -> None:  # noqa: ARG001
    """Nothing to make, but a compiler is needed."""
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        raise MissingError("torch.compile needs a C++ compiler; none of c++, g++ and clang++ is on the PATH", "apt install g++")


def open_peer(setup: Setup, threads: int | None) -> Session:
    """Open the run and compile its pipeline at the first answer."""
    import torch

    from edgekit.models.runfolder import load_pipeline
    from edgekit.sessions.torch import TorchSession

    pipeline = load_pipeline(setup.run, ENSEMBLE)
    pipeline.forward = torch.compile(pipeline.forward)
    session = TorchSession(pipeline, threads)
    session.runtime += " compiled"
    return session
