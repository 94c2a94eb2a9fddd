"""Train the network that finds a film in a photo of a screen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from edgekit.errors import InputError
from edgekit.models.corners import SIDE, CornerFinder, EdgeMaps, draw_edges, find_corners
from edgekit.training.checkpoints import load_checkpoint, save_checkpoint
from edgekit.training.screens import GLIMPSES, HELD_OUT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.training.config import CornersConfig
    from edgekit.training.screens import ScreenPhotos

WARM_UP = 200
"""Steps in which the learning rate rises."""
LARGEST_GRADIENT = 5.0
RIGHT = 0.02
"""A photo counts as right when no corner is farther off than this, relative to the film's width."""
_MIRRORED = [1, 0, 3, 2]


def train_corner_finder(
    photos: ScreenPhotos,
    config: CornersConfig,
    device: torch.device,
    seed: int,
    checkpoints: Path,
    report: Callable[[dict[str, float]], None],
) -> CornerFinder:
    """Train from random weights: cross-entropy between the maps and the edges, AdamW, cosine learning rate.

    Photos are shown mirrored, lighter or darker, and noisy, at random.

    Parameters
    ----------
    photos
        More than the `HELD_OUT` screens' that are looked at after each epoch and not learnt from.
    checkpoints
        Folder for the state after each epoch; training goes on from what it holds.
    report
        Called after each epoch with its loss, and the share of photos held out that are `RIGHT`.

    Returns
    -------
    CornerFinder in eval mode on the CPU.

    Raises
    ------
    InputError
        The loss became NaN.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    finder = CornerFinder().to(device).to(memory_format=torch.channels_last)
    teaching = len(photos) - GLIMPSES * HELD_OUT
    batches = max(teaching // config.batch, 1)
    total = config.epochs * batches
    optimizer = torch.optim.AdamW(finder.parameters(), lr=config.learning_rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, step / total)))
    )
    state = load_checkpoint(checkpoints)
    if state is not None:
        finder.load_state_dict(state["finder"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        generator.set_state(state["generator"])
    for epoch in range(0 if state is None else state["epoch"] + 1, config.epochs):
        finder.train()
        losses = []
        for chosen in np.array_split(torch.randperm(teaching, generator=generator).numpy(), batches):
            chosen.sort()  # in the order of the file
            canvases, corners = augment(torch.from_numpy(photos.canvases[chosen]), torch.from_numpy(photos.corners[chosen]), generator)
            loss = score(finder(canvases[:, None].to(device)), corners.to(device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(finder.parameters(), LARGEST_GRADIENT)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            if not np.isfinite(losses[-1]):
                raise InputError(f"corner finder: the loss became NaN in epoch {epoch + 1}", "lower [corners] learning_rate")
        errors = measure_errors(finder, photos.canvases[teaching:], photos.corners[teaching:])
        report(
            {"loss": float(np.mean(losses)), "validation_accuracy": float((errors <= RIGHT).mean())}
        )  # an epoch without its checkpoint is reported again
        save_checkpoint(
            checkpoints,
            epoch,
            {
                "finder": finder.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "generator": generator.get_state(),
            },
        )
    return finder.cpu().eval()


def score(logits: Tensor, corners: Tensor) -> Tensor:
    """Return the mean cross-entropy of maps (N, 4, 80, 80) against the edges between corners (N, 4, 2)."""
    return -(draw_edges(corners).flatten(2) * logits.flatten(2).log_softmax(dim=2)).sum(dim=2).mean()


def augment(canvases: Tensor, corners: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirror half of the photos, change their light, and add noise.

    Parameters
    ----------
    canvases
        uint8 (N, 320, 320).
    corners
        float32 (N, 4, 2).

    Returns
    -------
    The same kinds.
    """
    count = len(canvases)
    mirrored = torch.rand(count, generator=generator) < 0.5
    canvases = torch.where(mirrored[:, None, None], canvases.flip(2), canvases)
    turned = torch.stack([SIDE - corners[:, _MIRRORED, 0], corners[:, _MIRRORED, 1]], dim=2)
    corners = torch.where(mirrored[:, None, None], turned, corners)
    gain, bias, noise = torch.rand(3, count, 1, 1, generator=generator)
    grain = torch.randn(canvases.shape, generator=generator) * 5 * noise
    changed = (canvases * (0.7 + 0.6 * gain) + 30 * (bias - 0.5) + grain).clamp(0, 255)
    shown = canvases.amax(dim=1, keepdim=True).bool() & canvases.amax(dim=2, keepdim=True).bool()  # what lies beside the photo stays black
    return torch.where(shown, changed, 0).to(torch.uint8), corners


def measure_errors(finder: CornerFinder, canvases: NDArray[np.uint8], corners: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return float64 (N,): the largest distance of a corner found from the true one, relative to the film's width."""
    finder.eval()
    device = next(finder.parameters()).device
    errors = []
    with torch.inference_mode():
        for canvas, true in zip(canvases, corners, strict=True):
            found, _ = find_corners(EdgeMaps(finder)(torch.tensor(canvas)[None, None].to(device))[0].cpu().numpy())
            width = (np.linalg.norm(true[1] - true[0]) + np.linalg.norm(true[2] - true[3])) / 2
            errors.append(np.linalg.norm(found - true, axis=1).max() / width)
    return np.array(errors)
