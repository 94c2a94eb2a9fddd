"""What is on the screen: a film in the window of a viewer, with tools, text and perhaps a second film around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from edgekit.phantom.marks.page import set_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.types import Box

_DISPLAYS = ((1920, 1080), (1920, 1200), (2048, 1536))
"""Device pixels: two office displays and one of 3 megapixels as they stand in reading rooms."""
_Colour = tuple[int, int, int]
_THEMES: tuple[tuple[_Colour, _Colour, _Colour], ...] = (  # window frame, tool bar, letters
    ((38, 40, 44), (52, 55, 60), (205, 208, 212)),
    ((16, 17, 20), (28, 30, 34), (170, 175, 182)),
    ((30, 42, 58), (44, 60, 82), (198, 214, 232)),
    ((222, 224, 228), (240, 240, 242), (40, 42, 46)),  # one in light grey
)
_ACCENTS: tuple[_Colour, ...] = ((255, 170, 40), (80, 160, 255), (250, 230, 90), (110, 220, 140))
_MENU = ("File", "Edit", "View", "Image", "Tools", "Series", "Layout", "Window", "Help")
_NOTES = (
    "W {0}{1} L {1}{0}",
    "Zoom {0} %",
    "SIMULATED",
    "L-Spine",
    "kVp {0}",
    "Se: 1",
    "Im: 1/1",
    "Img 1/2",
    "Lossless",
    "EI {0}{1}",
    "ID {1}{0}{1}",
)


@dataclass(frozen=True, slots=True, eq=False)
class Screen:
    """A display and what it shows.

    Attributes
    ----------
    pixels
        uint8 (H, W, 3): values of the device pixels.
    film
        Where the film lies, device pixels.
    """

    pixels: NDArray[np.uint8]
    film: Box


def show_film(film: NDArray[np.uint8], rng: np.random.Generator, beside: NDArray[np.uint8] | None = None) -> Screen:
    """Show a film in a viewer, as large as its pane allows.

    Parameters
    ----------
    film
        uint8 (h, w).
    rng
        Decides on display, layout, colours and text.
    beside
        Another film of the patient, for a second pane; it may stay empty all the same.
    """
    width, height = _DISPLAYS[int(rng.choice(len(_DISPLAYS), p=(0.35, 0.45, 0.2)))]
    frame, bar, ink = _THEMES[int(rng.choice(len(_THEMES), p=(0.35, 0.35, 0.15, 0.15)))]
    picture = Image.new("RGB", (width, height), frame)
    draw = ImageDraw.Draw(picture)
    top = _draw_bars(picture, draw, rng, bar, ink)
    bottom = _draw_bottom(picture, draw, rng, bar, ink)
    left = _draw_sidebar(picture, draw, rng, top, bottom, [film] if beside is None else [film, beside])
    panes = _draw_layout(rng, film.shape, left + int(rng.integers(0, 6)), top, width - int(rng.integers(0, 10)), bottom)
    ground = int(rng.choice([0, 0, 0, 6, 18]))
    accent = _ACCENTS[int(rng.integers(len(_ACCENTS)))]
    chosen = int(rng.integers(len(panes)))
    for number, pane in enumerate(panes):
        draw.rectangle((*pane[:2], pane[2] - 1, pane[3] - 1), fill=(ground,) * 3, outline=accent if number == chosen else (70, 72, 76))
    place = _insert(picture, film, panes[chosen], rng)
    for number, pane in enumerate(panes):
        if number != chosen and beside is not None and rng.random() < 0.75:
            _insert(picture, beside, pane, rng)
        if rng.random() < 0.6:
            _write_notes(picture, pane, rng)
    if rng.random() < 0.5:
        _draw_pointer(draw, float(rng.uniform(left, width)), float(rng.uniform(top, bottom)), height / 1100)
    return Screen(np.asarray(picture), place)


def _draw_layout(rng: np.random.Generator, shape: tuple[int, ...], x0: int, y0: int, x1: int, y1: int) -> list[tuple[int, int, int, int]]:
    """Return one pane, or two side by side with a gap; a broad film mostly has all the room."""
    pair = rng.random() < (0.6 if shape[0] >= shape[1] else 0.25)
    if not pair:
        return [(x0, y0, x1, y1)]
    middle, gap = x0 + round((x1 - x0) * float(rng.choice([0.5, 0.5, 0.45, 0.58]))), int(rng.integers(2, 7))
    return [(x0, y0, middle, y1), (middle + gap, y0, x1, y1)]


def _insert(
    picture: Image.Image, film: NDArray[np.uint8], pane: tuple[int, int, int, int], rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Fit a film into a pane, centred; return where its outer edges are, on whole device pixels."""
    x0, y0, x1, y1 = pane[0] + 2, pane[1] + 2, pane[2] - 2, pane[3] - 2
    height, width = film.shape
    room = float(rng.uniform(0.9, 1.0)) if rng.random() < 0.5 else 1.0
    scale = room * min((x1 - x0) / width, (y1 - y0) / height)
    shown = max(1, round(width * scale)), max(1, round(height * scale))
    x, y = (x0 + x1 - shown[0]) // 2, (y0 + y1 - shown[1]) // 2
    picture.paste(Image.fromarray(film).resize(shown, Image.Resampling.BILINEAR), (x, y))
    return float(x), float(y), float(x + shown[0]), float(y + shown[1])


def _draw_bars(picture: Image.Image, draw: ImageDraw.ImageDraw, rng: np.random.Generator, bar: _Colour, ink: _Colour) -> int:
    """Draw title, menu and tools; return how far they reach down."""
    width = picture.width
    line = int(rng.integers(22, 32))
    letters = max(12, line * 6 // 10)
    number = int(rng.integers(1000, 9999))
    titles = ("Viewer - SIMULATED^{}", "SIMULATED, patient {}   Spine 2 views", "[{}] Study list   CR L-SPINE")
    title = str(rng.choice(titles)).format(number)
    _write(picture, title, 10, (line - letters) // 2, letters, ink)
    for n in range(3):  # minimise, maximise, close
        x = width - (n + 1) * line * 3 // 2
        draw.rectangle((x + 8, line // 2 - 4, x + 17, line // 2 + 4), outline=ink)
    y = line
    if rng.random() < 0.6:
        x = 10
        for word in _MENU[: int(rng.integers(5, len(_MENU) + 1))]:
            x += _write(picture, word, x, y + (line - letters) // 2, letters, ink) + letters
        y += line
    if rng.random() < 0.85:
        side = int(rng.integers(26, 44))
        draw.rectangle((0, y, width, y + side + 10), fill=bar)
        for n in range(int(rng.integers(8, 24))):
            _draw_tool(draw, rng, 12 + n * (side + 8), y + 5, side, ink)
        y += side + 10
    return y + int(rng.integers(0, 5))


def _draw_tool(draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: int, y: int, side: int, ink: _Colour) -> None:
    """Draw one button."""
    inner = side // 4
    a, b, c, d = x + inner, y + inner, x + side - inner, y + side - inner
    match int(rng.integers(6)):
        case 0:
            draw.ellipse((a, b, c, d), outline=ink, width=2)
        case 1:
            draw.rectangle((a, b, c, d), outline=ink, width=2)
        case 2:
            draw.line((a, d, c, b), fill=ink, width=2)
        case 3:
            draw.line((a, (b + d) // 2, c, (b + d) // 2), fill=ink, width=2)
            draw.line(((a + c) // 2, b, (a + c) // 2, d), fill=ink, width=2)
        case 4:
            draw.pieslice((a, b, c, d), 90, 270, fill=ink)
            draw.ellipse((a, b, c, d), outline=ink, width=2)
        case _:
            draw.rectangle((a, b, c, d), fill=_ACCENTS[int(rng.integers(len(_ACCENTS)))])


def _draw_bottom(picture: Image.Image, draw: ImageDraw.ImageDraw, rng: np.random.Generator, bar: _Colour, ink: _Colour) -> int:
    """Draw a status line or the system's task bar, or neither; return where it begins."""
    kind = rng.random()
    if kind < 0.3:
        return picture.height
    side = 24 if kind < 0.6 else 40
    y = picture.height - side
    draw.rectangle((0, y, picture.width, picture.height), fill=bar)
    if kind < 0.6:
        _write(picture, "Ready     1 study loaded", 10, y + 5, 13, ink)
        return y
    for n in range(int(rng.integers(4, 10))):
        draw.rectangle((8 + n * 48, y + 8, 32 + n * 48, y + 32), fill=tuple(int(v) for v in rng.integers(60, 220, 3)))
    _write(picture, f"{rng.integers(7, 19)}:{rng.integers(10, 60)}", picture.width - 70, y + 13, 14, ink)
    return y


def _draw_sidebar(
    picture: Image.Image, draw: ImageDraw.ImageDraw, rng: np.random.Generator, top: int, bottom: int, films: list[NDArray[np.uint8]]
) -> int:
    """Draw the list of films, or nothing; return how far it reaches."""
    if rng.random() < 0.45:
        return 0
    side = int(rng.integers(90, 190))
    draw.rectangle((0, top, side, bottom), fill=(24, 25, 28))
    for n, film in enumerate(films):
        small = Image.fromarray(film).resize((side - 20, side - 20), Image.Resampling.BOX)
        y = top + 10 + n * (side + 8)
        picture.paste(small, (10, y))
        draw.rectangle((9, y - 1, side - 10, y + side - 20), outline=(90, 92, 98))
    return side + 2


def _write_notes(picture: Image.Image, pane: tuple[int, int, int, int], rng: np.random.Generator) -> None:
    """Write a few lines into corners of a pane; they may lie on the film."""
    letters = int(rng.integers(12, 19))
    colour = ((235, 235, 235), (250, 230, 90), (120, 220, 230))[int(rng.integers(3))]
    for corner in rng.permutation(4)[: int(rng.integers(1, 4))]:
        for n, note in enumerate(rng.choice(_NOTES, int(rng.integers(1, 4)), replace=False)):
            mask = set_text(str(note).format(*rng.integers(10, 99, 2)), letters)
            x = pane[0] + 8 if corner % 2 == 0 else pane[2] - mask.width - 8
            y = pane[1] + 8 + n * (letters + 4) if corner < 2 else pane[3] - (n + 1) * (letters + 4) - 6
            picture.paste(colour, (x, y), mask)


def _write(picture: Image.Image, words: str, x: int, y: int, letters: int, colour: _Colour) -> int:
    """Write a line; return its width."""
    mask = set_text(words, letters)
    picture.paste(colour, (x, y), mask)
    return mask.width


def _draw_pointer(draw: ImageDraw.ImageDraw, x: float, y: float, size: float) -> None:
    outline = np.array([(0, 0), (0, 17), (4, 13), (7, 19), (10, 18), (7, 12), (12, 12)]) * size + (x, y)
    draw.polygon([(float(a), float(b)) for a, b in outline], fill=(250, 250, 250), outline=(10, 10, 10))
