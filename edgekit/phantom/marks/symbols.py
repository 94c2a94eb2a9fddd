"""The marks themselves: side letters, words, blocks of text, arrows, measuring lines, figures, rulers, bars, frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from edgekit.phantom.marks.page import Page, set_text

if TYPE_CHECKING:
    from collections.abc import Callable

_SIDES = ("L", "R", "LT", "RT", "LEFT", "RIGHT", "L", "R", "(L)", "(R)", "ML", "PA", "AP")
_WORDS = (
    "STANDING", "ERECT", "SUPINE", "PRONE", "FLEX", "FLEXION", "EXT", "EXTENSION", "NEUTRAL", "LAT", "LATERAL", "PORT", "PORTABLE",
    "XTABLE", "AP", "PA", "POST OP", "PRE OP", "WEIGHT BEARING", "SEATED", "UPRIGHT", "OBL", "SWIMMERS", "L-SPINE", "C SPINE",
    "T-SPINE", "LWS", "HWS", "a.p.", "seitl.", "DEBOUT", "L5", "L4", "S1", "C7", "T12", "A", "B", "C", "*", "1", "2", "a", "b", "?",
)  # fmt: skip
_LINES = (
    "ID: ******", "NAME: XXXXXXXX", "XXXX, XXXX", "DOB: **/**/****", "M", "F", "Se: {n}", "Im: {n}/{n}", "W: {w} L: {w}", "Zoom {n}%",
    "{d}/{n}/20{d}", "20{d}-{d}-{d}", "{d}:{d}:{d}", "{d}:{d}", "{n} kVp {n} mAs", "kV {n}", "mA {w}", "Acc: {w}{w}", "Study {w}",
    "Radiology Dept", "GENERAL HOSPITAL", "ROOM {n}", "Tech: XX", "DR {n}", "EI {w}", "S {w}", "SID 115 cm", "Lossy 1:{n}", "Index {n}",
    "WL {w} WW {w}", "Not for diagnosis", "LUMBAR SPINE 2V", "CR {n}",
)  # fmt: skip


def _fill_in(text: str, rng: np.random.Generator) -> str:
    while "{" in text:
        kind = text[text.index("{") + 1]
        low, high = {"d": (10, 60), "n": (1, 130), "w": (100, 4000)}[kind]
        text = text.replace("{" + kind + "}", str(int(rng.integers(low, high))), 1)
    return text


def _mark_side(page: Page) -> None:
    rng = page.rng
    text, letters = str(rng.choice(_SIDES)), round(page.draw_letters() * rng.uniform(1.0, 1.8))
    value = page.draw_grey() if rng.random() < 0.3 else float(rng.uniform(0.85, 1.0))
    x, y = page.find_spot(letters * 1.2, letters * 1.2, edge=rng.random() < 0.75)
    if rng.random() < 0.15:  # a lead plate: dark letter cut out of a bright disc
        w = len(text) * letters
        page.fill(x - 0.3 * letters, y - 0.3 * letters, w + 0.2 * letters, 1.5 * letters, value)
        value = 1 - value
    style = {"mirrored": rng.random() < 0.12, "bold": rng.random() < 0.5, "turned": rng.random() < 0.15}
    w, h = page.write(text, x, y, letters, value, **style)
    if rng.random() < 0.2:
        radius, angle = 0.75 * max(w, h), np.linspace(0, 2 * np.pi, 24)
        ring = np.column_stack([x + w / 2 + radius * np.cos(angle), y + h / 2 + radius * np.sin(angle)])
        page.stroke(ring, value, max(1, letters // 9))
    if rng.random() < 0.25:
        page.write(str(rng.choice(["JS", "MK", "12", "7", "AB", "RT", "XX"])), x, y + 1.3 * h, max(7, letters // 2), value)
    if rng.random() < 0.2:  # beads that roll down in an upright marker
        bead = max(2, letters // 7)
        dots = Image.new("L", (6 * bead, 3 * bead))
        for number in range(3):
            ImageDraw.Draw(dots).ellipse((2 * number * bead, 0, (2 * number + 1.4) * bead, 1.4 * bead), fill=255)
        page.blend(dots, x, y + 1.2 * h, value)


def _mark_word(page: Page) -> None:
    rng, letters = page.rng, page.draw_letters()
    text = _fill_in(str(rng.choice(_WORDS if rng.random() < 0.75 else _LINES)), rng)
    x, y = page.find_spot(0.55 * letters * len(text), letters, edge=rng.random() < 0.6)
    style = {"bold": rng.random() < 0.3, "turned": rng.random() < 0.12, "mirrored": rng.random() < 0.04, "shadow": rng.random() < 0.2}
    value = page.draw_grey()
    if rng.random() < 0.12:
        page.fill(x - 3, y - 3, 0.6 * letters * len(text) + 6, letters + 6, 1 - value, 0.9)
    page.write(text, x, y, letters, value, **style)


def _mark_block(page: Page) -> None:
    rng = page.rng
    letters = max(7, round(page.draw_letters() * 0.55))
    count = int(rng.integers(2, 7))
    right, low = rng.random() < 0.5, rng.random() < 0.5
    value, margin, y = page.draw_grey(), rng.uniform(0.005, 0.03) * page.short, 0.0
    lines = [set_text(_fill_in(str(text), rng), letters) for text in rng.choice(_LINES, count)]
    step = round(1.25 * letters)
    y = page.height - margin - step * count if low else margin
    for line in lines:
        page.blend(line, page.width - margin - line.width if right else margin, y, value)
        y += step


def _mark_arrow(page: Page) -> None:
    rng = page.rng
    tip, angle = page.near_centre(0.16), rng.uniform(0, 2 * np.pi)
    length, head = page.short * rng.uniform(0.05, 0.16), page.short * rng.uniform(0.015, 0.035)
    value, width = page.draw_grey(), max(page.draw_stroke(), page.short // 250)
    way = np.array([np.cos(angle), np.sin(angle)])
    side = np.array([-way[1], way[0]])
    if rng.random() < 0.6:
        page.stroke(np.array([tip + way * 0.6 * head, tip + way * length]), value, width)
    wings = np.array([tip + (way + 0.6 * side) * head, tip, tip + (way - 0.6 * side) * head])
    if rng.random() < 0.6:
        corner = np.floor(wings.min(axis=0)) - 1
        size = np.ceil(wings.max(axis=0)) + 2 - corner
        mask = Image.new("L", (int(size[0]), int(size[1])))
        ImageDraw.Draw(mask).polygon([(float(a), float(b)) for a, b in wings - corner], fill=255)
        page.blend(mask, corner[0], corner[1], value)
    else:
        page.stroke(wings, value, width)


def _mark_line(page: Page) -> None:
    rng, value, width = page.rng, page.draw_grey(), page.draw_stroke()
    letters = max(8, round(0.7 * page.draw_letters()))
    kind = str(rng.choice(["cobb", "plumb", "caliper", "spine"]))
    middle = page.near_centre(0.06)
    if kind == "cobb":
        tilts = rng.normal(0, 18, 2)
        ends = []
        for number, tilt in enumerate(np.deg2rad(tilts)):
            way = np.array([np.cos(tilt), np.sin(tilt)]) * page.width * rng.uniform(0.12, 0.32)
            spot = middle + np.array([0, (number - 0.5) * page.height * rng.uniform(0.15, 0.5)])
            page.stroke(np.array([spot - way, spot + way]), value, width)
            ends.append(spot + way)
        if rng.random() < 0.5:
            page.stroke(np.array([ends[0], ends[0] + (ends[1] - ends[0]) * 0.6]), value, width)
            page.stroke(np.array([ends[1], ends[1] + (ends[0] - ends[1]) * 0.6 + np.array([0.03 * page.width, 0])]), value, width)
        text = f"{abs(tilts[0] - tilts[1]):.1f}°"
        place = (ends[0] + ends[1]) / 2
    elif kind == "plumb":
        x = middle[0]
        page.stroke(
            np.array([[x, page.height * rng.uniform(0, 0.2)], [x + rng.normal(0, 2), page.height * rng.uniform(0.75, 1)]]), value, width
        )
        text, place = f"{rng.uniform(-60, 60):.0f} mm", middle
    elif kind == "caliper":
        way = rng.normal(0, 0.08, 2) * page.short
        page.stroke(np.array([middle - way, middle + way]), value, width)
        cap = np.array([-way[1], way[0]]) / max(1.0, float(np.hypot(*way))) * 0.012 * page.short
        for end in (middle - way, middle + way):
            page.stroke(np.array([end - cap, end + cap]), value, width)
        text, place = f"{rng.uniform(3, 90):.1f} mm", middle + way
    else:  # a curve down the spine, or the posterior wall's line
        y = np.linspace(-0.3, 0.3, 12) * page.height * rng.uniform(0.5, 1.3)
        x = page.width * (rng.normal(0, 0.05) * np.sin(y / page.height * rng.uniform(3, 9)) + rng.normal(0, 0.1) * (y / page.height) ** 2)
        page.stroke(middle + np.column_stack([x, y]), value, width)
        text, place = str(rng.choice(["SVA", "C7PL", "LL 48°", ""])), middle
    if text and rng.random() < 0.8:
        page.write(text, place[0] + 4, place[1] + 2, letters, value)


def _mark_figure(page: Page) -> None:
    """Draw a box, an ellipse, a crosshair, or four corners."""
    rng, value, width = page.rng, page.draw_grey(), page.draw_stroke()
    middle, half = page.near_centre(0.15), page.short * np.exp(rng.uniform(np.log(0.04), np.log(0.35), 2))
    kind = str(rng.choice(["box", "ellipse", "cross", "rounded"]))
    if kind == "cross":
        reach = half * rng.choice([0.3, 3.0])
        page.stroke(np.array([middle - [reach[0], 0], middle + np.array([reach[0], 0])]), value, 1 if width < 3 else 2)
        page.stroke(np.array([middle - [0, reach[1]], middle + np.array([0, reach[1]])]), value, 1 if width < 3 else 2)
        return
    angle = np.linspace(0, 2 * np.pi, 41)
    power = {"box": 0.0, "ellipse": 1.0, "rounded": 0.3}[kind]
    if kind == "box":
        outline = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])
    else:
        outline = np.column_stack([np.sign(f) * np.abs(f) ** power for f in (np.cos(angle), np.sin(angle))])
    page.stroke(middle + outline * half, value, width)


def _mark_ruler(page: Page) -> None:
    """Draw a scale along an edge: ticks, at times with numbers; along the bottom or a side."""
    rng, value = page.rng, page.draw_grey()
    upright = rng.random() < 0.7
    extent = page.height if upright else page.width
    length, step = extent * rng.uniform(0.15, 0.8), page.short * rng.uniform(0.02, 0.06)
    start, depth = rng.uniform(0.02, 0.95 - length / extent) * extent, max(3.0, page.short * rng.uniform(0.008, 0.025))
    across = page.width if upright else page.height
    edge = across * rng.uniform(0.01, 0.06)
    if rng.random() < 0.6:
        edge = across - edge - depth
    thick, numbered = max(1, round(page.short * 0.0025)), rng.random() < 0.4
    for number, along in enumerate(np.arange(0, length, max(step, 4.0))):
        long = 1.8 if number % 5 == 0 else 1.0
        if upright:
            page.fill(edge, start + along, depth * long, thick, value)
        else:
            page.fill(start + along, edge, thick, depth * long, value)
        if numbered and number % 5 == 0:
            page.write(
                str(number),
                *((edge - 2.5 * depth, start + along) if upright else (start + along, edge - 2.5 * depth)),
                max(7, round(1.6 * depth)),
                value,
            )
    if rng.random() < 0.5:
        if upright:
            page.fill(edge, start, thick, length, value)
        else:
            page.fill(start, edge, length, thick, value)


def _mark_bar(page: Page) -> None:
    """Cover a name: a bar at an edge, most often black."""
    rng = page.rng
    w, h = page.width * rng.uniform(0.12, 0.5), page.height * rng.uniform(0.015, 0.06)
    x, y = page.find_spot(w, h, edge=True)
    page.fill(x, y, w, h, float(rng.choice([0.0, 0.0, 0.0, 1.0, rng.uniform(0, 1)])))


def _mark_frame(page: Page) -> None:
    """Draw a frame about the picture, or the lines and a tool bar of a viewer."""
    rng, value = page.rng, float(page.rng.choice([0.0, 1.0, page.rng.uniform(0, 1)]))
    thick = max(1.0, page.short * float(np.exp(rng.uniform(np.log(0.003), np.log(0.03)))))
    inset = page.short * rng.uniform(0.01, 0.06) if rng.random() < 0.3 else 0.0
    if inset:
        thick = max(1.0, 0.25 * thick)
    if rng.random() < 0.75:
        w, h = page.width - 2 * inset, page.height - 2 * inset
        page.fill(inset, inset, w, thick, value)
        page.fill(inset, page.height - inset - thick, w, thick, value)
        page.fill(inset, inset, thick, h, value)
        page.fill(page.width - inset - thick, inset, thick, h, value)
        return
    bar = page.height * rng.uniform(0.02, 0.05)
    low = rng.random() < 0.3
    page.fill(0, page.height - bar if low else 0, page.width, bar, float(rng.uniform(0.05, 0.9)))
    for number in range(int(rng.integers(2, 9))):
        page.fill((0.6 + 1.5 * number) * bar, (page.height - bar if low else 0) + 0.2 * bar, 0.6 * bar, 0.6 * bar, float(rng.uniform(0, 1)))
    if rng.random() < 0.4:
        page.fill(page.width * rng.uniform(0.9, 0.98), 0, 1, page.height, value)


MARKS: dict[str, Callable[[Page], None]] = {
    "frames": _mark_frame,
    "bars": _mark_bar,
    "blocks": _mark_block,
    "rulers": _mark_ruler,
    "sides": _mark_side,
    "words": _mark_word,
    "figures": _mark_figure,
    "lines": _mark_line,
    "arrows": _mark_arrow,
}
"""What draws each kind; the names are those of `Annotation`'s fields."""
