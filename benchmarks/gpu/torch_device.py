"""A run's own pipeline in torch on any device, and how long each of its stages takes there."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

from edgekit.contract import OUTPUTS, describe_tensors
from edgekit.sessions.inputs import check_inputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from edgekit.models.pipeline import Pipeline
    from edgekit.types import Tensors


REPEATS = 20


def open_pipeline(run: Path, ensemble: str, device: str) -> DeviceSession:
    """Open a run's pipeline on a device, as a session."""
    from edgekit.models.runfolder import load_pipeline

    return DeviceSession(load_pipeline(run, ensemble), device)


class DeviceSession:
    """A pipeline in eval mode, float32, on `device`: copies to it and back are a part of each answer."""

    def __init__(self, pipeline: Pipeline, device: str) -> None:
        import torch

        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # float32 is float32, as in the TensorRT session
        self._device = torch.device(device)
        self._pipeline = pipeline.to(self._device)
        self._tensors = describe_tensors(pipeline.spec.task.views, pipeline.spec.sizes, exact=True)["inputs"]
        hardware = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else device
        self.name, self.runtime = f"torch-{device}", f"torch {torch.__version__} on {hardware}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        del self._pipeline

    def infer(self, inputs: Tensors) -> Tensors:
        """Copy the inputs to the device, run the module, and copy the outputs back."""
        return self._answer(inputs, lambda _: None)

    def time_stages(self, inputs: Tensors) -> dict[str, float]:
        """Return the median ms of each stage: ``copy_in``, ``detect``, ``crop``, ``members``, ``ensemble`` and ``copy_out``.

        The device is waited for at the border of each stage, so that they add up to more than an answer takes.
        """
        import torch

        spent: dict[str, float] = defaultdict(float)
        last = 0.0

        def lap(stage: str) -> None:
            nonlocal last
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            now = time.perf_counter()
            spent[stage] += 1000 * (now - last)
            last = now

        rounds = []
        with ExitStack() as stack:
            stack.enter_context(mock.patch.object(self._pipeline, "find", _after(self._pipeline.find, lap, "detect")))
            for member in map(self._pipeline.member, self._pipeline.spec.members):
                stack.enter_context(mock.patch.object(member, "features", _before(member.features, lap, "crop")))
                stack.enter_context(mock.patch.object(member, "classify", _after(member.classify, lap, "members")))
            for _ in range(REPEATS + 1):
                spent.clear()
                last = time.perf_counter()
                self._answer(inputs, lap)
                rounds.append(dict(spent))
        return {stage: statistics.median(each[stage] for each in rounds[1:]) for stage in rounds[0]}  # the first loads kernels

    def _answer(self, inputs: Tensors, lap: Callable[[str], None]) -> Tensors:
        import torch

        check_inputs(inputs, self._tensors)
        with torch.inference_mode():  # copied, because torch takes no read-only array
            given = [torch.from_numpy(inputs[name].copy()).to(self._device) for name in self._tensors]
            lap("copy_in")
            outputs = self._pipeline(*given)
            lap("ensemble")
            answers = {name: tensor.cpu().numpy() for name, tensor in zip(OUTPUTS, outputs, strict=True)}
            lap("copy_out")
        return answers


def _after(call: Callable[..., Any], lap: Callable[[str], None], stage: str) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        result = call(*arguments)
        lap(stage)
        return result

    return timed


def _before(call: Callable[..., Any], lap: Callable[[str], None], stage: str) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        lap(stage)
        return call(*arguments)

    return timed
