"""The film in a photo of a screen: a network that sees its four edges, and the corners where these meet.

::

    photo ─► canvas of 320 x 320 (docs/canvas.md) ─► where each edge runs, 4 x 80 x 80 ─► a line each ─► corners
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 320
"""Side of the canvas that the network looks at, pixels."""
CELL = 4
"""Pixels of the canvas a side of each cell of the answer."""
EDGES = ("top", "right", "bottom", "left")
MIRRORED = [0, 3, 2, 1]
"""Which of `EDGES` each becomes in a mirror."""
WIDTHS = (16, 24, 32, 48, 48)
"""Channels at each halving of the resolution."""

_SLOPES = np.arange(-24, 25) / 40
"""Slopes of an edge against its axis that are tried, tangents."""
_BANDS = (2.5, 1.8, 1.8)
"""Cells on either side of a line that the next, finer one is fitted to."""


class CornerFinder(nn.Module):
    """A small U-shaped network. Attention at the lowest resolution lets what is far away decide where an edge that can't be seen runs."""

    side = SIDE

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d, e = WIDTHS
        self.stem = _layer(1, a, 5, stride=2)
        self.down = nn.ModuleList(
            [
                nn.Sequential(_layer(a, b, 3, stride=2), _Residual(b)),
                nn.Sequential(_layer(b, c, 3, stride=2), _Residual(c)),
                nn.Sequential(_Halving(c, d), _Context(d, 7), _Context(d, 7)),
                nn.Sequential(_Halving(d, e), _Attention(e), _Attention(e)),
            ]
        )
        self.across = nn.ModuleList([_plain(width, 24 if n == 0 else c) for n, width in enumerate((b, c, d, e))])
        self.up = nn.ModuleList([_Residual(24), nn.Sequential(_Context(c, 5)), nn.Sequential(_Context(c, 7))])
        self.narrow = _plain(c, 24)
        self.head = nn.Conv2d(24, len(EDGES), 1)

    def forward(self, photo: Tensor) -> Tensor:
        """Return float32 (N, 4, 80, 80): logarithms of the probabilities of the cells that each of `EDGES` runs through, up to a constant.

        Parameters
        ----------
        photo
            uint8 (N, 1, 320, 320): canvases of photos.
        """
        x = self.stem(photo.float() / 255 - 0.3)
        levels = []
        for stage in self.down:
            x = stage(x)
            levels.append(x)
        y = self.across[3](levels[3])
        y = self.up[2](_enlarge(y) + self.across[2](levels[2]))
        y = self.up[1](_enlarge(y) + self.across[1](levels[1]))
        y = self.up[0](_enlarge(self.narrow(y)) + self.across[0](levels[0]))
        logits: Tensor = self.head(y)
        return logits


class EdgeMaps(nn.Module):
    """A `CornerFinder` as it ships: its answer as probabilities, each map's sum 1, the mean of a photo's and of its mirror image's."""

    def __init__(self, finder: CornerFinder) -> None:
        super().__init__()
        self.finder = finder

    def forward(self, photo: Tensor) -> Tensor:
        """Return float32 (N, 4, 80, 80)."""
        logits: Tensor = self.finder(torch.cat([photo, photo.flip(3)]))
        maps, mirrored = logits.flatten(2).softmax(dim=2).view_as(logits).chunk(2)
        return (maps + mirrored.flip(3)[:, MIRRORED]) / 2


def find_corners(edges: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """Return where the edges meet, and how sure that is.

    Each edge is the straight line that collects most of its map: of all lines through the middle of each column (row) at a fixed set of
    slopes the best, then three times the least-squares line of what lies near it.

    Parameters
    ----------
    edges
        float (4, 80, 80), each map's sum 1: see `EdgeMaps`.

    Returns
    -------
    corners
        float64 (4, 2): top-left, top-right, bottom-right, bottom-left as x, y in pixels of the canvas.
    confidence
        0 to 1: the share of its map that lies near the line, of the edge with the least.
    """
    maps = np.asarray(edges, np.float64)
    top, right, bottom, left = (_fit_line(maps[n].T if n % 2 == 0 else maps[n]) for n in range(4))
    middle = maps.shape[1] / 2 - 0.5
    corners = []
    for upright, level in ((left, top), (right, top), (right, bottom), (left, bottom)):
        x = (upright[0] + upright[1] * (level[0] - middle - level[1] * middle)) / (1 - upright[1] * level[1])
        corners.append((x, level[0] + level[1] * (x - middle)))
    return (np.array(corners) + 0.5) * CELL, min(line[2] for line in (top, right, bottom, left))


def _fit_line(weights: NDArray[np.float64]) -> tuple[float, float, float]:
    """Fit x = at + slope (y - middle) to float64 (rows, columns); return at, slope and the share of the weights near it."""
    rows, columns = weights.shape
    y = np.arange(rows) - (rows / 2 - 0.5)
    places, shares = _list_lines(rows, columns)
    padded = np.pad(weights, ((0, 0), (2, 2))).ravel()
    sums = (padded[places] * (1 - shares) + padded[places + 1] * shares).sum(axis=2)
    best = int(sums.argmax())
    at, slope = float(best // len(_SLOPES)), float(_SLOPES[best % len(_SLOPES)])
    near = weights
    for band in _BANDS:
        near = weights * (np.abs(np.arange(columns) - (at + slope * y)[:, None]) < band)
        total, across, down = near.sum(), (near * np.arange(columns)).sum(), (near.sum(axis=1) * y).sum()
        squares, products = (near.sum(axis=1) * y**2).sum(), ((near * np.arange(columns)).sum(axis=1) * y).sum()
        spread = total * squares - down**2
        if spread <= 0:  # nothing near it, or in one row alone
            break
        slope = (total * products - across * down) / spread
        at = (across - slope * down) / total
    return at, slope, float(near.sum())


@lru_cache(maxsize=1)
def _list_lines(rows: int, columns: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return where the lines that are tried cross each row: (offset, slope, row), places in the padded map and shares of the next one."""
    y = np.arange(rows) - (rows / 2 - 0.5)
    x = np.arange(columns)[:, None, None] + _SLOPES[:, None] * y
    low = np.floor(x)
    places = np.arange(rows) * (columns + 4) + np.clip(low, -2, columns) + 2
    return places.astype(np.int32), x - low


def draw_edges(corners: Tensor, sigma: float = 0.7) -> Tensor:
    """Return float32 (N, 4, 80, 80), each map's sum 1: what the network should answer for corners.

    Parameters
    ----------
    corners
        float32 (N, 4, 2), pixels of the canvas.
    sigma
        Standard deviation across the edge, cells.
    """
    start = (corners / CELL - 0.5)[..., None, None]
    way = start.roll(-1, dims=1) - start
    cells = torch.arange(SIDE // CELL, dtype=corners.dtype, device=corners.device)
    x, y = cells[None, :] - start[:, :, 0], cells[:, None] - start[:, :, 1]
    dx, dy = way[:, :, 0], way[:, :, 1]
    share = ((x * dx + y * dy) / (dx**2 + dy**2)).clamp(0, 1)
    ridges = torch.exp(-((x - share * dx) ** 2 + (y - share * dy) ** 2) / (2 * sigma**2))
    return ridges / ridges.sum(dim=(2, 3), keepdim=True)


def _layer(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(*_plain(inputs, outputs, kernel, stride=stride, groups=groups), nn.ReLU(inplace=True))


def _plain(inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a convolution and its normalization, without an activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


def _enlarge(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_layer(width, width, 3), _plain(width, width, 3))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.body(x))


class _Halving(nn.Sequential):
    """Half the resolution, one channel at a time, then a mix of channels: a ninth of a convolution's weights."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(_plain(inputs, inputs, 3, stride=2, groups=inputs), _layer(inputs, outputs, 1))


class _Context(nn.Module):
    """A wide depthwise convolution and two pointwise ones (Liu et al. 2022, A ConvNet for the 2020s)."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_plain(width, width, kernel, groups=width), _layer(width, 2 * width, 1), _plain(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.body(x)
        return x + added


class _Attention(nn.Module):
    """A transformer's encoder layer over the 10 x 10 places (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.places = nn.Parameter(0.02 * torch.randn(1, (SIDE // 32) ** 2, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.queries = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.body = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        count, width, height, across = x.shape
        tokens = x.flatten(2).transpose(1, 2) + self.places
        parts = self.queries(self.norms[0](tokens)).view(count, height * across, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        tokens = tokens + self.mix(seen.reshape(count, height * across, width))
        tokens = tokens + self.body(self.norms[1](tokens))
        result: Tensor = tokens.transpose(1, 2).view(count, width, height, across)
        return result
