"""report.html: everything a reader needs on one self-contained page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit.evaluation import tables
from edgekit.evaluation.asked import Headings, spell
from edgekit.files import write_text
from edgekit.task import PEDICLE_SCREWS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from markupsafe import Markup

    from edgekit.task import Task

__all__ = ["Example", "PhotoExample", "ReportContent", "write_report"]

UNDEFINED, MINUS = "–", "\u2212"


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One patient shown in the report.

    Attributes
    ----------
    brand
        The true brand.
    answer
        The brand with the largest probability; None when `decision` is no answer.
    decision
        One of `edgekit.types.DECISIONS`.
    probability
        Of the answer; shown only beside one, as `runner_up` and `prediction_set`.
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
    decision: str
    probability: float
    runner_up: tuple[str, float]
    prediction_set: tuple[str, ...]
    films: dict[str, bytes]

    @property
    def right(self) -> bool:
        """Whether the answer is the true brand."""
        return self.answer == self.brand


@dataclass(frozen=True, slots=True, eq=False)
class PhotoExample:
    """One photographed film shown in the report; its film was answered rightly.

    Attributes
    ----------
    brand
        The true brand.
    answer
        The brand answered on the patient's photos; None when they are refused.
    decision
        What is decided on the patient's photos.
    conditions
        How bad the photo is, by name in `edgekit.evaluation.photos.CONDITIONS`; NaN where not measured.
    pictures
        JPEG bytes: ``film``, ``photo``, ``straightened``.
    """

    patient_id: str
    view: str
    brand: str
    answer: str | None
    decision: str
    conditions: dict[str, float]
    pictures: dict[str, bytes]


@dataclass(frozen=True, slots=True, eq=False)
class ReportContent:
    """What the page shows. Empty parts leave their section out.

    Attributes
    ----------
    headline
        The model whose figures open the page: a key of ``metrics["models"]``, unless that is empty.
    metrics
        ``models``, ``detector`` (or None) and ``provenance``, as in ``metrics.json``; and ``comparisons``, ``box_errors``,
        ``external``, ``readers`` and ``photos``, each of which may be absent or None.
    figures
        SVG bytes: ``models``, ``confusion``, ``roc``, ``reliability``, ``gradcam``, ``overlaps``, ``box_errors``, ``external``,
        ``photos``; absent ones are not shown.
    task
        What was asked: the page takes its words.
    headings
        The models that tables show.
    examples
        Patients with their films.
    parity
        Verdicts as dicts: the ``sessions`` of ``parity.json``.
    latency
        Rows as dicts: the ``rows`` of ``latency.json``.
    simulation
        What was simulated, in paragraphs parted by an empty line.
    model_figures
        ``confusion`` and ``roc`` of the other models, by name.
    external_figures
        ``confusion`` and ``roc`` of the headline's model at the other site.
    photo_examples
        Photographed films.
    """

    headline: str
    metrics: dict[str, Any]
    figures: dict[str, bytes]
    task: Task
    headings: Headings = field(default_factory=lambda: Headings({}, {}, {}, ()))
    examples: tuple[Example, ...] = ()
    parity: tuple[dict[str, Any], ...] = ()
    latency: tuple[dict[str, Any], ...] = ()
    simulation: str = ""
    model_figures: dict[str, dict[str, bytes]] = field(default_factory=dict)
    external_figures: dict[str, bytes] = field(default_factory=dict)
    photo_examples: tuple[PhotoExample, ...] = ()


def write_report(path: Path, content: ReportContent) -> None:
    """Write `content` as one HTML file that loads nothing from elsewhere, whole or not at all.

    Parameters
    ----------
    path
        The file; its folder is made.
    content
        What the page shows.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("edgekit.evaluation", ".")
    metrics, task, headings = content.metrics, content.task, content.headings
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "percent": _percent,
        "number": _number,
        "breakable": _breakable,
        "change": _change,
        "change_span": _change_span,
        "p_value": _p_value,
        "span": _span,
        "data_uri": _data_uri,
        "plain": _plain,
        "aspect": _aspect,
        "sureness": _sureness,
        "spelled": spell,
        "with_article": _with_article,
        "decided": lambda decision: decision.replace(PEDICLE_SCREWS.found, task.found),
    }
    models, readers, external = metrics["models"], metrics.get("readers"), metrics.get("external")
    page = environment.get_template("report.html.j2").render(
        content=content,
        contents=[],
        models=models,
        chosen=models.get(content.headline),
        detector=metrics["detector"],
        provenance=metrics["provenance"],
        facts=_name_facts(metrics["provenance"], task),
        task=task,
        found=task.found,
        told=task.told,
        tolds=f"{task.told}s",
        pooled={headings.singles[name]: views for name, views in headings.pooled.items() if name in models},
        property=task.covariate.replace("_", " "),
        is_study=task.name == PEDICLE_SCREWS.name,
        flow=describe_rows(metrics["provenance"]["rows"], task),
        paper=_lay_out_paper(models, content),
        duels=tables.duel_models(metrics.get("comparisons") or [], headings),
        box_errors=metrics.get("box_errors") or {},
        readers=readers,
        reader_rows=tables.list_readers(readers, headings, content.headline) if readers else {},
        reader_duels=tables.duel_readers(readers, headings, content.headline) if readers else {},
        external=external,
        external_flow=describe_rows(external["rows"], task) if external else [],
        external_paper=_lay_out_paper(external["models"], content) if external else {},
        photos=metrics.get("photos"),
    )
    write_text(path, page)


def _lay_out_paper(models: dict[str, Any], content: ReportContent) -> dict[str, tables.Table]:
    """Return the paper's tables of `models` that can be filled, by name."""
    headings, covariate = content.headings, content.task.covariate
    kinds = {"single": headings.singles, "ensembles": headings.ensembles}
    laid_out = {name: tables.tabulate_brands(models, shown) for name, shown in kinds.items()}
    laid_out["kinds"] = tables.compare_kinds(models, headings)
    for name, shown in kinds.items():
        for group in ("with", "without") if covariate else ():
            laid_out[f"{name}_{group}"] = tables.tabulate_brands(models, shown, (covariate, group))
    return {name: table for name, table in laid_out.items() if table is not None}


def describe_rows(rows: dict[str, Any], task: Task) -> list[str]:
    """Say what became of the rows of the file, one step an item.

    Parameters
    ----------
    rows
        ``provenance.rows`` of ``metrics.json``: ``file`` and ``scored``, and where they apply ``excluded``, ``other_splits`` and ``unseen``
        (counts by name), ``unreadable`` (reason by file), ``without_film``, ``without_construct`` and ``unknown_brand``.
    task
        What was asked.
    """
    steps = [_count(rows["file"], "row") + " in the file"]
    if excluded := rows.get("excluded"):
        steps.append(f"{sum(excluded.values())} excluded ({_list_counts(excluded)})")
    if others := rows.get("other_splits"):
        steps.append(f"{sum(others.values())} of other splits ({_list_counts(others)})")
    if rows.get("without_film"):
        steps.append(f"{rows['without_film']} without a film of {' or '.join(map(spell, task.views))}")
    if unreadable := rows.get("unreadable"):
        steps.append(f"{len(unreadable)} that can't be read (listed below)")
    if rows.get("without_construct"):
        purpose = "for the detector only" if task.locate else "not scored"
        steps.append(f"{rows['without_construct']} without {_with_article(task.found)}, {purpose}")
    if unseen := rows.get("unseen"):
        steps.append(f"{sum(unseen.values())} of {task.told}s the model does not know ({_list_counts(unseen)})")
    if rows.get("unknown_brand"):
        steps.append(f"{rows['unknown_brand']} of unknown {task.told}")
    return [*steps, f"{rows['scored']} scored"]


def _name_facts(provenance: dict[str, Any], task: Task) -> dict[str, Any]:
    """Return the provenance in the task's words."""
    words = {"without_construct": f"without {task.found}", "unknown_brand": f"unknown {task.told}"}
    rows = {words.get(name, name): count for name, count in provenance["rows"].items()}
    return {**provenance, "rows": rows}


def _with_article(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


def _list_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _percent(value: float | None, digits: int = 1) -> str:
    return UNDEFINED if value is None else f"{round(100 * value, 7):.{digits}f}\u00a0%"


def _number(value: float | None, digits: int = 3) -> str:
    return UNDEFINED if value is None else f"{round(value, 9):.{digits}f}"  # rounded twice, so that 0.9625 and 0.96249999999 read alike


def _change(value: float | None, digits: int = 3, scale: float = 1.0) -> str:
    """Show a difference with its sign; one that rounds to nothing is +0."""
    return UNDEFINED if value is None else f"{round(scale * value, digits) + 0.0:+.{digits}f}".replace("-", MINUS)


def _change_span(interval: Sequence[float] | None, digits: int = 3, scale: float = 1.0) -> str:
    return "" if interval is None else " to ".join(_change(bound, digits, scale) for bound in interval)


def _breakable(name: str) -> Markup:
    """Let the name of a model break after each plus and underscore."""
    from markupsafe import Markup, escape

    return Markup(str(escape(name)).replace("+", "+<wbr>").replace("_", "_<wbr>"))


def _p_value(p: float | None) -> str:
    if p is None:
        return UNDEFINED
    return "<\u00a00.001" if p < 0.0005 else f"{p:.3f}"


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
    kind = "jpeg" if image.startswith(b"\xff\xd8") else "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
