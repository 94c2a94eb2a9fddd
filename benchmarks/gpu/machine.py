"""The GPU as its driver tells of it, and which packages are missing for what."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from edgekit.errors import MissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

PACKAGES = ("torch", "accelerate", "ultralytics", "timm", "onnxruntime", "onnxruntime-gpu", "tensorrt", "cuda-bindings", "nvidia-ml-py")


def find_versions() -> dict[str, str | None]:
    """Return the versions of what may run; None where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def describe_gpus(sessions: Collection[str]) -> dict[str, Any]:
    """Return ``gpus`` as the driver names them, the versions of `PACKAGES`, and what is ``missing`` here for each of the `sessions`."""
    from edgekit.doctor import examine

    found = examine()
    missing = {each["name"]: each["missing"] for each in found["sessions"] if each["name"] in sessions and each["missing"]}
    return {"gpus": found["machine"]["gpus"], "packages": find_versions(), "missing": missing}


def measure_energy(work: Callable[[], int], device: str) -> dict[str, float]:
    """Return what the first GPU takes while `work` answers for some patients.

    The counter includes what the GPU would have taken idle; it moves about ten times a second, so `work` should last seconds.

    Parameters
    ----------
    work
        Returns for how many patients it answered.

    Returns
    -------
    dict
        ``joules_per_patient``, ``watts`` (mean) and ``patients``.

    Raises
    ------
    MissingError
        nvidia-ml-py is not installed, the driver tells no energy, or the device is no GPU.
    """
    if device != "cuda":
        raise MissingError(f"the driver of an NVIDIA GPU tells the energy, not that of {device}")
    try:
        import pynvml
    except ImportError as error:
        raise MissingError(f"nvidia-ml-py does not load: {error}", "pip install nvidia-ml-py") from error
    try:
        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        before, start = pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu), time.perf_counter()
        patients = work()
        seconds, spent_mj = time.perf_counter() - start, pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) - before
    except pynvml.NVMLError as error:
        raise MissingError(f"the driver tells no energy: {error}") from error
    return {"joules_per_patient": spent_mj / 1000 / patients, "watts": spent_mj / 1000 / seconds, "patients": patients}
