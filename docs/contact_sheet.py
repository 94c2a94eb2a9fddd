"""Draw docs/images/films.jpg: one row a design; AP and lateral at site a, the same at site b, and a photograph of a screen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edgekit.phantom.metal.implants import DESIGNS, UNSEEN
from edgekit.phantom.photo.snapshot import photograph
from edgekit.phantom.scene import simulate_patient

CELL = (250, 290)
COLUMNS = ("AP, site a", "lateral, site a", "AP, site b", "lateral, site b", "photo of a screen")
HEAD, SIDE = 26, 84


def fit(picture: Image.Image) -> Image.Image:
    """Return the picture inside a cell, on black."""
    small = picture.convert("RGB")
    small.thumbnail(CELL, Image.Resampling.LANCZOS)
    cell = Image.new("RGB", CELL)
    cell.paste(small, ((CELL[0] - small.width) // 2, (CELL[1] - small.height) // 2))
    return cell


def main() -> None:
    """Draw the sheet."""
    designs = [*DESIGNS, *UNSEEN]
    sheet = Image.new("RGB", (SIDE + CELL[0] * len(COLUMNS), HEAD + CELL[1] * len(designs)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for column, title in enumerate(COLUMNS):
        draw.text((SIDE + CELL[0] * column + 8, 4), title, fill="black", font=font)
    for row, design in enumerate(designs):
        draw.text((6, HEAD + CELL[1] * row + 8), design, fill="black", font=font)
        pictures = []
        for site in ("a", "b"):
            films = simulate_patient(design, 100 + row, size=900, has_crosslink=None, site=site)
            pictures += [Image.fromarray(film.display) for film in films.values()]
        pictures.append(Image.fromarray(photograph(np.asarray(pictures[row % 2]), np.random.default_rng(row), "moderate").pixels))
        for column, picture in enumerate(pictures):
            sheet.paste(fit(picture), (SIDE + CELL[0] * column, HEAD + CELL[1] * row))
    sheet.save(Path(__file__).parent / "images" / "films.jpg", quality=72, optimize=True)


if __name__ == "__main__":
    main()
