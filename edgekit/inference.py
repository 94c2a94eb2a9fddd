"""A bundle answers: films in, `Prediction` out.

Imports neither torch nor ultralytics, and no DICOM reader unless a film is a DICOM file. The host decodes and letterboxes
(`edgekit.radiograph`); the graph does the rest.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any, Self

from edgekit.boxes import grow_box
from edgekit.bundle import describe_verification
from edgekit.canvases import THREADS, graph_inputs, read_ahead
from edgekit.cores import count_threads
from edgekit.errors import FilmError, InputError, UsageError
from edgekit.files import hash_file, require_writable
from edgekit.golden import require_golden
from edgekit.journal import Journal
from edgekit.manifest import open_bundle
from edgekit.radiograph import make_canvas, read_radiograph
from edgekit.sessions import open_session
from edgekit.types import DECISIONS, EXCLUDED, REFUSED, Prediction

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from edgekit.radiograph import Letterbox
    from edgekit.task import View
    from edgekit.types import Box, Radiograph, Session, Study, Tensors

SCHEMA = 1

NO_FILMS = ("unknown", "imageless")
"""Reasons for refusing a film (`edgekit.radiograph.refusals`) by which a file is none at all: a text, a report, a disc's index."""

LISTED = 10
"""Films named in an error at most."""

SCREENING_THREADS = max(1, count_threads() - THREADS)
"""Threads of the graph over many patients: the cores that the decoders leave. More would be in the decoders' way."""


@dataclass(frozen=True, slots=True, eq=False)
class _Films:
    """One patient's films, ready for the graph."""

    inputs: Tensors
    paths: dict[View, Path]
    letterboxes: dict[View, Letterbox]
    elapsed_ms: dict[str, float]


class Predictor:
    """A bundle, opened to answer.

    The hashes are verified at once. The session is loaded in a thread while the first film is decoded, and there, unless this machine has
    done so before, it runs the golden vectors: no answer leaves a session that misses them (`edgekit.golden.require_golden`).

    Parameters
    ----------
    bundle
        The bundle's folder.
    session
        One of its sessions; None takes its default.
    threads
        Threads of the graph; None takes the runtime's own choice, which is the best for one patient at a time.

    Raises
    ------
    InputError
        There is no bundle.
    DamagedBundleError
        A file of the bundle does not match its hash.
    UsageError
        The bundle has no such session.

    Examples
    --------
    >>> with Predictor(Path("build/desktop-cpu")) as predictor:  # doctest: +SKIP
    ...     print(predictor.predict({"ap": Path("ap.dcm"), "lateral": Path("lateral.dcm")}).brand)
    """

    def __init__(self, bundle: Path, session: str | None = None, threads: int | None = None) -> None:
        self.bundle = open_bundle(bundle)
        session = session or self.bundle.sessions[0]
        if session not in self.bundle.sessions:
            raise UsageError(f"this bundle has no session {session!r}", f"choose one of {', '.join(self.bundle.sessions)}")
        self._pool = ThreadPoolExecutor(1)
        self._session: Future[tuple[Session, float]] = self._pool.submit(self._load, session, threads)
        manifest = self.bundle.manifest
        self.model = {
            "name": manifest.name,
            "version": manifest.provenance["run"]["sha256"][:12],
            "target": manifest.target,
            "precision": manifest.precision,
            "session": session,
            "verified": manifest.verified,
            "verification": describe_verification(self.bundle),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown()
        if not self._session.exception():
            self._session.result()[0].__exit__(kind, error, trace)

    def predict(self, films: Mapping[View, Path], patient_id: str = "") -> Prediction:
        """Answer for one patient.

        Parameters
        ----------
        films
            Film file by view, of those that the patient has.
        patient_id
            Copied into the answer.

        Raises
        ------
        UsageError
            No film was given, or one of a view that the bundle does not know.
        InputError
            A film can't be read.
        GateError
            The session misses the golden vectors.
        """
        started = time.perf_counter()
        return self._answer(self._prepare(self._read(films), started), patient_id)

    def explain(self, films: Mapping[View, Path]) -> dict[View, bytes]:
        """Draw each film with the box found and, over its crop, the heat map of the most probable brand.

        Parameters
        ----------
        films
            As for `predict`, which raises the same errors.

        Returns
        -------
        dict
            JPEG bytes by view. A film on which nothing was found is drawn as it is.
        """
        from edgekit.evaluation.figures import draw_film

        read = self._read(films)
        prepared = self._prepare(read, time.perf_counter())
        outputs, manifest = self._infer(prepared.inputs), self.bundle.manifest
        drawn = {}
        for view, film in read.items():
            row, letterbox = self.bundle.views.index(view), prepared.letterboxes[view]
            box: Box = tuple(map(float, outputs["boxes"][row]))  # type: ignore[assignment]
            crop = grow_box(box, manifest.crop["margin"], self.bundle.canvas_side)
            found = bool(outputs["found"][row])
            boxed: Box = tuple(letterbox.to_film_within(box))  # type: ignore[assignment]
            drawn[view] = draw_film(
                film.pixels,
                boxed if found and manifest.task.locate else None,
                None,
                outputs["heatmaps"][row],
                letterbox.to_film(crop) if found else None,  # beyond the film's edge too: the heat map is stretched over all of it
            )
        return drawn

    def find_views(self, paths: Sequence[Path]) -> dict[View, Path]:
        """Tell which view each of one patient's films shows.

        Where all files name a view of the task (DICOM View Position) and the names differ, they decide. Otherwise the detector does: of
        the possible assignments the one with the largest sum of view scores. Two films of the same view are assigned too: `predict` then
        says ``films swapped`` for them if one clearly shows another view.

        Parameters
        ----------
        paths
            At most one film a view.

        Returns
        -------
        dict
            The film by view.

        Raises
        ------
        UsageError
            There are more films than views.
        InputError
            A film can't be read; or nothing tells the films' views: the task has several, and no detector.
        GateError
            The session misses the golden vectors.
        """
        views = self.bundle.views
        if len(paths) > len(views):
            raise UsageError(
                f"{len(paths)} films were given, and this bundle looks at {len(views)}", f"it takes one film of each of {', '.join(views)}"
            )
        films = [read_radiograph(path) for path in paths]
        named = {film.view: path for film, path in zip(films, paths, strict=True) if film.view in views}
        if len(named) == len(films):
            return named
        if len(views) > 1 and not self.bundle.manifest.task.locate:
            raise InputError(
                "the films don't say which views they show", f"name them: {', '.join(f'--film {view}=FILE' for view in views)}"
            )
        prepared = self._prepare(dict(zip(views[: len(films)], films, strict=True)), time.perf_counter())
        scores = self._infer(prepared.inputs)["view_scores"]  # a row for each film, a column for each view
        assignments = list(permutations(range(len(views)), len(films)))
        best = max(assignments, key=lambda columns: sum(scores[row, column] for row, column in enumerate(columns)))
        return {views[column]: path for column, path in zip(best, paths, strict=True)}

    def predict_studies(self, studies: Sequence[Study], done: Container[int] = ()) -> Iterator[tuple[int, Prediction | InputError]]:
        """Answer row by row, in order, with a progress bar; memory does not grow with the number of rows.

        A row whose film can't be read yields the error in place of an answer, so that one film does not cost the others.

        Parameters
        ----------
        studies
            The rows.
        done
            Places in `studies` of the rows that need no answer, because an earlier call gave it.

        Yields
        ------
        place, answer
            Place in `studies`, and what is said about that row.

        Raises
        ------
        GateError
            The session misses the golden vectors.
        """
        from edgekit.studies import has_film

        views = self.bundle.views

        def prepare(study: Study) -> _Films:
            if not has_film(study, views):
                raise InputError(f"no film of {' or '.join(views)}", "give the row a film of one of the bundle's views, or exclude it")
            started = time.perf_counter()
            return self._prepare({view: read_radiograph(film) for view in views if (film := study.film(view))}, started)

        for place, films in read_ahead(studies, prepare, "Predicting", done):
            yield place, films if isinstance(films, InputError) else self._answer(films, studies[place].patient_id)

    def _read(self, films: Mapping[View, Path]) -> dict[View, Radiograph]:
        """Decode films, in the order of the bundle's views."""
        views = self.bundle.views
        if not films or set(films) - set(views):
            raise UsageError(
                f"films of {', '.join(films) or 'no view'} were given, this bundle looks at {', '.join(views)}",
                f"give {' or '.join(f'--film {view}=FILE' for view in views)}",
            )
        return {view: read_radiograph(films[view]) for view in views if view in films}

    def _load(self, name: str, threads: int | None) -> tuple[Session, float]:
        started = time.perf_counter()
        with ExitStack() as stack:
            session = stack.enter_context(open_session(name, self.bundle, threads))
            require_golden(self.bundle, session, threads)
            stack.pop_all()
        return session, 1000 * (time.perf_counter() - started)

    def _infer(self, inputs: Tensors) -> Tensors:
        return self._session.result()[0].infer(inputs)

    def _prepare(self, films: dict[View, Radiograph], started: float) -> _Films:
        """Letterbox decoded films; `started` is when their decoding began."""
        decoded = time.perf_counter()
        made = {view: make_canvas(film.pixels, self.bundle.canvas_side) for view, film in films.items()}
        inputs = graph_inputs({view: canvas for view, (canvas, _) in made.items()}, self.bundle.views, self.bundle.canvas_side)
        elapsed_ms = {"decode": 1000 * (decoded - started), "canvas": 1000 * (time.perf_counter() - decoded)}
        paths = {view: film.source for view, film in films.items()}
        return _Films(inputs, paths, {view: letterbox for view, (_, letterbox) in made.items()}, elapsed_ms)

    def _answer(self, films: _Films, patient_id: str) -> Prediction:
        load_ms = self._session.result()[1]
        started = time.perf_counter()
        outputs = self._infer(films.inputs)
        elapsed_ms = {**films.elapsed_ms, "load": load_ms, "infer": 1000 * (time.perf_counter() - started)}
        brands, decision = self.bundle.brands, DECISIONS[int(outputs["decision"][0])]
        return Prediction(
            patient_id=patient_id,
            decision=decision,
            brand=brands[int(outputs["probabilities"].argmax())] if decision == "identified" else None,
            probabilities=dict(zip(brands, map(float, outputs["probabilities"]), strict=True)),
            prediction_set=[
                brand for brand, inside in zip(brands, outputs["prediction_set"], strict=True) if inside and decision not in REFUSED
            ],
            unfamiliarity=float(outputs["unfamiliarity"][0]),
            views={view: self._describe_view(view, films, outputs) for view in films.paths},
            model=self.model,
            elapsed_ms={stage: round(value, 3) for stage, value in elapsed_ms.items()},
        )

    def _describe_view(self, view: View, films: _Films, outputs: Tensors) -> dict[str, Any]:
        row = self.bundle.views.index(view)
        score = float(outputs["box_scores"][row])
        x0, y0, x1, y1 = map(float, outputs["boxes"][row])
        return {
            "film": str(films.paths[view]),
            "box": films.letterboxes[view].to_film_within((x0, y0, x1, y1)) if outputs["found"][row] else None,
            "score": score,
            "view_scores": dict(zip(self.bundle.views, map(float, outputs["view_scores"][row]), strict=True)),
        }


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """A row of ``studies.csv`` that has no answer, because a film can't be read.

    Attributes
    ----------
    row
        Number of the row, from 1.
    message
        The film and what is wrong with it.
    """

    patient_id: str
    row: int
    message: str


@dataclass(frozen=True, slots=True)
class TableAnswers:
    """What became of the rows of ``studies.csv``.

    Attributes
    ----------
    decisions
        Number of rows by decision, with the excluded ones.
    unreadable
        The rows without an answer.
    """

    decisions: dict[str, int]
    unreadable: tuple[UnreadableRow, ...]


def predict_table(predictor: Predictor, table: Path, out: Path) -> TableAnswers:
    """Answer for every row of ``studies.csv`` and write a predictions file, in the order of the table.

    A row in which no construct was found gets equal probabilities; an excluded row is not asked about. Besides the table, only what the
    file says is kept: no film.

    Each answer goes into the journal ``<out>.partial`` at once. A call that finds the journal of an interrupted one asks only for the
    rows that it lacks. The journal is deleted when every row has its answer.

    Parameters
    ----------
    table
        ``studies.csv``.
    out
        The file to write, whole or not at all: the rows that were answered and the excluded ones. ``.csv`` or ``.jsonl``; the columns are
        those of `edgekit.evaluation.predictions.write_predictions`.

    Raises
    ------
    InputError
        The table can't be used; `out` is the table, a folder or another kind of file; or the journal is of another bundle, session, table
        or version of edgekit.
    GateError
        The session misses the golden vectors.
    OSError
        `out` can't be written. As everything about `out`, this is noticed before the first film.
    """
    from edgekit.evaluation.predictions import PredictionRow, write_predictions
    from edgekit.studies import read_studies, require_views

    studies = read_studies(table)
    require_views(studies, predictor.bundle.views, str(table))
    if out.suffix not in (".csv", ".jsonl"):
        raise InputError(f"{out} is no kind of file that predictions are written to", "give an --out that ends in .csv or .jsonl")
    if out.resolve() == table.resolve():
        raise InputError(f"{out} is the table itself", "give another --out: the predictions would replace the table")
    require_writable(out)
    manifest = predictor.bundle.manifest
    begun_with = {
        "run": manifest.provenance["run"]["sha256"],
        "bundle": manifest.model_sha256,
        "session": predictor.model["session"],
        "table": hash_file(table),
    }
    journal = Journal(out.with_name(out.name + ".partial"), begun_with)
    rows = {place: PredictionRow(place + 1, study, {}, None, EXCLUDED) for place, study in enumerate(studies) if study.exclude is not None}

    def take(entry: dict[str, Any]) -> None:
        place, probabilities = entry["row"] - 1, entry["probabilities"]
        even = [1 / len(probabilities)] * len(probabilities)
        rows[place] = PredictionRow(
            number=entry["row"],
            study=studies[place],
            views=entry["views"],
            probabilities=probabilities if any(probabilities) else even,
            decision=entry["decision"],
            prediction_set=entry["prediction_set"],
            unfamiliarity=entry["unfamiliarity"],
        )

    for entry in journal.read():
        take(entry)
    unreadable = []
    for place, answer in predictor.predict_studies(studies, frozenset(rows)):
        if isinstance(answer, InputError):
            unreadable.append(UnreadableRow(studies[place].patient_id, place + 1, answer.message))
            continue
        entry = {
            "row": place + 1,
            "decision": answer.decision,
            "probabilities": list(answer.probabilities.values()),
            "prediction_set": answer.prediction_set,
            "unfamiliarity": answer.unfamiliarity,
            "views": {view: {"box": seen["box"], "score": seen["score"]} for view, seen in answer.views.items()},
        }
        journal.append(entry)
        take(entry)
    write_predictions(out, table.parent, manifest.task, predictor.bundle.brands, [rows[place] for place in sorted(rows)])
    if not unreadable:
        journal.remove()
    return TableAnswers(dict(Counter(row.decision or "" for row in rows.values())), tuple(unreadable))


def find_films(folder: Path, views: Sequence[View]) -> tuple[list[Path], dict[Path, str]]:
    """Find one patient's films in a folder and the folders in it. Hidden files are not looked at.

    Returns
    -------
    films
        At most as many as there are `views`, sorted by name.
    others
        The files that are no films, each with the reason.

    Raises
    ------
    InputError
        `folder` is none, it holds no film, more than there are views or those of two patients, or a film in it can't be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder", "give --folder the folder with one patient's films")
    films, others, patients = [], {}, set()
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            patient = read_radiograph(path).patient_id
        except FilmError as error:
            if error.reason not in NO_FILMS:
                raise
            others[path] = error.message
        else:
            films.append(path)
            patients.add(patient)
    if len(patients - {""}) > 1:
        raise InputError(
            f"{folder} holds films of {len(patients - {''})} patients by their Patient ID",
            "leave the films of one patient there, or name them with --film VIEW=FILE",
        )
    if not films or len(films) > len(views):
        listed = "".join(f"\n  {path}" for path in films[:LISTED]) + ("\n  ..." if len(films) > LISTED else "")
        raise InputError(
            f"{folder} holds {len(films) or 'no'} films, expected at most one of each view ({', '.join(views)}) of one patient{listed}",
            "leave one film of each view there, or name them with --film VIEW=FILE",
        )
    return films, others


def to_document(prediction: Prediction) -> dict[str, Any]:
    """Return what ``edgekit predict --json`` prints: ``probabilities`` is empty when the decision is no answer."""
    document = {"schema": SCHEMA, **asdict(prediction)}
    return {**document, "probabilities": {}} if prediction.decision in REFUSED else document
