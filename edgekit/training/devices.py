"""Where a training runs: one CPU, one GPU, or the processes that ``accelerate launch`` started."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import torch

from edgekit.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

PATIENCE = timedelta(days=7)
"""How long the other processes wait while the main one reads films or trains the detector."""


def choose_device(name: str) -> torch.device:
    """Return the device to train on.

    Raises
    ------
    InputError
        The device named is not there: never a silent fall to the CPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} can't be used: {str(error).splitlines()[0]}", 'set device = "auto" or "cpu"') from error
    return device


def start_accelerator(device: torch.device) -> Accelerator:
    """Join the processes that ``accelerate launch`` started, or stand alone.

    On CUDA numbers are mixed precision: bfloat16 where the card has it, else float16 with a scaled loss. Elsewhere all is float32.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs

    precision = "no"
    if device.type == "cuda":
        precision = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        if device.index is not None:
            torch.cuda.set_device(device)
    return Accelerator(cpu=device.type == "cpu", mixed_precision=precision, kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])


def name_detector_device(accelerator: Accelerator) -> str:
    """Return the device for ultralytics' trainer, as it names them: every GPU of this machine when several processes train."""
    device = accelerator.device
    if device.type == "cuda" and accelerator.num_processes > 1:
        return ",".join(map(str, range(torch.cuda.device_count())))
    return str(device)
