"""The reference: a run's own pipeline in torch, float32 on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from edgekit.contract import OUTPUTS, describe_tensors
from edgekit.sessions.about import About
from edgekit.sessions.inputs import check_inputs

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from edgekit.models.pipeline import Pipeline
    from edgekit.types import Session, Tensors

ABOUT = About(extras=("train",), takes_threads=True)


def open_run(run: Path, ensemble: str | None = None, threads: int | None = None) -> Session:
    """Open a run folder as the session ``torch``.

    Parameters
    ----------
    run
        A finished run folder.
    ensemble
        Name of the ensemble that answers; None takes the one chosen on validation.
    threads
        Threads within an operator; None leaves torch's choice. They are the whole process's until the session is closed.

    Raises
    ------
    InputError
        The run is unfinished or has no such ensemble.
    """
    from edgekit.models.runfolder import load_pipeline

    return TorchSession(load_pipeline(run, ensemble), threads)


class TorchSession:
    """A pipeline in eval mode.

    Parameters
    ----------
    pipeline
        What answers.
    threads
        See `open_run`.
    """

    name = "torch"

    def __init__(self, pipeline: Pipeline, threads: int | None = None) -> None:
        import torch

        self._threads_before = torch.get_num_threads()
        if threads is not None:
            torch.set_num_threads(threads)
        self.runtime = f"torch {torch.__version__} cpu"
        self._pipeline = pipeline
        self._tensors = describe_tensors(pipeline.spec.task.views, pipeline.spec.sizes, exact=True)["inputs"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        import torch

        torch.set_num_threads(self._threads_before)
        del self._pipeline

    def infer(self, inputs: Tensors) -> Tensors:
        """Run the module.

        Raises
        ------
        InputError
            A tensor is missing or has another dtype or shape than the graph's.
        """
        import torch

        check_inputs(inputs, self._tensors)
        with torch.inference_mode():  # copied, because torch takes no read-only array
            outputs = self._pipeline(*(torch.from_numpy(inputs[name].copy()) for name in self._tensors))
        return {name: tensor.numpy() for name, tensor in zip(OUTPUTS, outputs, strict=True)}
