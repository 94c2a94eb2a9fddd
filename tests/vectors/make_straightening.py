"""Write tests/vectors/straightening: photos of films, their corners, and what docs/straightening.md makes of them.

Everything expected is a direct double-precision evaluation of that page and of docs/canvas.md, by scipy's interpolation and plain matrices,
not by the implementations that it tests. Run it after the page has changed: python tests/vectors/make_straightening.py
"""

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

FOLDER = Path(__file__).parent / "straightening"
VECTORS = {
    "tilted": ([[18.4, 31.2], [150.7, 12.6], [166.3, 214.8], [25.1, 190.5]], (180, 230), 160, "gray; a portrait film seen from the right"),
    "rolled": ([[30.5, 44.0], [196.2, 8.5], [214.6, 120.1], [40.3, 148.8]], (240, 160), 96, "gray; a landscape film, rolled and tilted"),
    "colour": ([[12.0, 9.5], [104.3, 14.1], [99.8, 128.6], [15.2, 133.9]], (120, 144), 128, "RGB: luminance first; noisy and tinted"),
    "beyond": ([[-6.5, 4.2], [91.7, -3.8], [104.9, 92.4], [5.6, 99.3]], (100, 96), 64, "gray; corners outside of the photo"),
    "frontal": ([[10.0, 8.0], [90.0, 8.0], [90.0, 68.0], [10.0, 68.0]], (110, 80), 80, "gray; no perspective at all: a plain crop"),
}  # fmt: skip
"""By name: corners, size of the photo, side of the canvas, what it is."""


def specify_homography(corners: np.ndarray, width: float, height: float) -> np.ndarray:
    """Map the rectangle (0, 0, width, height) to the corners: the null space of the direct linear transform."""
    equations = []
    for (x, y), (u, v) in zip([(0, 0), (width, 0), (width, height), (0, height)], corners, strict=True):
        equations += [[x, y, 1, 0, 0, 0, -u * x, -u * y, -u], [0, 0, 0, x, y, 1, -v * x, -v * y, -v]]
    return np.linalg.svd(np.array(equations, float))[2][-1].reshape(3, 3)


def specify_size(corners: np.ndarray, width: int, height: int) -> tuple[int, int]:
    """Zhang and He 2007, equations 9 and 11, with the paper's own cross products."""
    focal = 0.75 * max(width, height)
    first, second, fourth, third = (np.array([x - width / 2, y - height / 2, 1]) for x, y in corners)
    k2 = np.cross(first, fourth) @ third / (np.cross(second, fourth) @ third)
    k3 = np.cross(first, fourth) @ second / (np.cross(third, fourth) @ second)
    lens = np.diag([1 / focal, 1 / focal, 1])
    aspect = np.linalg.norm(lens @ (k2 * second - first)) / np.linalg.norm(lens @ (k3 * third - first))
    top, right, bottom, left = (math.dist(corners[n], corners[(n + 1) % 4]) for n in range(4))
    across = max(top, bottom, aspect * max(left, right))
    return math.floor(across + 0.5), math.floor(across / aspect + 0.5)


def specify_film(grey: np.ndarray, corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    matrix = specify_homography(corners, *size)
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    u, v, w = np.einsum("ij,jkl->ikl", matrix, np.stack([x, y, np.ones_like(x)]))
    return np.floor(map_coordinates(grey.astype(float), [v / w - 0.5, u / w - 0.5], order=1, mode="nearest") + 0.5).astype(np.uint8)


def specify_canvas(film: np.ndarray, side: int) -> np.ndarray:
    """docs/canvas.md, 2 and 3."""
    height, width = film.shape
    covered = [max(1, math.floor(length * side / max(width, height) + 0.5)) for length in (height, width)]
    rows, columns = (_weigh(n, m) for n, m in zip(film.shape, covered, strict=True))
    canvas = np.zeros((side, side), np.uint8)
    top, left = ((side - length) // 2 for length in covered)
    canvas[top : top + covered[0], left : left + covered[1]] = np.floor(rows @ film @ columns.T + 0.5)
    return canvas


def _weigh(n: int, m: int) -> np.ndarray:
    centres = (np.arange(m) + 0.5) * n / m
    weights = np.maximum(0, 1 - np.abs(np.arange(n) + 0.5 - centres[:, None]) / max(n / m, 1))
    return weights / weights.sum(axis=1, keepdims=True)


def paint_photo(name: str, corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Paint a zone plate on the film's plane, which shows wrong interpolation at once, over a dark room."""
    width, height = size
    matrix = np.linalg.inv(specify_homography(corners, 1, 1))
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    u, v, w = np.einsum("ij,jkl->ikl", matrix, np.stack([x, y, np.ones_like(x)]))
    u, v = u / w, v / w
    rings = 0.5 + 0.4 * np.cos(40 * ((u - 0.4) ** 2 + 1.6 * (v - 0.5) ** 2)) * (1 - 0.5 * u)
    inside = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    light = gaussian_filter(np.where(inside, rings, 0.06 + 0.1 * x / width), 0.5)
    if name != "colour":
        return np.floor(255 * light + 0.5).astype(np.uint8)
    noise = np.random.default_rng(7).normal(0, 0.04, (height, width, 3))
    return np.clip(255 * (light[..., None] * (0.8, 0.95, 1.05) + noise) + 0.5, 0, 255).astype(np.uint8)


def turn_grey(photo: np.ndarray) -> np.ndarray:
    """docs/canvas.md, 1."""
    return (photo.astype(np.int64) @ (19595, 38470, 7471) + 32768 >> 16).astype(np.uint8) if photo.ndim == 3 else photo


def main() -> None:
    """Write the folder anew."""
    FOLDER.mkdir(exist_ok=True)
    listed = []
    for name, (given, size, side, about) in VECTORS.items():
        corners = np.array(given)
        photo = paint_photo(name, corners, size)
        film_size = specify_size(corners, *size)
        film = specify_film(turn_grey(photo), corners, film_size)
        files = {"photo": f"{name}.png", "film": f"{name}.film.png", "canvas": f"{name}.canvas.png"}
        for kind, pixels in (("photo", photo), ("film", film), ("canvas", specify_canvas(film, side))):
            Image.fromarray(pixels).save(FOLDER / files[kind], optimize=True)
        listed.append(json.dumps({**files, "corners": given, "size": film_size, "side": side, "about": about}))
    lines = ",\n    ".join(listed)
    (FOLDER / "index.json").write_text(f'{{\n  "tolerance": {{"max": 2, "mean": 0.3}},\n  "vectors": [\n    {lines}\n  ]\n}}\n')


if __name__ == "__main__":
    main()
