"""A bundle: everything that a device needs to run a pipeline, and everything that proves what it is.

::

    build/<target>/  manifest.json  processors.json  MODEL_CARD.md  recipe.toml  golden/  runner/  the model file(s)  corners.* (web)

Paths of the run and the studies are recorded relative to the bundle: they tell nothing about the machine, and survive moving all of
them together.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tomllib
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.contract import describe_tensors
from edgekit.errors import EdgekitError, GateError, InputError, MissingError
from edgekit.files import hash_file, hash_tree, write_json
from edgekit.manifest import CARD, open_bundle, seal_bundle, write_manifest
from edgekit.processors import CPUS
from edgekit.provenance import describe_software
from edgekit.sessions import SESSIONS, list_baselines, open_session
from edgekit.task import PEDICLE_SCREWS
from edgekit.types import Bundle, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from edgekit.backends import Backend
    from edgekit.models.pipeline import Pipeline
    from edgekit.sessions import SessionModule
    from edgekit.task import View
    from edgekit.types import Artifact, Parity, Study, Target

RECIPE = "recipe.toml"
RUNNER = "runner"
SCRIPT = "run.py"
SHARED_SCRIPT = "{}-run.py"
"""Beside the targets' folders, by backend: what answers in Python for every target of that backend that has no `SCRIPT` of its own."""
COMMON_SCRIPT = "bundle_runner.py"
"""Beside them too: what every `SCRIPT` may import."""
FLOAT16 = "float16.json"
REFUSED = "{}-{}-refused.html"
"""Beside the bundle's folder, by its name and precision: the answers that changed."""
BUDGET_ROUNDS = 5
"""Rounds of five inferences each, for a recipe's time budget."""
BEST = "best"
"""The ensemble chosen on validation, as a recipe calls it."""
MORE_PATIENTS = "verify on more patients, whose brands need not be known"
"""What to do about an inconclusive verdict."""
LICENCE = "AGPL-3.0-or-later"


class RefusedError(GateError):
    """A model was made, and refused.

    Attributes
    ----------
    size_mb
        Its size (MB = 10^6 bytes).
    p50_ms
        Its time for one patient; None where it was not measured.
    foreseen
        The share of patients foreseen to get another brand; None where nothing is in 8 bits.
    """

    def __init__(self, message: str, remedy: str, size_mb: float, p50_ms: float | None, foreseen: float | None) -> None:
        super().__init__(message, remedy)
        self.size_mb, self.p50_ms, self.foreseen = size_mb, p50_ms, foreseen


def export_bundle(
    run: Path, target: Target, out: Path, studies: Path | None = None, force: bool = False, backend: Backend | None = None
) -> Bundle:
    """Convert a run for a target, judge the result, and put the bundle in place if it passes.

    Everything happens in a temporary folder beside `out`; a bundle that is already there is replaced at the end or not at all.

    Parameters
    ----------
    run
        A finished run folder.
    target
        What to make.
    out
        The bundle's folder; it may hold an earlier bundle, and nothing else.
    studies
        ``studies.csv`` to judge on: its test rows, or all rows if the split column is empty; their brands may be unknown. None takes the
        run's own.
    force
        Write the bundle even if the verdict is not PASS, it is beyond its budget, or the run has no test rows, stamped *not verified*; a
        verified bundle is still not replaced by such a one.
    backend
        The module that converts, and whose sessions judge; None takes the one in `edgekit.backends.BACKENDS` that `target` names.

    Raises
    ------
    InputError
        The run, the studies or `out` can't be used.
    RefusedError
        The verdict is not PASS in a session that this machine has, or the model is larger or slower than the recipe's budget.
    GateError
        The answers don't survive in the precision, or a verified bundle would be replaced by one that is not.
    MissingError
        This machine has none of the recipe's sessions, or can't make the target.
    """
    from edgekit.backends import BACKENDS

    backend = backend or BACKENDS[target.backend]
    out = out.absolute()
    replaced = _check_destination(out)
    table, rows = _find_verification_rows(run, studies, force)
    with _draft_folder(out) as folder:
        draft = _make(run, target, backend, folder, out, table, rows, force)
        judgement = _judge(draft, run, target, out, rows, backend.SESSIONS)
        _gate(judgement.problems, folder, draft.bundle.manifest.model, force, judgement.p50_ms)
        _seal(draft.bundle, judgement, replaced, out)
    return open_bundle(out)


@dataclass(frozen=True, slots=True, eq=False)
class _Draft:
    """A bundle that nobody has judged: its folder holds what a device would get.

    Attributes
    ----------
    pipeline
        What it was made from.
    problems
        What already speaks against it.
    """

    bundle: Bundle
    pipeline: Pipeline
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Judgement:
    """What sessions, golden vectors, processors and the clock said of a draft.

    Attributes
    ----------
    problems
        What speaks against it; where there are none it is verified, if it was compared with its reference.
    unproven
        What could not be looked at here.
    proven
        Rows of ``processors.json``.
    p50_ms
        Its time for one patient; None where it was not measured.
    """

    parity: tuple[Parity, ...]
    latency: tuple[dict[str, Any], ...]
    problems: tuple[str, ...]
    unproven: tuple[str, ...]
    proven: tuple[dict[str, Any], ...]
    p50_ms: float | None


def _make(
    run: Path, target: Target, backend: Backend, folder: Path, out: Path, table: Path | None, rows: Sequence[Study], force: bool
) -> _Draft:
    """Convert a run into an empty folder, with everything that a device gets but the golden vectors."""
    from edgekit.calibration import read_calibration
    from edgekit.graphs.corners import NAME, write_corner_finder
    from edgekit.models.runfolder import load_corner_finder, load_pipeline, run_hash

    pipeline = load_pipeline(run, _name_ensemble(run, target))
    calibration = read_calibration(run, target.calibration, rows, pipeline.spec)
    artifact = backend.convert(pipeline, target, folder, calibration.patients)
    problems, unlooked = _look_at_float16(run, pipeline, target, backend, rows, folder)
    finder = load_corner_finder(run) if target.corners else None
    corners = None
    if finder is not None and target.corners is not None:
        name = f"{NAME}{Path(artifact.model).suffix}"
        corners = {"model": name, "side": finder.side, "weights": target.corners}
        write_corner_finder(finder, folder / name, target.corners)
    problems += _exceed_budget(folder / artifact.model, target.size_mb)
    _gate(problems, folder, artifact.model, force)  # before minutes are spent on judging it
    shutil.copyfile(target.recipe, folder / RECIPE)
    copy_runner(target, folder)
    provenance = {**_trace(run, run_hash(run), table, out, backend.VERSIONED), "calibration": calibration.provenance(out)}
    manifest = _describe(pipeline, target, backend, folder, artifact, corners, provenance)
    left_out = [f"a calibration patient was left out: {reason}" for reason in calibration.unreadable]
    manifest = replace(manifest, unproven=(*artifact.unproven, *unlooked, *left_out))
    return _Draft(seal_bundle(folder, manifest), pipeline, tuple(problems))  # a session reads what a device would: files with hashes


def _name_ensemble(run: Path, target: Target) -> str | None:
    """Return the ensemble to export; None is the one chosen on validation.

    A shipped recipe names one of the study's. What it says of precision and budget holds for other tasks too, that name does not.
    """
    from edgekit.models.runfolder import load_settings

    is_shipped = target.recipe.resolve().parent == target.folder.resolve()
    if target.ensemble == BEST or (is_shipped and load_settings(run).task.name != PEDICLE_SCREWS.name):
        return None
    return target.ensemble


def _judge(draft: _Draft, run: Path, target: Target, out: Path, rows: Sequence[Study], modules: Mapping[str, SessionModule]) -> _Judgement:
    """Write the golden vectors, compare a draft with its reference on `rows`, and look at everything that its recipe asks for."""
    from edgekit.golden import write_golden
    from edgekit.latency import measure_latency
    from edgekit.parity import measure_parity, summarize
    from edgekit.proven import merge_rows, prove_by_saturation, prove_by_verdict
    from edgekit.sessions.torch import TorchSession

    sessions, missing = available_sessions(draft.bundle, target.sessions, modules)
    numerical = target.judge.basis == "numerical"
    with TorchSession(draft.pipeline) if numerical else open_session(sessions[0], draft.bundle, modules=modules) as expected:
        write_golden(draft.bundle, expected, exact=numerical)
    bundle = seal_bundle(draft.bundle.folder, draft.bundle.manifest)
    parity = measure_parity(bundle, run, rows, sessions, modules) if rows else []
    problems = [*draft.problems, *(summarize(row) for row in parity if row.verdict != "PASS")]
    page = out.with_name(REFUSED.format(out.name, target.precision))
    problems += _explain(bundle, draft.pipeline, rows, parity, page, modules)
    problems += [f"{name} misses the golden vectors" for name in sessions if misses_golden(bundle, name, modules)]
    emulated, not_emulated, failures = emulate_golden(bundle, target.processors)
    problems += failures
    latency, p50_ms = [], None
    if target.p50_ms is not None or target.gain is not None:
        pairs = {} if target.gain is None else list_baselines(modules)
        measured = list(dict.fromkeys((sessions[0], *pairs, *pairs.values())))
        latency = [measure_latency(bundle, measured, rounds=BUDGET_ROUNDS, modules=modules)]
        p50_ms = latency[0]["rows"][0]["p50_ms"]
        problems += _exceed_time(latency[0]["rows"], target, pairs)
    judged = [row for each in parity for row in prove_by_verdict(each, modules)]
    return _Judgement(
        parity=tuple(parity),
        latency=tuple(latency),
        problems=tuple(problems),
        unproven=(*(f"session {name} was not run here: {reason}" for name, reason in missing.items()), *not_emulated),
        proven=tuple(merge_rows(prove_by_saturation(bundle.manifest), [*emulated, *judged])),
        p50_ms=p50_ms,
    )


def _seal(draft: Bundle, judgement: _Judgement, replaced: Bundle | None, out: Path) -> None:
    """Write what was found into the draft, and put it in place.

    Raises
    ------
    GateError
        A verified bundle would be replaced by one that is not.
    """
    from edgekit.model_card import write_card

    verified = bool(judgement.parity) and not judgement.problems
    if replaced is not None and replaced.manifest.verified and not verified:
        raise GateError(f"{out} holds a verified bundle; one that is not verified does not replace it", "choose another --out")
    manifest = replace(
        draft.manifest,
        verified=verified,
        parity=tuple(_without_patients(asdict(row)) for row in judgement.parity),
        latency=judgement.latency,
        unproven=(*draft.manifest.unproven, *judgement.unproven),
    )
    listed = seal_bundle(draft.folder, manifest).manifest  # with the golden vectors: the card tells the size of the files
    (draft.folder / CARD).write_text(write_card(listed, judgement.proven), encoding="utf-8")
    seal_bundle(draft.folder, listed, judgement.proven)
    _put_in_place(draft.folder, out)


def copy_runner(target: Target, folder: Path) -> None:
    """Copy into a bundle's folder what runs on the device: the target's own, else its backend's script, and what scripts have in common.

    A folder in the target's own runner that has the name of a backend is for bundles of that backend. Where there are such folders, the
    runner is for these backends; where there is none, it is for the one that the recipe names first.
    """
    from edgekit.backends import BACKENDS

    own, runner, shared = target.folder / RUNNER, folder / RUNNER, target.folder.parent / SHARED_SCRIPT.format(target.backend)
    parts = {path.name for path in own.glob("*") if path.name in BACKENDS}
    if own.is_dir() and (target.backend in parts if parts else not target.precision.startswith(f"{target.backend}-")):
        shutil.copytree(own, runner, ignore=shutil.ignore_patterns("__pycache__", *(parts - {target.backend})))
    if shared.is_file() and not (runner / SCRIPT).exists():
        runner.mkdir(exist_ok=True)
        shutil.copyfile(shared, runner / SCRIPT)
    common = target.folder.parent / COMMON_SCRIPT
    if (runner / SCRIPT).is_file() and common.is_file():  # there is none beside a target that stands elsewhere
        shutil.copyfile(common, runner / COMMON_SCRIPT)


def available_sessions(
    bundle: Bundle, wanted: Sequence[str], modules: Mapping[str, SessionModule] = SESSIONS
) -> tuple[list[str], dict[str, str]]:
    """Tell which of the sessions `wanted`, with their `modules`, this machine can open for `bundle`, and why not the others.

    Returns
    -------
    available, missing
        Names; and the reason by name.

    Raises
    ------
    MissingError
        There is none.
    """
    available, missing = [], {}
    for name in wanted:
        try:
            with open_session(name, bundle, modules=modules):
                available.append(name)
        except MissingError as error:
            missing[name] = error.message
    if not available:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        raise MissingError(f"this machine has no session that could judge the bundle: {reasons}", "edgekit doctor says what to install")
    return available, missing


def misses_golden(bundle: Bundle, session: str, modules: Mapping[str, SessionModule] = SESSIONS) -> bool:
    """Tell whether a session's outputs for the golden canvases are too far from the expected ones."""
    from edgekit.golden import check_golden

    with open_session(session, bundle, modules=modules) as opened:
        return bool(check_golden(bundle, opened).exceeded)


def emulate_golden(bundle: Bundle, processors: Sequence[str]) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """Run the golden vectors on emulated processors, those that this machine can emulate.

    Returns
    -------
    rows, unproven, problems
        Rows of ``processors.json`` (see `edgekit.proven`) for those where they came out as expected; a sentence for each that can't be
        emulated here; and what the bundle's runner said on the others.
    """
    from edgekit.emulation.judging import check_golden_on
    from edgekit.emulation.runtimes import find_session
    from edgekit.proven import prove_by_golden

    rows, unproven, problems = [], [], []
    for name in processors:
        try:
            (check,) = check_golden_on(bundle, [CPUS[name]])
        except MissingError as error:
            unproven.append(f"{find_session(bundle)} was not emulated on {name} here: {error.remedy}")  # the message may name a folder
            continue
        if check.failure:
            problems.append(check.failure)
        else:
            rows.append(prove_by_golden(check.cpu, check.session, check.runtime))
    return rows, unproven, problems


def add_latency(bundle: Bundle, latency: dict[str, Any]) -> Bundle:
    """Add a ``latency.json`` document to the manifest's ``latency``; an earlier one of the same device gives way.

    The manifest is replaced as a whole and gets a new hash of itself.
    """
    kept = [document for document in bundle.manifest.latency if document["device"] != latency["device"]]
    write_manifest(bundle.folder, replace(bundle.manifest, latency=(*kept, latency)))
    return open_bundle(bundle.folder)


def describe_verification(bundle: Bundle) -> str:
    """Return ``verified: PASS in ...`` or ``not verified: ...``, for wherever the bundle is shown."""
    verdicts = ", ".join(f"{row['verdict']} in {row['session']} on {row['n']} patients" for row in bundle.manifest.parity)
    if bundle.manifest.verified:
        return f"verified: {verdicts}"
    return f"not verified: {verdicts or 'never compared with its reference'}"


def verification_rows(table: Path, views: Sequence[View]) -> list[Study]:
    """Return the rows of ``studies.csv`` to judge on: its test rows, or all rows if the split column is empty.

    A row without a film of one of the bundle's `views` is left out: two empty answers always agree.

    Raises
    ------
    InputError
        There are none, or the table lacks a view.
    """
    from edgekit.studies import keep_filmed

    rows = _list_judged(table)
    if not rows:
        raise InputError(f"{table}: no rows to verify on", "give rows the split 'test', or leave the whole column empty")
    return keep_filmed(views, table, rows)


def _list_judged(table: Path) -> list[Study]:
    from edgekit.studies import read_studies, select

    studies = read_studies(table)
    if all(study.split is None for study in studies):
        return [study for study in studies if study.exclude is None]
    return select(studies, "test")


def _without_patients(row: dict[str, Any]) -> dict[str, Any]:
    """Return a parity record as it may leave the hospital: changed rows by their number, which only who has the table can trace."""
    return {**row, "flipped": [{key: value for key, value in each.items() if key != "patient_id"} for each in row["flipped"]]}


def _gate(problems: Sequence[str], draft: Path, model: str, force: bool, p50_ms: float | None = None) -> None:
    """Raise when there are problems, unless the bundle is to be written as not verified."""
    from edgekit.graphs.lowering import read_foreseen

    if problems and not force:
        size_mb = _measure_size(draft / model)
        message = f"not exported: {'; '.join(problems)}; the model has {size_mb:.2f} MB"
        undecided = any(problem.startswith("INCONCLUSIVE") for problem in problems)
        more = f"{MORE_PATIENTS}, with --studies (a run trained on simulated films makes them itself: --simulate 1500)"
        remedy = f"{more if undecided else 'see what differs'}, or write it as not verified with --force"
        raise RefusedError(message, remedy, size_mb, p50_ms, read_foreseen(draft))


def _exceed_budget(model: Path, size_mb: float | None) -> list[str]:
    """Return what is to be said about a model that is too large; nothing when it is not."""
    return [] if size_mb is None or _measure_size(model) <= size_mb else [f"it is larger than the recipe's budget of {size_mb:g} MB"]


def _measure_size(model: Path) -> float:
    """Return the size of a model, a file or a folder, in MB."""
    return sum(path.stat().st_size for path in ([model] if model.is_file() else model.rglob("*")) if path.is_file()) / 1e6


def _exceed_time(rows: list[dict[str, Any]], target: Target, baselines: Mapping[str, str]) -> list[str]:
    """Return what is to be said about a model that is too slow here, from the rows of its latency, the recipe's first session first.

    `baselines` are empty where the recipe asks for no gain.
    """
    problems = []
    first = rows[0]
    if target.p50_ms is not None and first["p50_ms"] > target.p50_ms:
        problems.append(f"{first['session']} takes {first['p50_ms']:.1f} ms, the recipe's budget is {target.p50_ms:g} ms")
    for session, baseline in baselines.items():
        gain = next(row["ratio"][baseline] for row in rows if row["session"] == session)
        if target.gain is not None and gain < target.gain:
            problems.append(f"8 bits are {gain:.2f} times as fast as the same graph in float, the recipe's budget is {target.gain:g}")
    return problems


def _look_at_float16(
    run: Path, pipeline: Pipeline, target: Target, backend: Backend, rows: Sequence[Study], draft: Path
) -> tuple[list[str], list[str]]:
    """Write ``float16.json`` for a target whose recipe asks for it.

    Returns
    -------
    problems, unproven
        What is beyond the recipe's limit; and why it was not looked at, where a stage has float16 activations.
    """
    from edgekit.calibration import read_calibration
    from edgekit.graphs.exporting import fold_batch_norms
    from edgekit.models.runfolder import find_studies
    from edgekit.quantization.headroom import LARGEST, measure_headroom

    stages = [stage for stage in ("detector", "members") if target.stages[stage] in backend.IN_HALVES]
    if not stages:
        return [], []
    unproven = "Whether a layer leaves the range of float16 was not looked at"
    if target.float16 is None:
        return [], [f"{unproven}: the recipe does not ask for it."]
    if find_studies(run) is None:
        return [], [f"{unproven}: the run names no studies."]
    films = read_calibration(run, target.float16, rows, pipeline.spec)
    headroom = measure_headroom(fold_batch_norms(pipeline), stages, films.patients.inputs, target.float16.limit)
    write_json(draft / FLOAT16, headroom.to_json())
    if not headroom.exceeded:
        return [], []
    widest = headroom.widest
    reached = max(widest.largest, widest.largest_sum or 0.0)
    return [
        f"{len(headroom.exceeded)} layers come too near to float16's largest value: {widest.layer} reaches {reached:.0f} of {LARGEST:.0f}, "
        f"the recipe accepts {target.float16.limit:g} of it"
    ], []


def _explain(
    bundle: Bundle, pipeline: Pipeline, rows: Sequence[Study], parity: Sequence[Parity], page: Path, modules: Mapping[str, SessionModule]
) -> list[str]:
    """Say what turned the answers of the first session that is refused, and show them on a page; nothing where there is none."""
    from edgekit.parity import summarize
    from edgekit.parity.refusal import describe_changes, explain_changes, write_page

    refused = next((row for row in parity if row.verdict != "PASS" and row.flips), None)
    if refused is None:
        return []
    changes = explain_changes(bundle, pipeline, rows, refused, modules)
    write_page(page, bundle, refused, summarize(refused), changes)
    return [f"{describe_changes(changes)} ({page} shows them)"]


def _check_destination(out: Path) -> Bundle | None:
    """Return the bundle that `out` holds, if it is a sound one.

    Raises
    ------
    InputError
        `out` is something else: it is never overwritten.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        return open_bundle(out)
    except EdgekitError as error:
        raise InputError(f"{out} exists and is not a sound bundle ({error.message})", "choose another --out, or delete it") from error


def _find_verification_rows(run: Path, studies: Path | None, force: bool) -> tuple[Path | None, Sequence[Study]]:
    """Return the table to judge on and its rows; with `force` there may be none, unless the table is named."""
    from edgekit.models.runfolder import find_studies, load_settings

    views = load_settings(run).task.views
    if studies is not None:
        return studies, verification_rows(studies, views)
    own = find_studies(run)
    if force and (own is None or not _list_judged(own)):
        return None, ()
    if own is None:
        raise InputError(f"{run}/provenance.json names no studies to verify on", "give a studies.csv with --studies")
    return own, verification_rows(own, views)


@contextmanager
def _draft_folder(out: Path) -> Iterator[Path]:
    """Make a folder beside `out` and remove what is left of it at the end."""
    draft = out.with_name(f".{out.name}.{os.getpid()}.part")
    draft.mkdir(parents=True)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _put_in_place(draft: Path, out: Path) -> None:
    """Rename `draft` to `out`; what was there is deleted only after that."""
    aside = out.with_name(f".{out.name}.{os.getpid()}.old")
    if out.exists():
        out.rename(aside)
    try:
        draft.rename(out)
    except OSError:
        if aside.exists():
            aside.rename(out)
        raise
    if aside.exists():
        shutil.rmtree(aside)


def _describe(
    pipeline: Pipeline,
    target: Target,
    backend: Backend,
    folder: Path,
    artifact: Artifact,
    corners: dict[str, Any] | None,
    provenance: dict[str, Any],
) -> Manifest:
    """Return the manifest of what was made, before anybody has judged it."""
    spec = pipeline.spec
    notices = [] if pipeline.detector is None else [pipeline.detector.notice]
    notices += [pipeline.member(name).notice for name in spec.members]
    offered = [name for name, module in backend.SESSIONS.items() if module.ABOUT.opens(target.stages)]
    fitted = pipeline.ensemble.answerable
    return Manifest(
        name=f"{spec.ensemble} for {target.name}",
        target=target.name,
        precision=target.precision,
        verified=False,
        intended_use=spec.task.intended_use,
        task=spec.task,
        brands=spec.brands,
        members=spec.members,
        ensemble=spec.ensemble,
        cases=tuple(case for case, answers in zip(spec.task.cases, fitted.tolist(), strict=True) if answers),
        thresholds={"box": spec.box_threshold, "view_margin": spec.view_margin, "coverage": spec.coverage},
        canvas={"side": spec.canvas_side, "dtype": "uint8", "padding": 0, "specification": "docs/canvas.md"},
        crop={"side": spec.crop_side, "margin": spec.crop_margin, "black": spec.black},
        tensors=describe_tensors(spec.task.views, spec.sizes, exact=target.judge.basis == "numerical"),
        backend=target.backend,
        stages=dict(target.stages),
        judge=asdict(target.judge),
        recipe=tomllib.loads((folder / RECIPE).read_text(encoding="utf-8")),
        sessions=tuple(dict.fromkeys((*target.sessions, *offered))),
        model=artifact.model,
        model_sha256=hash_tree(folder / artifact.model),
        graph=backend.describe(folder / artifact.model),
        corners=corners,
        unproven=(),
        parity=(),
        latency=(),
        provenance=provenance,
        licence=LICENCE,
        notices=tuple(dict.fromkeys(notices)),
        files={},
    )


def _trace(run: Path, run_sha256: str, table: Path | None, out: Path, packages: Sequence[str]) -> dict[str, Any]:
    """Return where a bundle comes from."""
    return {
        **describe_software(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "run": {"path": Path(os.path.relpath(run, out)).as_posix(), "sha256": run_sha256},
        "studies": table and {"path": Path(os.path.relpath(table, out)).as_posix(), "sha256": hash_file(table)},
    }
