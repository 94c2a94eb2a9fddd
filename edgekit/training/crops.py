"""What the members look at: crops of the films, cached with their surroundings, varied while training, plain otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.models.cropper import crop_and_resize, expand_boxes
from edgekit.task import EACH, SIDE_BY_SIDE
from edgekit.training.augmentation import vary_crops

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.task import Member
    from edgekit.training.config import MembersConfig
    from edgekit.training.films import FilmSet

CONTEXT = 0.25
"""Share of the box's side kept around it on each side, so that jitter and rotation move over real surroundings."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What one member learns from.

    Attributes
    ----------
    films
        int (N, 1), or (N, views) for a member that looks at films side by side: film indices of each sample.
    brands
        int64 (N,), index of the brand.
    """

    films: NDArray[np.int64]
    brands: NDArray[np.int64]


def select_samples(member: Member, films: FilmSet, boxes: NDArray[np.float32], brands: tuple[str, ...]) -> Samples:
    """Return the samples of `member`: films of its views, or rows of one film a view, of patients with a known brand and a box to crop."""
    cropable = np.asarray(np.isfinite(boxes).all(axis=1))
    by_view = [films.film_of(films.views.index(view)) for view in member.views]
    by_view = [np.where((rows >= 0) & cropable[rows], rows, -1) for rows in by_view]
    columns = np.concatenate(by_view)[:, None] if member.layout == EACH else np.stack(by_view, axis=1)
    columns = columns[(columns >= 0).all(axis=1)]
    patients = films.study[columns[:, 0]]
    index = {brand: number for number, brand in enumerate(brands)}
    labels = np.array([index.get(films.studies[i].brand or "", -1) for i in patients], dtype=np.int64)
    return Samples(columns[labels >= 0], labels[labels >= 0])


def cache_context(canvases: NDArray[np.uint8], boxes: NDArray[np.float32], side: int, margin: float) -> Tensor:
    """Crop every film once with `CONTEXT` around its box, at a scale of about one augmented crop pixel per pixel.

    Parameters
    ----------
    canvases
        uint8 (N, S, S).
    boxes
        float32 (N, 4), canvas pixels.
    side, margin
        Side of a member's crop in pixels, and the share of the box's side that it shows on each side of the box.

    Returns
    -------
    uint8 (N, 1, C, C); zeros where a film has no box.
    """
    size = round(side * (1 + 2 * CONTEXT) / (1 + 2 * margin))
    context = torch.zeros(len(canvases), 1, size, size, dtype=torch.uint8)
    for index in np.flatnonzero(np.isfinite(boxes).all(axis=1)):
        canvas = torch.from_numpy(np.array(canvases[index])).float()[None, None]
        box = torch.from_numpy(boxes[index])[None]
        pad = (box[:, 2:] - box[:, :2]) * CONTEXT
        wide = torch.cat([box[:, :2] - pad, box[:, 2:] + pad], dim=1)
        context[index] = crop_padded(canvas, wide, size)[0].round().to(torch.uint8)
    return context


def crop_padded(canvas: Tensor, box: Tensor, size: int) -> Tensor:
    """Crop a box that may leave the canvas (1, 1, S, S); what is outside is black, as the canvas's own padding."""
    reach = int(torch.cat([-box, box - canvas.shape[-1]]).max().clamp(min=0).ceil())
    return crop_and_resize(functional.pad(canvas, [reach] * 4), box + reach, size, size)


def augment(
    context: Tensor,
    films: NDArray[np.int64],
    config: MembersConfig,
    member: Member,
    generator: torch.Generator,
    own: slice = slice(None),
) -> Tensor:
    """Draw augmented crops.

    Flip, rotation and box jitter are one affine map, sampled once from the context crops, so that nothing is resampled twice.

    Parameters
    ----------
    context
        uint8 (N, 1, C, C) from `cache_context`; (2 N, 1, C, C) when the films' photos follow them.
    films
        int (B, 1) or (B, views), film indices.
    own
        The samples of the batch that are made. Everything is drawn for the whole batch, so that processes which share it agree.

    Returns
    -------
    float32 (B, 1, side, side) in [0, 1], of the samples in `own`.
    """
    count, columns = films.shape

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    inner = (1 + 2 * config.margin) / (1 + 2 * CONTEXT)  # the plain crop's share of the context crop
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    gain, offset = 1 + uniform(config.contrast), uniform(config.contrast / 2)
    invert = torch.rand(count, generator=generator) < 0.1  # C-arm films show metal dark
    if config.photo_share:
        photographed = torch.rand(count, generator=generator) < config.photo_share
        films = films + photographed.numpy()[:, None] * (len(context) // 2)
    strips = []
    for column in range(columns):
        angle = uniform(config.rotation_degrees * np.pi / 180)
        scale_x, scale_y = inner * (1 + uniform(config.box_jitter)), inner * (1 + uniform(config.box_jitter))
        shift_x, shift_y = uniform(config.box_jitter) * inner, uniform(config.box_jitter) * inner
        cosine, sine = angle.cos(), angle.sin()
        theta = torch.stack(
            [
                torch.stack([scale_x * cosine * flip, -scale_y * sine, shift_x], dim=1),
                torch.stack([scale_x * sine * flip, scale_y * cosine, shift_y], dim=1),
            ],
            dim=1,
        )[own]
        grid = functional.affine_grid(theta, [len(theta), 1, config.side, config.side], align_corners=False)
        squares = functional.grid_sample(context[films[own, column]].float() / 255, grid, align_corners=False)
        strips.append(functional.avg_pool2d(squares, (1, columns)) if member.layout == SIDE_BY_SIDE else squares)
    crops = torch.cat(strips, dim=3)
    crops = (crops - 0.5) * gain[own].reshape(-1, 1, 1, 1) + 0.5 + offset[own].reshape(-1, 1, 1, 1)
    crops = torch.where(invert[own].reshape(-1, 1, 1, 1), 1 - crops, crops).clamp(0, 1)
    return vary_crops(crops, count, config, generator, own)


def crop_films(films: FilmSet, boxes: NDArray[np.float32], rows: NDArray[np.int64], side: int, margin: float) -> Tensor:
    """Crop as the pipeline does.

    Parameters
    ----------
    rows
        int (N, 1), or (N, views) for films side by side: film indices.
    side, margin
        See `cache_context`.

    Returns
    -------
    float32 (N, 1, side, side) in [0, 1].
    """
    width = side // rows.shape[1]
    crops = torch.empty(len(rows), 1, side, side)
    for index, row in enumerate(rows):
        for column, film in enumerate(row):
            canvas = torch.from_numpy(np.array(films.canvases[film])).float()[None, None] / 255
            box = expand_boxes(torch.from_numpy(boxes[film])[None], canvas.shape[-1], margin)
            crops[index, :, :, column * width : (column + 1) * width] = crop_and_resize(canvas, box, side, width)[0]
    return crops


def classify_crops(network: nn.Module, crops: Tensor, batch: int = 32) -> Tensor:
    """Return probabilities float32 (N, K) of crops (N, 1, side, side) on the CPU, in eval mode."""
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        return torch.cat([network(part.to(device)).float().softmax(dim=1).cpu() for part in crops.split(batch)])  # type: ignore[no-untyped-call]
