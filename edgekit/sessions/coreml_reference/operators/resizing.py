"""Images resized, cropped and resampled.

Sources: the docstrings of ``coremltools.converters.mil.mil.ops.defs`` (``image_resizing``, iOS 15 to 17); `sample_points` is the table of
``resize_bilinear``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from edgekit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Ints = tuple[int, ...]


def sample_points(first: float, last: float, count: int, mode: str) -> Tensor:
    """Positions at which the interval between the pixels `first` and `last` is sampled `count` times, float32 (count,); not clipped."""
    steps, side = torch.arange(count, dtype=torch.float32), last - first + 1
    match mode:
        case "STRICT_ALIGN_CORNERS" | "ALIGN_CORNERS":
            if count == 1:
                return torch.tensor([(first + last) / 2 if mode == "ALIGN_CORNERS" else first])
            return first + steps * ((side - 1) / (count - 1))
        case "DEFAULT":
            return first + steps * (side / count)
        case "OFFSET_CORNERS":
            return first + (steps + 0.5) * (max(1.0, side - 1) / count)
        case "UNALIGN_CORNERS":
            return first + (steps + 0.5) * (side / count) - 0.5
    raise InputError(f"unknown sampling_mode {mode!r}")


def interpolate(x: Tensor, axis: int, points: Tensor) -> Tensor:
    """Interpolate linearly along `axis` at `points`, float (count,), clipped to the pixels that there are."""
    points = points.clamp(0.0, float(x.shape[axis] - 1))
    low = points.floor().long()
    high = (low + 1).clamp(max=x.shape[axis] - 1)
    share = (points - low).reshape(-1, *[1] * (x.ndim - 1 - axis % x.ndim))
    return x.index_select(axis, low) * (1 - share) + x.index_select(axis, high) * share


def _resize_bilinear(x: Tensor, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT") -> Tensor:
    for axis, count in ((-2, target_size_height), (-1, target_size_width)):
        x = interpolate(x, axis, sample_points(0, x.shape[axis] - 1, count, sampling_mode))
    return x


def _upsample_bilinear(
    x: Tensor,
    scale_factor_height: float = 1.0,
    scale_factor_width: float = 1.0,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    half_pixel_centers = not align_corners if half_pixel_centers is None else half_pixel_centers
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if half_pixel_centers else "DEFAULT"
    height, width = math.floor(x.shape[-2] * scale_factor_height), math.floor(x.shape[-1] * scale_factor_width)
    return _resize_bilinear(x, height, width, mode)


def _nearest(x: Tensor, axis: int, count: int, step: float) -> Tensor:
    places = (torch.arange(count, dtype=torch.float32) * step).floor().long().clamp(max=x.shape[axis] - 1)
    return x.index_select(axis, places)


def _upsample_nearest_neighbor(x: Tensor, scale_factor_height: float = 1.0, scale_factor_width: float = 1.0) -> Tensor:
    for axis, scale in ((-2, scale_factor_height), (-1, scale_factor_width)):
        x = _nearest(x, axis, math.floor(x.shape[axis] * scale), 1 / scale)
    return x


def _resize_nearest_neighbor(x: Tensor, target_size_height: int, target_size_width: int) -> Tensor:
    for axis, count in ((-2, target_size_height), (-1, target_size_width)):
        x = _nearest(x, axis, count, x.shape[axis] / count)
    return x


def _resize(x: Tensor, shape: Ints, resized_dims: int, interpolation_mode: str = "LINEAR", sampling_mode: str = "DEFAULT") -> Tensor:
    """Resize the last `resized_dims` axes to the last entries of `shape`; 0 keeps a side (iOS 17)."""
    for axis in range(-resized_dims, 0):
        count = shape[axis] or x.shape[axis]
        if interpolation_mode == "LINEAR":
            x = interpolate(x, axis, sample_points(0, x.shape[axis] - 1, count, sampling_mode))
        elif sampling_mode == "DEFAULT":
            x = _nearest(x, axis, count, x.shape[axis] / count)
        else:
            raise InputError(f"what {interpolation_mode} means with the sampling mode {sampling_mode} is not documented")
    return x


def _crop(x: Tensor, crop_height: Ints, crop_width: Ints) -> Tensor:
    height, width = x.shape[-2:]
    return x[..., crop_height[0] : height - crop_height[1], crop_width[0] : width - crop_width[1]]


def _crop_resize(
    x: Tensor,
    roi: Tensor | None = None,
    boxes: Tensor | None = None,
    box_indices: Tensor | None = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> Tensor:
    """Crop boxes and resize each.

    iOS 15 and 16 give `roi` (N, 1, 4 or 5, 1, 1), whose fifth value in front is an index into the batch, and get (N, B or 1, C, h, w);
    iOS 17 gives `boxes` (N, 4) with `box_indices` (N,) and gets (N, C, h, w).
    """
    if boxes is None:
        if roi is None:
            raise InputError("a crop_resize has neither roi nor boxes")
        rows = roi.reshape(roi.shape[0], -1)
        whole_batch = rows.shape[1] == 4
        boxes, indices = rows[:, -4:], None if whole_batch else rows[:, 0].long()
    else:
        whole_batch = False
        indices = torch.arange(boxes.shape[0]) if box_indices is None else box_indices.long()
    crops = []
    for row, box in enumerate(boxes.tolist()):
        images = x if whole_batch or indices is None else x[indices[row] : indices[row] + 1]
        top, left, bottom, right = _read_box(box, box_coordinate_mode)
        sides = [(side - 1 if normalized_coordinates else 1) * spatial_scale for side in x.shape[-2:]]
        vertical = sample_points(top * sides[0], bottom * sides[0], target_height, sampling_mode)
        horizontal = sample_points(left * sides[1], right * sides[1], target_width, sampling_mode)
        crop = interpolate(interpolate(images, -2, vertical), -1, horizontal)
        inside = [(points >= 0) & (points <= side - 1) for points, side in zip((vertical, horizontal), x.shape[-2:], strict=True)]
        crops.append(torch.where(inside[0].unsqueeze(1) & inside[1], crop, pad_value))
    return torch.stack(crops) if roi is not None else torch.cat(crops)


def _read_box(box: list[float], mode: str) -> tuple[float, float, float, float]:
    """Return top, left, bottom, right."""
    a, b, c, d = box
    match mode:
        case "CORNERS_HEIGHT_FIRST":
            return a, b, c, d
        case "CORNERS_WIDTH_FIRST":
            return b, a, d, c
        case "CENTER_SIZE_HEIGHT_FIRST":
            return a - c / 2, b - d / 2, a + c / 2, b + d / 2
        case "CENTER_SIZE_WIDTH_FIRST":
            return b - d / 2, a - c / 2, b + d / 2, a + c / 2
    raise InputError(f"unknown box_coordinate_mode {mode!r}")


def _resample(
    x: Tensor,
    coordinates: Tensor,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """Sample `x` (B, C, H, W) at `coordinates` (B, h, w, 2), x before y."""
    grid = []
    for part, side in zip(coordinates.float().unbind(-1), (x.shape[3], x.shape[2]), strict=True):
        place = _unnormalize(part, side, coordinates_mode, align_corners)
        if padding_mode == "reflection":
            place = (side - 1) - (place.abs() % (2 * max(1, side - 1)) - (side - 1)).abs()
        elif padding_mode == "symmetric":
            place = side - ((place + 0.5).abs() % (2 * side) - side).abs() - 0.5
        elif padding_mode not in ("constant", "border"):
            raise InputError(f"unknown padding_mode {padding_mode!r}")
        grid.append(2 * place / max(1, side - 1) - 1)
    outside = padding_value if padding_mode == "constant" else 0.0
    padding = "zeros" if padding_mode == "constant" else "border"
    return functional.grid_sample(x - outside, torch.stack(grid, -1), sampling_mode, padding, align_corners=True) + outside


def _unnormalize(places: Tensor, side: int, mode: str, align_corners: bool) -> Tensor:
    """Return positions in pixels, 0 at the centre of the first."""
    match mode:
        case "unnormalized":
            return places
        case "normalized_minus_one_to_one":
            share = (places + 1) / 2
        case "normalized_zero_to_one":
            share = places
        case _:
            raise InputError(f"unknown coordinates_mode {mode!r}")
    return share * (side - 1) if align_corners else share * side - 0.5


def _affine(
    x: Tensor,
    transform_matrix: Tensor,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    if (padding_mode, padding_value, coordinates_mode) != ("constant", 0.0, "normalized_minus_one_to_one"):
        raise InputError(f"an affine with padding {padding_mode} {padding_value} in {coordinates_mode} coordinates is not defined")
    matrices = transform_matrix.reshape(-1, 2, 3).expand(x.shape[0], 2, 3)
    grid = functional.affine_grid(matrices, [x.shape[0], x.shape[1], output_height, output_width], align_corners=align_corners)
    return functional.grid_sample(x, grid, sampling_mode, "zeros", align_corners=align_corners)


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "affine": _affine,
    "crop": _crop,
    "crop_resize": _crop_resize,
    "resample": _resample,
    "resize": _resize,
    "resize_bilinear": _resize_bilinear,
    "resize_nearest_neighbor": _resize_nearest_neighbor,
    "upsample_bilinear": _upsample_bilinear,
    "upsample_nearest_neighbor": _upsample_nearest_neighbor,
}
