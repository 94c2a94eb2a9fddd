"""Figures of the report: one function each, SVG or JPEG bytes.

Charts have a transparent ground and are drawn for white paper; the page inverts them where the reader prefers dark. They are SVG whose text
is text: the reader's browser shapes it in fonts of the reader's own, so that a brand shows in any script, whatever fonts were there when
it was drawn.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.proportions import clopper_pearson
from edgekit.reliability import CALIBRATION_BINS, calibration_bins

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from PIL import Image

    from edgekit.evaluation.gradcam import Explanation
    from edgekit.task import View
    from edgekit.types import Box

__all__ = [
    "average_curves",
    "draw_bands",
    "draw_confusion",
    "draw_drops",
    "draw_explanations",
    "draw_film",
    "draw_intervals",
    "draw_overlaps",
    "draw_photo",
    "draw_reliability",
    "draw_roc",
    "draw_sites",
]

INK, QUIET, FAINT, ACCENT, WRONG = "#1d2530", "#6b7480", "#d5d9de", "#2b6a99", "#b3472f"
SERIES = ("#2b6a99", "#c8662a", "#3d8b5f", "#9b4f96", "#c9a227", "#b3472f", "#7a6a58", "#2f9aa0", "#e08fb4", "#8a8f2a")
STYLE = {
    "font.size": 9.5,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # measured with, and preferred; CSS's own sans-serif comes after it
    "svg.fonttype": "none",
    "svg.hashsalt": "edgekit",  # the same chart has the same bytes
    "text.parse_math": False,  # a brand may have dollar signs
}
LTR = "\u200e"
"""Left-to-right mark: keeps a number at the right of a name that is written from the right."""
FILM_SIDE = 440
"""Long side of an example film in the report, in pixels."""
PLASMA = (
    *((0x6A, 0x00, 0xA7), (0x8F, 0x0D, 0xA3), (0xB0, 0x2A, 0x8F), (0xCB, 0x47, 0x77), (0xE0, 0x64, 0x61)),
    *((0xF2, 0x84, 0x4B), (0xFC, 0xA6, 0x35), (0xFC, 0xCE, 0x25), (0xEF, 0xF8, 0x21)),
)
"""Matplotlib's colour map of that name from 0.2 to 1, in steps of 0.1: whoever only runs a bundle has no Matplotlib."""
TILE_WIDTH, TILE_HEIGHT = 150, 240
"""Most that one crop takes in the grid of explanations, in pixels."""
FOUND_BOX, TRUE_BOX = (255, 176, 0), (120, 210, 255)


def draw_intervals(names: Sequence[str], values: Sequence[float], intervals: Sequence[Sequence[float]], chosen: str) -> bytes:
    """Draw each model's accuracy with its interval, one line a model; `chosen` is set off. SVG."""
    with _style():
        figure, axes = _make_axes(5.4, 0.7 + 0.27 * len(names))
        rows = np.arange(len(names))[::-1]
        for row, name, value, (low, high) in zip(rows, names, values, intervals, strict=True):
            colour = ACCENT if name == chosen else QUIET
            axes.plot([100 * low, 100 * high], [row, row], color=colour, linewidth=2.4 if name == chosen else 1.4, solid_capstyle="butt")
            axes.plot(100 * value, row, "o", color=colour, markersize=6.5 if name == chosen else 4.5)
        _label_models(axes, names, min(low for low, _ in intervals))
        return _to_svg(figure)


def draw_sites(names: Sequence[str], sites: Mapping[str, tuple[Sequence[float], Sequence[Sequence[float]]]]) -> bytes:
    """Draw each model's accuracy at two sites, the second hollow and below the first. SVG.

    Parameters
    ----------
    names
        M models.
    sites
        By name of the site: M accuracies and M intervals.
    """
    with _style():
        figure, axes = _make_axes(5.4, 0.9 + 0.36 * len(names))
        rows = np.arange(len(names))[::-1].astype(float)
        looks = ((0.13, QUIET, QUIET), (-0.13, ACCENT, "white"))
        for (site, (values, intervals)), (shift, colour, fill) in zip(sites.items(), looks, strict=True):
            low, high = 100 * np.array(intervals).T
            axes.hlines(rows + shift, low, high, color=colour, linewidth=1.4)
            axes.plot(100 * np.array(values), rows + shift, "o", color=colour, markerfacecolor=fill, markersize=5, label=site)
        _label_models(axes, names, min(low for _, intervals in sites.values() for low, _ in intervals))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
        return _to_svg(figure)


def draw_bands(bands: Sequence[str], models: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]) -> bytes:
    """Draw accuracy by how well the box fits, a panel a model. SVG.

    Parameters
    ----------
    bands
        B names, worst fit first.
    models
        By name: int (B,) answers and float (B,) accuracy, NaN where there is no answer; at least one model.
    """
    with _style():
        figure = _make_figure(0.5 + 2.8 * len(models), 2.6)
        panels = figure.subplots(1, len(models), sharey=True, squeeze=False, gridspec_kw={"wspace": 0.1})[0]
        for axes, (name, (n, accuracy)) in zip(panels, models.items(), strict=True):
            axes.bar(range(len(bands)), 100 * accuracy, width=0.72, color="#9cc3dc")
            for column, (count, share) in enumerate(zip(n.tolist(), accuracy.tolist(), strict=True)):
                if count:
                    low, high = clopper_pearson(round(share * count), count)
                    axes.plot([column, column], [100 * low, 100 * high], color=ACCENT, linewidth=1.4)
                axes.text(column, 4, str(count) if count else "none", ha="center", color=INK if count else QUIET, fontsize=8)
            axes.set_title(name, fontsize=9.5, loc="left")
            axes.set_xticks(range(len(bands)), bands, fontsize=7)
            axes.tick_params(axis="x", length=0)
            axes.set_xlim(-0.5, len(bands) - 0.5)
            axes.set_ylim(0, 101)
            axes.set_xlabel("IoU of the box")
        panels[0].set_ylabel("right answers, %")
        return _to_svg(figure)


def draw_drops(conditions: Mapping[str, Sequence[tuple[str, int, float, Sequence[float]]]], overall: float) -> bytes:
    """Draw how much accuracy falls, a panel a condition. SVG.

    Parameters
    ----------
    conditions
        By name, at least one: its bands, best first, each with its label, its patients, the drop and its interval.
    overall
        The drop of all patients, drawn as a dashed line.
    """
    with _style():
        figure = _make_figure(0.7 + 1.9 * len(conditions), 2.7)
        panels = figure.subplots(1, len(conditions), sharey=True, squeeze=False, gridspec_kw={"wspace": 0.12})[0]
        for axes, (name, bands) in zip(panels, conditions.items(), strict=True):
            axes.axhline(0, color=QUIET, linewidth=0.8)
            axes.axhline(100 * overall, color=ACCENT, linewidth=1, linestyle=(0, (4, 3)))
            for column, (_, _, value, (low, high)) in enumerate(bands):
                axes.plot([column, column], [100 * low, 100 * high], color=ACCENT, linewidth=1.6, solid_capstyle="butt")
                axes.plot(column, 100 * value, "o", color=ACCENT, markersize=5.5)
            axes.set_xticks(range(len(bands)), [f"{label}\nn {n}" for label, n, _, _ in bands], fontsize=7)
            axes.tick_params(axis="x", length=0)
            axes.set_xlim(-0.6, len(bands) - 0.4)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            axes.set_title(name, fontsize=9.5, loc="left")
        panels[0].set_ylabel("drop of accuracy, points")
        return _to_svg(figure)


def draw_confusion(labels: Sequence[str], matrix: NDArray[np.int64], unanswered: NDArray[np.int64], told: str) -> bytes:
    """Draw a confusion matrix: counts written, shade by share of the true brand. SVG.

    Parameters
    ----------
    labels
        K brands.
    matrix
        int (K, K) counts; rows: truth, columns: answer.
    unanswered
        int (K,) counts of rows without an answer, by true brand; drawn as a column of its own unless all are 0.
    told
        The task's word for a brand.
    """
    counts = matrix
    columns = list(labels)
    if unanswered.any():
        counts = np.column_stack([counts, unanswered])
        columns.append("no answer")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with _style():
        from matplotlib.colors import LinearSegmentedColormap

        figure, axes = _make_axes(1.5 + 0.5 * len(columns), 1.3 + 0.5 * len(labels))
        colours = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#a9c8de", ACCENT, "#123a5c"])
        axes.pcolormesh(range(len(columns)), range(len(labels)), shares, cmap=colours, vmin=0, vmax=1, shading="nearest")
        axes.invert_yaxis()
        axes.set_aspect("equal")
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.45 else (INK if count else "#b4bac2")
            weight = "bold" if row != column and count else "normal"
            axes.text(column, row, str(count) if count else "·", ha="center", va="center", color=colour, fontweight=weight)
        axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(labels)), labels)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(labels) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=FAINT, linewidth=0.8)
        axes.tick_params(which="minor", length=0)
        axes.set_xlabel("answer")
        axes.set_ylabel(f"true {told}")
        return _to_svg(figure)


def draw_roc(brands: Sequence[str], truth: NDArray[np.intp], probabilities: NDArray[np.float64]) -> bytes:
    """Draw one-vs-rest ROC curves of the brands that occur, with their macro and micro average. SVG.

    Parameters
    ----------
    brands
        K names.
    truth
        int (N,), index of the true brand; at least two brands occur.
    probabilities
        float (N, K).
    """
    from sklearn.metrics import auc, roc_curve

    is_brand = truth[:, None] == np.arange(len(brands))
    drawn = [k for k in range(len(brands)) if 0 < is_brand[:, k].sum() < len(truth)]
    curves = {brands[k]: roc_curve(is_brand[:, k], probabilities[:, k])[:2] for k in drawn}
    averages = {
        "macro average": average_curves(list(curves.values())),
        "micro average": roc_curve(is_brand.ravel(), probabilities.ravel())[:2],
    }
    with _style():
        figure, axes = _make_axes(5.0, 4.8)
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
        for index, (name, (false, true)) in enumerate(curves.items()):
            colour = SERIES[index % len(SERIES)]
            axes.plot(false, true, color=colour, linewidth=1.4, label=f"{name}{LTR}  {round(auc(false, true), 9):.3f}", clip_on=False)
        for (name, (false, true)), dashes in zip(averages.items(), ((0, (4, 1.5)), (0, (1, 1.2))), strict=True):
            axes.plot(
                false, true, color=INK, linewidth=1.9, linestyle=dashes, label=f"{name}  {round(auc(false, true), 9):.3f}", clip_on=False
            )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_aspect("equal")
        axes.set_xlabel("1 - specificity")
        axes.set_ylabel("sensitivity")
        axes.legend(loc="lower right", title="area under the curve", title_fontsize=8.5, alignment="left")
        return _to_svg(figure)


def average_curves(curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average ROC curves vertically, so that the area under the average is the average area.

    Both ends of every vertical step are averaged; interpolating at the corners alone, as is often done, lifts the average.

    Parameters
    ----------
    curves
        Pairs of false and true positive rates, each non-decreasing from 0 to 1.

    Returns
    -------
    false, true
        float64 (P,): the averaged polyline.
    """
    grid = np.unique(np.concatenate([false for false, _ in curves]))
    feet, tops = np.zeros_like(grid), np.zeros_like(grid)
    for false, true in curves:
        first = np.searchsorted(false, grid, "left")
        last = np.searchsorted(false, grid, "right") - 1
        between = np.interp(grid, false, true)
        hit = false[np.minimum(first, len(false) - 1)] == grid
        feet += np.where(hit, true[np.minimum(first, len(true) - 1)], between)
        tops += np.where(hit, true[last], between)
    return np.repeat(grid, 2), np.column_stack([feet, tops]).ravel() / len(curves)


def draw_reliability(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> bytes:
    """Draw how often answers of a given probability are right, and how many there are of each. SVG.

    Parameters
    ----------
    confidence
        float (N,), the largest probability.
    correct
        bool (N,).
    """
    bins = calibration_bins(confidence)
    with _style():
        figure = _make_figure(5.0, 4.8)
        axes, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1], "hspace": 0.08})
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(
            0.05, 0.085, "as often as it says", color=QUIET, rotation=45, rotation_mode="anchor", transform_rotates_text=True, fontsize=8.5
        )
        for number in np.unique(bins):
            rows = bins == number
            low, high = clopper_pearson(int(correct[rows].sum()), int(rows.sum()))
            position = confidence[rows].mean()
            axes.plot([position, position], [low, high], color=ACCENT, linewidth=1.2, alpha=0.6)
            axes.plot(position, correct[rows].mean(), "o", color=ACCENT, markersize=5)
        axes.set_ylim(-0.02, 1.02)
        axes.set_ylabel("share that is right")
        edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
        below.bar((edges[:-1] + edges[1:]) / 2, np.bincount(bins, minlength=CALIBRATION_BINS), width=0.9 / CALIBRATION_BINS, color=QUIET)
        below.set_xlim(0, 1)
        below.set_ylabel("answers")
        below.set_xlabel("probability of the answer")
        figure.align_ylabels()
        return _to_svg(figure)


def draw_overlaps(overlaps: dict[str, NDArray[np.float64]]) -> bytes:
    """Draw the histogram of box IoU, stacked by view. SVG.

    Parameters
    ----------
    overlaps
        IoU (N,) of the annotated films by view; at least one film in all.
    """
    drawn = {view: values for view, values in overlaps.items() if len(values)}
    with _style():
        figure, axes = _make_axes(5.0, 2.6)
        colours = [ACCENT, "#9cc3dc", QUIET][: len(drawn)]
        axes.hist(list(drawn.values()), bins=np.linspace(0, 1, 41).tolist(), stacked=True, color=colours, label=list(drawn), rwidth=0.92)
        axes.axvline(0.5, color=WRONG, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(0.49, axes.get_ylim()[1] * 0.97, "counts as found  ▸", color=WRONG, ha="right", va="top", fontsize=8.5)
        axes.set_xlim(0, 1)
        axes.set_xlabel("IoU of the box found with the true one")
        axes.set_ylabel("films")
        axes.legend(loc="center left")
        return _to_svg(figure)


def draw_film(film: NDArray[np.uint8], found: Box | None, true: Box | None, heatmap: NDArray[np.float32] | None, crop: Box | None) -> bytes:
    """Draw one film with the box found (solid), the true one (dashed) and the heatmap over the crop.

    Parameters
    ----------
    film
        uint8 (H, W).
    found, true, crop
        Boxes in pixels of `film`; None draws none.
    heatmap
        float (h, w) in [0, 1], stretched over `crop`; None draws none.

    Returns
    -------
    JPEG bytes, long side `FILM_SIDE`.
    """
    from PIL import Image, ImageDraw

    scale = FILM_SIDE / max(film.shape)
    size = max(1, round(film.shape[1] * scale)), max(1, round(film.shape[0] * scale))
    picture = Image.fromarray(film).resize(size, Image.Resampling.LANCZOS).convert("RGB")
    if heatmap is not None and crop is not None:
        _lay_heat(picture, heatmap, [round(edge * scale) for edge in crop])
    pencil = ImageDraw.Draw(picture)
    if true is not None:
        _draw_dashed(pencil, [edge * scale for edge in true])
    if found is not None:
        pencil.rectangle([edge * scale for edge in found], outline=FOUND_BOX, width=2)
    return _to_jpeg(picture)


def draw_photo(file: Path, corners: NDArray[np.float64]) -> bytes:
    """Draw a photo with the film's outline; JPEG, long side `FILM_SIDE`.

    Parameters
    ----------
    file
        JPEG or SVG.
    corners
        float (4, 2), the film's corners as x, y in pixels of the photo.
    """
    from PIL import Image, ImageDraw, ImageOps

    picture = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    scale = FILM_SIDE / max(picture.size)
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), Image.Resampling.LANCZOS)
    outline = [(float(x), float(y)) for x, y in corners * scale]
    ImageDraw.Draw(picture).line([*outline, outline[0]], FOUND_BOX, 2)
    return _to_jpeg(picture)


def draw_explanations(explanations: dict[str, dict[View, Explanation]]) -> bytes:
    """Draw crops under their heat: a column a brand, a row a view. SVG around one JPEG.

    Parameters
    ----------
    explanations
        By brand and view; at least one.
    """
    from html import escape

    from PIL import Image

    views = list(dict.fromkeys(view for films in explanations.values() for view in films))
    gap, head, side = 6, 22, 62
    width, height = side + len(explanations) * (TILE_WIDTH + gap), head + len(views) * (TILE_HEIGHT + gap)
    grid = Image.new("RGB", (width, height), "black")
    rows = {view: head + row * (TILE_HEIGHT + gap) for row, view in enumerate(views)}
    columns = {brand: side + column * (TILE_WIDTH + gap) for column, brand in enumerate(explanations)}
    for brand, films in explanations.items():
        for view, film in films.items():
            rise = min(TILE_WIDTH / film.crop.shape[1], TILE_HEIGHT / film.crop.shape[0])
            size = max(1, round(film.crop.shape[1] * rise)), max(1, round(film.crop.shape[0] * rise))
            tile = Image.fromarray(film.crop).resize(size).convert("RGB")
            _lay_heat(tile, film.heat, (0, 0, *tile.size))
            grid.paste(tile, (columns[brand] + (TILE_WIDTH - tile.width) // 2, rows[view] + (TILE_HEIGHT - tile.height) // 2))
    texts = [f'<text x="{gap}" y="{top + TILE_HEIGHT // 2}">{escape(view)}</text>' for view, top in rows.items()]
    texts += [
        f'<text x="{left + TILE_WIDTH // 2}" y="{head // 2}" text-anchor="middle">{escape(brand)}</text>' for brand, left in columns.items()
    ]
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<image href="data:image/jpeg;base64,{base64.b64encode(_to_jpeg(grid)).decode()}" width="{width}" height="{height}"/>
<g fill="white" font-family="'DejaVu Sans', sans-serif" font-size="13" dominant-baseline="central">{"".join(texts)}</g>
</svg>
""".encode()


def _lay_heat(picture: Image.Image, heatmap: NDArray[np.float32], crop: Sequence[int]) -> None:
    """Blend `heatmap`, stretched over `crop`, into `picture`: the hotter, the more colour."""
    from PIL import Image

    size = max(1, crop[2] - crop[0]), max(1, crop[3] - crop[1])
    heat = np.asarray(Image.fromarray(heatmap.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    shades = [np.interp(heat, np.linspace(0, 1, len(PLASMA)), channel) for channel in zip(*PLASMA, strict=True)]
    colour = Image.fromarray(np.stack(shades, axis=-1).astype(np.uint8))
    picture.paste(colour, (crop[0], crop[1]), Image.fromarray((heat * 0.6 * 255).astype(np.uint8)))


def _draw_dashed(pencil: Any, box: Sequence[float], dash: float = 6.0) -> None:
    x0, y0, x1, y1 = box
    for start, stop in (((x0, y0), (x1, y0)), ((x1, y0), (x1, y1)), ((x0, y1), (x1, y1)), ((x0, y0), (x0, y1))):
        begin, end = np.array(start), np.array(stop)
        length = float(np.hypot(*(end - begin)))
        for at in np.arange(0, length, 2 * dash):
            pencil.line([*(begin + (end - begin) * at / length), *(begin + (end - begin) * min(at + dash, length) / length)], TRUE_BOX, 2)


def _style() -> Any:
    from matplotlib import rc_context

    return rc_context(STYLE)


def _make_figure(width: float, height: float) -> Figure:
    """Make a figure of `width` x `height` inches that belongs to no window system."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    return figure


def _make_axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = _make_figure(width, height)
    return figure, figure.subplots()


def _label_models(axes: Axes, names: Sequence[str], lowest: float) -> None:
    """Give a chart of accuracies a line a model, the first on top, and room down to `lowest`."""
    axes.set_yticks(range(len(names))[::-1], names)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(max(0.0, np.floor(10 * lowest) * 10), 100.8)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel("accuracy, % (line: 95 % interval)")


def _to_jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82, optimize=True)
    return buffer.getvalue()


def _to_svg(figure: Figure) -> bytes:
    import warnings

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # matplotlib's fonts only measure the text here: the reader's draw it.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        figure.savefig(
            buffer, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.05, metadata={"Date": None, "Creator": None}
        )
    return buffer.getvalue()
