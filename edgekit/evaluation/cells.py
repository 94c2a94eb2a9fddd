"""The detector's figures by kind of film: view, shape, position of the construct, region, field, processing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.proportions import adjust_by_holm, clopper_pearson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgekit.evaluation.film_header import FilmHeader
    from edgekit.task import View
    from edgekit.types import Study

    _Cell = tuple[tuple[str, str], ...]
    """Names and values of the properties that its films share."""

EXPECTED = 0.95
"""Share of the films of any cell on which the detector is expected to find what is there."""
LEAST_OVERLAP = 0.5
"""IoU from which a box counts as the right one."""
CROSSED = ("aspect", "region")
"""Properties whose pairs of values are cells too."""
LEAST_FILMS = 300
"""Films that such a pair needs."""

_ASPECTS = ((0.5, "under 0.5"), (0.7, "0.5 to 0.7"), (1.0, "0.7 to 1"), (np.inf, "over 1"))
_LEVELS = ((1, "1"), (2, "2"), (3, "3"), (4, "4"), (7, "5 to 7"), (np.inf, "8 or more"))
_POSITIONS = ((1 / 3, "upper third"), (2 / 3, "middle third"), (np.inf, "lower third"))


def describe_film(study: Study, view: View, size: tuple[int, int], header: FilmHeader) -> dict[str, str]:
    """Say what an annotated film is.

    Parameters
    ----------
    size
        Width and height of the film, pixels.

    Returns
    -------
    dict
        Its ``view``, ``aspect`` (width relative to height), ``position`` (of the box's middle on the film's height) and, where they are
        known, ``levels`` (instrumented vertebrae), ``region``, ``field`` and ``processing``.
    """
    (width, height), box = size, study.box(view)
    assert box is not None
    values = {
        "view": view,
        "aspect": _name(width / height, _ASPECTS),
        "position": _name((box[1] + box[3]) / 2 / height, _POSITIONS),
        "levels": None if not study.levels else _name(study.levels, _LEVELS),
        "region": header.region,
        "field": header.field,
        "processing": header.processing,
    }
    return {name: value for name, value in values.items() if value is not None}


def _name(value: float, ends: Sequence[tuple[float, str]]) -> str:
    return next(name for end, name in ends if value <= end)


def tabulate_cells(
    described: Sequence[dict[str, str]], overlaps: NDArray[np.floating[Any]], used: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """Score the detector in every cell: the films that share a value, or a pair of values of `CROSSED`.

    Parameters
    ----------
    described
        Of each of A films, as `describe_film` has it.
    overlaps
        float (A,): IoU of the box found with the true one.
    used
        bool (A,): whether the box's score passes the threshold.

    Returns
    -------
    list of dict
        Worst cell first: ``cell`` (value by property), ``n``, ``mean_iou`` (a film whose box is not used counting as 0), ``found`` (the
        share with a used box of IoU >= `LEAST_OVERLAP`), ``ci95`` (its exact interval) and ``below``: the p-value of the exact one-sided
        binomial test that fewer than `EXPECTED` are found, adjusted by Holm over all cells. Both count the films as independent, though a
        patient may have two. A property with one value makes no cells.
    """
    from scipy.stats import binom

    groups: dict[_Cell, list[int]] = {}
    for film, values in enumerate(described):
        keys: list[_Cell] = [(pair,) for pair in values.items()]
        if all(name in values for name in CROSSED):
            keys.append(tuple((name, values[name]) for name in CROSSED))
        for key in keys:
            groups.setdefault(key, []).append(film)
    counts = Counter(name for key in groups if len(key) == 1 for name, _ in key)
    judged = np.where(used, overlaps, 0.0)
    cells: list[dict[str, Any]] = []
    chances: list[float] = []
    for key, films in groups.items():
        if any(counts[name] < 2 for name, _ in key) or (len(key) > 1 and len(films) < LEAST_FILMS):
            continue
        found, n = int(np.sum(judged[films] >= LEAST_OVERLAP)), len(films)
        cells.append(
            {
                "cell": dict(key),
                "n": n,
                "mean_iou": float(judged[films].mean()),
                "found": found / n,
                "ci95": list(clopper_pearson(found, n)),
            }
        )
        chances.append(float(binom.cdf(found, n, EXPECTED)))
    cells = [{**cell, "below": below} for cell, below in zip(cells, adjust_by_holm(chances), strict=True)]
    return sorted(cells, key=lambda cell: (cell["found"], cell["mean_iou"]))
