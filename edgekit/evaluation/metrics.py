"""What the study reports of its classifiers: figures with intervals.

Accuracy is a share of patients. All other classification figures come from one kernel that counts rows by weight. With weights of
one it gives the figures themselves (the tests hold them to scikit-learn's), with the weights of a bootstrap resample that resample's,
many at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.evaluation.predictions import FIGURES, unanswered_rows
from edgekit.proportions import clopper_pearson, newcombe_interval
from edgekit.reliability import calibration_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edgekit.evaluation.predictions import Predictions

    Figures = dict[tuple[str, ...], NDArray[np.float64]]

__all__ = ["AVERAGED", "measure_drop", "score_predictions"]

AVERAGED = ("precision", "sensitivity", "specificity", "f1", "auc")
"""Figures given per brand, and as macro and micro average."""

CHUNK = 100
"""Resamples computed at once: keeps the work inside the processor's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The rows that are scored.

    Attributes
    ----------
    brands
        K names.
    truth
        int (N,), index of the true brand.
    answer
        int (N,), index of the brand answered; K where there is no answer.
    probabilities
        float64 (N, K).
    patients
        int (N,), index of the row's patient: what is resampled.
    """

    brands: tuple[str, ...]
    truth: NDArray[np.intp]
    answer: NDArray[np.intp]
    probabilities: NDArray[np.float64]
    patients: NDArray[np.intp]

    def take(self, rows: NDArray[np.bool_]) -> Sample:
        """Keep some rows; `rows` is bool (N,)."""
        patients = np.unique(self.patients[rows], return_inverse=True)[1]
        return replace(self, truth=self.truth[rows], answer=self.answer[rows], probabilities=self.probabilities[rows], patients=patients)


def score_predictions(
    brands: Sequence[str],
    truth: Sequence[str],
    probabilities: NDArray[np.floating[Any]],
    patients: Sequence[str],
    has: Mapping[str, Sequence[bool | None]],
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, Any]:
    """Score one model's answers.

    The answer is the brand with the largest probability, the first of `brands` among equals. A row whose probabilities are
    all equal names no brand: it counts as wrong, has no column in the confusion matrix, and is counted in ``unanswered``.

    Parameters
    ----------
    brands
        K >= 2 names, in the order of the columns of `probabilities`.
    truth
        N names out of `brands`.
    probabilities
        float (N, K), rows sum to one.
    patients
        N identifiers; rows of one patient are resampled together.
    has
        Yes/no properties by name that figures are told apart by, N times each; None where that is unknown.
    seed, resamples
        Of the bootstrap over patients.

    Returns
    -------
    dict
        One model's object of ``metrics.json``: ``n`` rows, ``unanswered`` rows, ``patients``, of whom ``correct`` are right,
        ``accuracy`` (their share), ``kappa``, ``macro``, ``micro``, ``brands``, ``calibration_error``, ``confusion`` (rows: truth,
        columns: answer), ``ci95`` (the same names, each ``[low, high]``) and, for each property in `has`, an object
        of its name: ``with`` and ``without`` it, such objects.
        What is undefined is None, never NaN.

    Raises
    ------
    ValueError
        If the arguments do not fit together, or a property is called as a figure is.

    Notes
    -----
    - Accuracy counts patients: one with several rows is right when every row is, as in `edgekit.parity`. All other figures count rows, as
      the confusion matrix does; the share of the rows that are right is ``micro.sensitivity``.
    - Kappa is Cohen's, with "no answer" as an answer of its own.
    - A macro average is the mean over the brands where the figure is defined: precision needs an answer of that brand,
      sensitivity and AUC a patient of it.
    - Micro averages pool the brands' one-vs-rest counts (Yao et al. 2024, 2.5) and, for AUC, all N x K probabilities.
    - ``calibration_error`` is `edgekit.reliability.calibration_error`.
    - ``ci95`` of a proportion is Clopper & Pearson's exact interval, with as many trials as patients: of ``accuracy``; of a brand's
      precision, sensitivity and specificity; of micro-averaged precision and sensitivity. Where a patient has several rows in such a
      proportion, its rows count as one trial, with the share of them that are right (see `edgekit.proportions.clopper_pearson`).
    - ``ci95`` of every other figure is the bootstrap percentile interval over patients, from the resamples in which the figure is defined.
    """
    sample = _make_sample(brands, truth, probabilities, patients)
    figures = _score(sample, seed, resamples)
    for name, values in has.items():
        if len(values) != sample.truth.size:
            raise ValueError(f"{len(values)} values of {name} for {sample.truth.size} rows")
        if name in FIGURES:
            raise ValueError(f"{name} is the name of a figure, and can't be that of a property")
        groups = {"with": True, "without": False}
        chosen = {group: np.array([known is wanted for known in values]) for group, wanted in groups.items()}
        figures[name] = {group: _score(sample.take(rows), seed, resamples) if rows.any() else None for group, rows in chosen.items()}
    return figures


def measure_drop(first: Predictions, second: Predictions, *, seeds: tuple[int, int], resamples: int = 1000) -> dict[str, Any]:
    """Measure how much worse one model is in a second cohort.

    Parameters
    ----------
    first, second
        The model's answers in both cohorts, of other patients each, all of brands that it knows.
    seeds
        Of both bootstraps: different ones, for the patients are different.
    resamples
        Of each bootstrap.

    Returns
    -------
    dict
        ``accuracy`` and ``macro_auc``, each with ``value``, first minus second, and ``ci95``. Accuracy counts patients as in
        `score_predictions`, with Newcombe's interval of independent proportions (`edgekit.proportions.newcombe_interval`). Macro AUC is the
        mean over the brands that each cohort has, with the bootstrap percentile interval that resamples each cohort by itself (the
        two-sample problem: Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, 8.3); None where a cohort leaves it undefined.
    """
    samples = [
        _make_sample(cohort.brands, [str(brand) for brand in cohort.truth], cohort.probabilities, cohort.patients)
        for cohort in (first, second)
    ]
    here, there = (_count_patients(sample) for sample in samples)
    path = ("macro", "auc")
    auc_here, auc_there = (_count(sample, np.ones((1, sample.truth.size)))[path] for sample in samples)
    drawn_here, drawn_there = (_resample(sample, seed, resamples)[path] for sample, seed in zip(samples, seeds, strict=True))
    return {
        "accuracy": {"value": here[0] / here[1] - there[0] / there[1], "ci95": list(newcombe_interval(*here, *there))},
        "macro_auc": {"value": _defined((auc_here - auc_there)[0]), "ci95": _interval(drawn_here - drawn_there)},
    }


def _make_sample(brands: Sequence[str], truth: Sequence[str], probabilities: NDArray[np.floating[Any]], patients: Sequence[str]) -> Sample:
    values = np.asarray(probabilities, np.float64)
    if len(brands) < 2 or len(set(brands)) != len(brands):
        raise ValueError(f"brands must be two or more different names, not {list(brands)}")
    if values.shape != (len(truth), len(brands)) or len(patients) != len(truth):
        raise ValueError(f"{len(truth)} rows and {len(brands)} brands, but probabilities {values.shape} and {len(patients)} patients")
    if not len(truth):
        raise ValueError("there is no row to score")
    if unknown := sorted(set(truth) - set(brands)):
        raise ValueError(f"brands that the model does not know can't be scored: {unknown}")
    if not np.isfinite(values).all():
        raise ValueError("probabilities must be finite")
    number = {brand: index for index, brand in enumerate(brands)}
    return Sample(
        brands=tuple(brands),
        truth=np.array([number[brand] for brand in truth], np.intp),
        answer=np.where(unanswered_rows(values), len(brands), values.argmax(axis=1)),
        probabilities=values,
        patients=np.unique(np.asarray(patients, str), return_inverse=True)[1],
    )


def _score(sample: Sample, seed: int, resamples: int) -> dict[str, Any]:
    rows, brands = sample.probabilities.shape
    figures = _count(sample, np.ones((1, rows)))
    drawn = _resample(sample, seed, resamples)
    confusion = np.zeros((brands, brands + 1), int)
    np.add.at(confusion, (sample.truth, sample.answer), 1)
    correct, patients = _count_patients(sample)
    intervals = {path: _interval(values) for path, values in drawn.items()} | _exact_intervals(sample)
    tree = _nest({path: _defined(value[0]) for path, value in figures.items()})
    for brand, support in zip(sample.brands, confusion.sum(axis=1), strict=True):
        tree["brands"][brand] = {"support": int(support), **tree["brands"][brand]}
    return {
        "n": rows,
        "unanswered": int(confusion[:, brands].sum()),
        "patients": patients,
        "correct": correct,
        "accuracy": correct / patients,
        **tree,
        "confusion": {"labels": list(sample.brands), "matrix": confusion[:, :brands].tolist()},
        "ci95": {"accuracy": list(clopper_pearson(correct, patients)), **_nest(intervals)},
    }


def _count_patients(sample: Sample) -> tuple[int, int]:
    """Return how many patients are right, each with every row, and how many there are."""
    patients = int(sample.patients.max()) + 1
    wrong = np.unique(sample.patients[sample.answer != sample.truth])
    return patients - wrong.size, patients


def _exact_intervals(sample: Sample) -> dict[tuple[str, ...], list[float] | None]:
    """Clopper-Pearson intervals of the figures that are a share of the rows: those that count, out of those asked about."""
    right = sample.answer == sample.truth
    shares: dict[tuple[str, ...], tuple[NDArray[np.bool_], NDArray[np.bool_]]]
    shares = {("micro", "precision"): (right, sample.answer < len(sample.brands)), ("micro", "sensitivity"): (right, np.ones_like(right))}
    for k, brand in enumerate(sample.brands):
        is_brand, answered = sample.truth == k, sample.answer == k
        shares["brands", brand, "precision"] = is_brand, answered
        shares["brands", brand, "sensitivity"] = answered, is_brand
        shares["brands", brand, "specificity"] = ~answered, ~is_brand
    intervals: dict[tuple[str, ...], list[float] | None] = {}
    for path, (counted, asked) in shares.items():
        rows, patients = int(asked.sum()), np.unique(sample.patients[asked]).size
        intervals[path] = list(clopper_pearson(int((counted & asked).sum()) * patients / rows, patients)) if rows else None
    return intervals


def _resample(sample: Sample, seed: int, resamples: int) -> Figures:
    """Figures of `resamples` samples of as many patients, drawn with replacement; arrays (resamples,)."""
    generator = np.random.default_rng(seed)
    patients = int(sample.patients.max()) + 1
    chunks = []
    for start in range(0, resamples, CHUNK):
        drawn = generator.multinomial(patients, np.full(patients, 1 / patients), size=min(CHUNK, resamples - start))
        chunks.append(_count(sample, drawn[:, sample.patients].astype(np.float64)))
    return {path: np.concatenate([chunk[path] for chunk in chunks]) for path in chunks[0]}


def _count(sample: Sample, weights: NDArray[np.float64]) -> Figures:
    """All figures for each row of `weights` (R, N), how often each of the N rows counts; arrays (R,), NaN where undefined."""
    rows, brands = sample.probabilities.shape
    cells = np.zeros((rows, brands * (brands + 1)))
    cells[np.arange(rows), sample.truth * (brands + 1) + sample.answer] = 1.0
    confusion = (weights @ cells).reshape(-1, brands, brands + 1)
    n = confusion.sum(axis=(1, 2))
    support, answers = confusion.sum(axis=2), confusion.sum(axis=1)[:, :brands]
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    observed, expected = _ratio(hits.sum(axis=1), n), _ratio((support * answers).sum(axis=1), n * n)
    is_brand = sample.truth[:, None] == np.arange(brands)
    by_brand = _ratios(hits, support, answers, n[:, None])
    by_brand["auc"] = np.stack([_auc(sample.probabilities[:, k], is_brand[:, k], weights) for k in range(brands)], axis=1)
    micro = _ratios(hits.sum(axis=1), support.sum(axis=1), answers.sum(axis=1), n * brands)
    micro["auc"] = _auc(sample.probabilities.ravel(), is_brand.ravel(), weights, np.repeat(np.arange(rows), brands))
    figures: Figures = {("kappa",): _ratio(observed - expected, 1 - expected)}
    for name in AVERAGED:
        defined = ~np.isnan(by_brand[name])
        figures["macro", name] = _ratio(np.where(defined, by_brand[name], 0.0).sum(axis=1), defined.sum(axis=1))
        figures["micro", name] = micro[name]
    figures |= {("brands", brand, name): by_brand[name][:, k] for k, brand in enumerate(sample.brands) for name in AVERAGED}
    figures["calibration_error",] = calibration_error(sample.probabilities.max(axis=1), sample.answer == sample.truth, weights)
    return figures


def _ratios(
    hits: NDArray[np.float64], support: NDArray[np.float64], answers: NDArray[np.float64], n: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """One-vs-rest figures from counts: `hits` true positives, `support` positives, `answers` positive answers, of `n`."""
    return {
        "precision": _ratio(hits, answers),
        "sensitivity": _ratio(hits, support),
        "specificity": _ratio(n - support - answers + hits, n - support),
        "f1": _ratio(2 * hits, support + answers),
    }


def _auc(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64], rows: NDArray[np.intp] | None = None
) -> NDArray[np.float64]:
    """Probability that a positive outranks a negative, ties counting half (Mann-Whitney), for each row of `weights` (R, N).

    `rows` tells which column of `weights` belongs to each score where these are not one to one.
    """
    order = np.argsort(scores, kind="stable")
    columns = weights[:, order if rows is None else rows[order]]
    below = np.cumsum(np.pad(columns * ~positive[order], ((0, 0), (1, 0))), axis=1)  # column i: weight of the negatives among the first i
    ranked = scores[order]
    positives = columns[:, positive[order]]
    worse, not_better = (below[:, np.searchsorted(ranked, ranked[positive[order]], side)] for side in ("left", "right"))
    wins = (positives * (worse + not_better)).sum(axis=1) / 2
    return _ratio(wins, positives.sum(axis=1) * below[:, -1])


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Divide; NaN where `whole` is 0."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0))


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _interval(values: NDArray[np.float64]) -> list[float] | None:
    defined = values[~np.isnan(values)]
    return [float(bound) for bound in np.quantile(defined, (0.025, 0.975))] if defined.size else None


def _nest(figures: dict[tuple[str, ...], Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in figures.items():
        branch = tree
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = value
    return tree
