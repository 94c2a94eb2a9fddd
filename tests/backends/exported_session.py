"""PyTorch runs a torch.export archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from edgekit.contract import OUTPUTS
from edgekit.sessions.about import About
from edgekit.sessions.inputs import check_inputs

if TYPE_CHECKING:
    from types import TracebackType

    from edgekit.types import Bundle, Session, Tensors

ABOUT = About(extras=("train",), takes_threads=True)


def open_session(bundle: Bundle, threads: int | None = None) -> Session:
    """Open the archive; see `edgekit.sessions.SessionModule`."""
    return ExportedSession(bundle, threads)


class ExportedSession:
    """An archive in PyTorch on the CPU."""

    name = "exported"

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        import torch

        self._threads_before = torch.get_num_threads()
        if threads is not None:
            torch.set_num_threads(threads)
        self.runtime = f"torch {torch.__version__} cpu"
        self._tensors = bundle.manifest.tensors["inputs"]
        self._module = torch.export.load(bundle.model).module()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        import torch

        torch.set_num_threads(self._threads_before)
        del self._module

    def infer(self, inputs: Tensors) -> Tensors:
        """Run the graph."""
        import torch

        check_inputs(inputs, self._tensors)
        with torch.inference_mode():
            outputs = self._module(*(torch.from_numpy(inputs[name].copy()) for name in self._tensors))
        return {name: tensor.numpy() for name, tensor in zip(OUTPUTS, outputs, strict=True)}
