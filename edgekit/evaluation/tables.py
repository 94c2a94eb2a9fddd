"""The paper's tables in its layout: figures in rows, models in columns (Yao et al. 2024, Tables 2 to 5 and S1 to S4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgekit.evaluation.asked import Headings

__all__ = [
    "Block",
    "Duel",
    "ReaderRow",
    "Table",
    "compare_kinds",
    "duel_models",
    "duel_readers",
    "list_readers",
    "tabulate_brands",
]

BY_BRAND = {"precision": "Precision", "sensitivity": "Sensitivity", "f1": "F1 score", "auc": "AUC"}
AVERAGES = {"macro": "Macro-average", "micro": "Micro-average"}


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that belong together.

    Attributes
    ----------
    title
        Empty when the rows speak for themselves.
    rows
        Label, and one value a column; None where undefined.
    """

    title: str
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Headings of the value columns, blocks of rows, and how many rows each column was scored on (None: it is no single model)."""

    columns: tuple[str, ...]
    blocks: tuple[Block, ...]
    rows: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Duel:
    """Two models, or a model and a reader, on the patients that both answer.

    Attributes
    ----------
    n
        Patients.
    only_row, only_column
        Of them, those that only the one of the row, or of the column, names correctly.
    p
        Of McNemar's exact test.
    """

    n: int
    only_row: int
    only_column: int
    p: float


@dataclass(frozen=True, slots=True)
class ReaderRow:
    """A reader or a model on the readers' patients.

    Attributes
    ----------
    name, experience
        `experience` is empty for a model.
    n, correct
        Patients.
    accuracy, ci95
        Share that is correct, with its interval.
    seconds
        Mean per patient; None where it was not taken.
    p
        Of McNemar's exact test between the reader and one model; None for a model.
    """

    name: str
    experience: str
    n: int
    correct: int
    accuracy: float
    ci95: tuple[float, float]
    seconds: float | None
    p: float | None


def tabulate_brands(models: dict[str, Any], headings: Mapping[str, str], group: tuple[str, str] | None = None) -> Table | None:
    """Lay out one table of the paper: accuracy and kappa, then each figure brand by brand with its macro and micro average.

    Parameters
    ----------
    models
        ``models`` of ``metrics.json``.
    headings
        Of the columns, by model (`edgekit.evaluation.asked.Headings`); a model that was not scored has no column.
    group
        The task's covariate, and ``"with"`` or ``"without"`` it; None: all patients.

    Returns
    -------
    Table or None
        The last column is the mean of the others. None when fewer than two of the models were scored.
    """
    shown = {name: models[name] if group is None else models[name][group[0]][group[1]] for name in headings if name in models}
    shown = {name: model for name, model in shown.items() if model is not None}
    if len(shown) < 2:
        return None
    scored = list(shown.values())
    # The paper counts films where it pools both views, so its accuracy is a share of the rows, not of the patients.
    overall = {"Accuracy": [model["micro"]["sensitivity"] for model in scored], "Kappa": [model["kappa"] for model in scored]}
    blocks = [Block("", tuple(_row(label, values) for label, values in overall.items()))]
    for figure, title in BY_BRAND.items():
        rows = [_row(brand, [model["brands"][brand][figure] for model in scored]) for brand in scored[0]["brands"]]
        rows += [_row(label, [model[average][figure] for model in scored]) for average, label in AVERAGES.items()]
        blocks.append(Block(title, tuple(rows)))
    return Table((*(headings[name] for name in shown), "Average"), tuple(blocks), (*(model["n"] for model in scored), None))


def compare_kinds(models: dict[str, Any], headings: Headings) -> Table | None:
    """Lay out Table 4: the average of the single models beside that of the ensembles, and how much better the latter is.

    None when Table 2 or Table 3 is.
    """
    single, ensembles = tabulate_brands(models, headings.singles), tabulate_brands(models, headings.ensembles)
    if single is None or ensembles is None:
        return None
    blocks = []
    for ours, theirs in zip(ensembles.blocks, single.blocks, strict=True):
        averages = [
            (label, (before[-1], after[-1]))
            for (label, after), (_, before) in zip(ours.rows, theirs.rows, strict=True)
            if not ours.title or label in AVERAGES.values()
        ]
        blocks.append(
            Block(
                ours.title,
                tuple((label, (low, high, None if low is None or high is None else high - low)) for label, (low, high) in averages),
            )
        )
    return Table(("Single models", "Ensembles", "Difference"), tuple(blocks), (None, None, None))


def duel_models(comparisons: Sequence[dict[str, Any]], headings: Headings) -> dict[str, dict[str, Duel]]:
    """Arrange the comparisons of the members and of the ensembles that tables show as a triangle.

    Parameters
    ----------
    comparisons
        ``comparisons`` of ``metrics.json``; each pair of models occurs once, in either order.
    headings
        What tables show.

    Returns
    -------
    dict
        By row, then by column: a row has the models before it, the first has none. Empty when no two of these models were compared.
    """
    found = {}
    for pair in comparisons:
        found[pair["a"], pair["b"]] = Duel(pair["n"], pair["only_a"], pair["only_b"], pair["p"])
        found[pair["b"], pair["a"]] = Duel(pair["n"], pair["only_b"], pair["only_a"], pair["p"])
    compared = {name for pair in found for name in pair}
    names = [name for name in (*headings.members, *headings.ensembles) if name in compared]
    return {row: {column: found[row, column] for column in names[:index] if (row, column) in found} for index, row in enumerate(names)}


def duel_readers(readers: dict[str, Any], headings: Headings, headline: str) -> dict[str, dict[str, Duel]]:
    """Arrange the comparisons of the models that Table 5 lists with the readers: by model, then by reader.

    Parameters
    ----------
    readers, headings, headline
        See `list_readers`.
    """
    found: dict[str, dict[str, Duel]] = {}
    for pair in readers["comparisons"]:
        found.setdefault(pair["model"], {})[pair["reader"]] = Duel(pair["n"], pair["only_model"], pair["only_reader"], pair["p"])
    return {name: found[name] for name in (*headings.members, *_list_ensembles(headings, headline)) if name in found}


def list_readers(readers: dict[str, Any], headings: Headings, headline: str) -> dict[str, tuple[ReaderRow, ...]]:
    """Lay out Table 5: the readers, then the single models, then the ensembles.

    Parameters
    ----------
    readers
        ``readers`` of ``metrics.json``.
    headings
        What tables show.
    headline
        The model that the readers' p is against; it is listed in any case.

    Returns
    -------
    dict
        Rows by heading; a heading without rows is left out.
    """
    p = {pair["reader"]: pair["p"] for pair in readers["comparisons"] if pair["model"] == headline}
    models = {model["model"]: model for model in readers["models"]}
    groups = {
        "Readers": [_reader_row(reader["reader"], reader, p.get(reader["reader"])) for reader in readers["readers"]],
        "Single models": [_reader_row(name, models[name], None) for name in headings.members if name in models],
        "Ensembles": [_reader_row(name, models[name], None) for name in _list_ensembles(headings, headline) if name in models],
    }
    return {heading: tuple(rows) for heading, rows in groups.items() if rows}


def _list_ensembles(headings: Headings, headline: str) -> list[str]:
    """Return the names of the ensembles that tables show, and the headline's where it is another."""
    return list(dict.fromkeys(name for name in (*headings.ensembles, headline) if name not in headings.members))


def _reader_row(name: str, record: dict[str, Any], p: float | None) -> ReaderRow:
    return ReaderRow(
        name=name,
        experience=record.get("experience") or "",
        n=record["n"],
        correct=record["correct"],
        accuracy=record["accuracy"],
        ci95=(record["ci95"][0], record["ci95"][1]),
        seconds=record.get("seconds"),
        p=p,
    )


def _row(label: str, values: list[float | None]) -> tuple[str, tuple[float | None, ...]]:
    """Append the mean of the values that are defined."""
    defined = [value for value in values if value is not None]
    return label, (*values, sum(defined) / len(defined) if defined else None)
