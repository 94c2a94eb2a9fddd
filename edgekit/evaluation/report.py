"""report.html: everything a reader needs on one self-contained page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.files import write_text
from edgekit.types import INTENDED_USE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Example", "ReportContent", "write_report"]

UNDEFINED = "–"


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One patient shown in the report.

    Attributes
    ----------
    brand
        The true brand.
    answer
        The brand answered; None when no construct was found.
    probability
        Of the answer.
    runner_up
        The second brand and its probability.
    prediction_set
        Brands that could not be excluded.
    films
        JPEG bytes by view, as `edgekit.evaluation.figures.draw_film` makes them.
    """

    patient_id: str
    brand: str
    answer: str | None
    probability: float
    runner_up: tuple[str, float]
    prediction_set: tuple[str, ...]
    films: dict[str, bytes]

    @property
    def right(self) -> bool:
        """Whether the answer is the true brand."""
        return self.answer == self.brand


@dataclass(frozen=True, slots=True, eq=False)
class ReportContent:
    """What the page shows. Empty parts leave their section out.

    Attributes
    ----------
    headline
        The model whose figures open the page: a key of ``metrics["models"]``.
    metrics
        ``models``, ``detector`` (or None) and ``provenance``, as in ``metrics.json``.
    figures
        PNG bytes: ``models``, ``confusion``, ``roc``, ``reliability``, ``overlaps``; absent ones are not shown.
    examples
        Patients with their films.
    parity
        Verdicts as dicts: the ``sessions`` of ``parity.json``.
    latency
        Rows as dicts: the ``rows`` of ``latency.json``.
    simulation
        What was simulated, in paragraphs parted by an empty line.
    """

    headline: str
    metrics: dict[str, Any]
    figures: dict[str, bytes]
    examples: tuple[Example, ...] = ()
    parity: tuple[dict[str, Any], ...] = ()
    latency: tuple[dict[str, Any], ...] = ()
    simulation: str = ""


def write_report(path: Path, content: ReportContent) -> None:
    """Write `content` as one HTML file that loads nothing from elsewhere, whole or not at all.

    Parameters
    ----------
    path
        The file; its folder is made.
    content
        What the page shows.
    """
    from importlib.resources import files

    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "percent": _percent,
        "number": _number,
        "span": _span,
        "data_uri": _data_uri,
        "plain": _plain,
        "aspect": _aspect,
        "sureness": _sureness,
    }
    template = environment.from_string(files("edgekit.evaluation").joinpath("report.html.j2").read_text(encoding="utf-8"))
    page = template.render(
        content=content,
        models=content.metrics["models"],
        chosen=content.metrics["models"][content.headline],
        detector=content.metrics["detector"],
        provenance=content.metrics["provenance"],
        intended_use=INTENDED_USE,
        flow=describe_rows(content.metrics["provenance"]["rows"]),
    )
    write_text(path, page)


def describe_rows(rows: dict[str, Any]) -> list[str]:
    """Say what became of the rows of the file, one step an item.

    Parameters
    ----------
    rows
        ``provenance.rows`` of ``metrics.json``: ``file`` and ``scored``, and where they apply ``excluded``, ``other_splits`` and ``unseen``
        (counts by name), ``without_construct`` and ``unknown_brand``.
    """
    steps = [_count(rows["file"], "row") + " in the file"]
    if excluded := rows.get("excluded"):
        steps.append(f"{sum(excluded.values())} excluded ({_list_counts(excluded)})")
    if others := rows.get("other_splits"):
        steps.append(f"{sum(others.values())} of other splits ({_list_counts(others)})")
    if rows.get("without_construct"):
        steps.append(f"{rows['without_construct']} without a construct, for the detector only")
    if unseen := rows.get("unseen"):
        steps.append(f"{sum(unseen.values())} of brands the model does not know ({_list_counts(unseen)})")
    if rows.get("unknown_brand"):
        steps.append(f"{rows['unknown_brand']} of unknown brand")
    return [*steps, f"{rows['scored']} scored"]


def _list_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _percent(value: float | None, digits: int = 1) -> str:
    return UNDEFINED if value is None else f"{round(100 * value, 7):.{digits}f}\u00a0%"


def _number(value: float | None, digits: int = 3) -> str:
    return UNDEFINED if value is None else f"{round(value, 9):.{digits}f}"  # rounded twice, so that 0.9625 and 0.96249999999 read alike


def _sureness(probability: float) -> str:
    """Show a probability in whole percent, but never as a certainty."""
    if probability > 0.995:
        return ">\u00a099\u00a0%"
    return "<\u00a01\u00a0%" if probability < 0.005 else _percent(probability, 0)


def _span(interval: Sequence[float] | None, digits: int = 3, scale: float = 1.0) -> str:
    return "" if interval is None else f"{scale * interval[0]:.{digits}f}–{scale * interval[1]:.{digits}f}"


def _plain(value: Any) -> str:
    """Show a value of the provenance in words."""
    if value is None:
        return UNDEFINED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return " · ".join(f"{name.replace('_', ' ')} {_plain(part)}" for name, part in value.items()) or UNDEFINED
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or UNDEFINED
    return str(value)


def _aspect(image: bytes) -> float:
    """Width by height: neighbours that grow by it are equally high."""
    from PIL import Image

    width, height = Image.open(io.BytesIO(image)).size
    return round(width / height, 4)


def _data_uri(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
