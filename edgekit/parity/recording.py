"""What sessions answer for a table of films, and the file that keeps it.

A *recording* file is a numpy ``.npz`` without pickles; a device's ``outputs.npz`` is one::

    schema   int    1
    bundle   str    sha256 of the model that answered, as ``model_sha256`` in its bundle's manifest
    pack     str    which canvases it answered for (see `PackHash`)
    session  str    name of the session, such as "tensorrt"
    runtime  str    its name, version and device
    cpu      str    may be left out: what it ran on, the JSON of ``cpu`` in `edgekit.types.Parity`
    probabilities, members, boxes, box_scores, found, view_scores, prediction_set, unfamiliarity, decision
             the graph's outputs with their own dtypes, stacked: (N, ...) in the order of the rows
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.contract import OUTPUTS, views_of
from edgekit.cores import count_threads
from edgekit.errors import InputError
from edgekit.files import replacing
from edgekit.processors import describe_processor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgekit.task import View
    from edgekit.types import Session, Study, Tensors

SCHEMA = 1
RECORDED = tuple(name for name in OUTPUTS if name != "heatmaps")
"""The outputs that are kept: all but the large ones."""

THREADS = max(1, count_threads() // 2)
"""Threads within an operator: half the cores for the reference, half for a candidate. Two runtimes that both take all of them wait for
each other more than they work."""

LABELS = ("bundle", "pack", "session", "runtime")
CPU = "cpu"
CPU_FIELDS = {"name": (str,), "architecture": (str,), "features": (list,), "threads": (int, type(None)), "emulated": (str, type(None))}
"""Fields of the label `CPU` and their types."""

LONGEST_LABEL = 500
LARGEST_ENTRY = 2**28
"""Bytes of an entry, unpacked: far more than any table of patients needs."""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """What one session answered for a table of studies, row by row.

    Attributes
    ----------
    session, runtime
        Who answered.
    pack
        Which canvases it saw (see `PackHash`).
    outputs
        The `RECORDED` outputs, stacked: (N, ...) in the order of the studies.
    cpu
        What it ran on, as ``cpu`` of `edgekit.types.Parity`; None when a device did not tell.
    """

    session: str
    runtime: str
    pack: str
    outputs: Tensors
    cpu: dict[str, Any] | None = None


class PackHash:
    """Identity of a stream of canvases: sha256 over the side, then for each row ``present`` and the canvases of the films given."""

    def __init__(self, side: int) -> None:
        self._digest = hashlib.sha256(f"{side}\n".encode())

    def add(self, inputs: Tensors) -> None:
        """Take in the graph inputs of the next row."""
        self._digest.update(inputs["present"].tobytes())
        for view, given in zip(views_of(inputs), inputs["present"], strict=True):
            if given:
                self._digest.update(inputs[view].tobytes())

    def hexdigest(self) -> str:
        """Return the identity of the rows so far, in hexadecimal."""
        return self._digest.hexdigest()


def record(
    sessions: Sequence[Session], studies: Sequence[Study], views: Sequence[View], side: int, reference: Session | None = None
) -> list[Recording]:
    """Run every session over the same canvases, each film decoded once.

    Parameters
    ----------
    sessions
        They answer one after another, in this thread: not every runtime allows another.
    studies
        The rows.
    views
        The task's, in order.
    side
        Side of the canvas in pixels.
    reference
        Answers in a thread of its own meanwhile.

    Returns
    -------
    The reference's answers, if there is one, then those of `sessions`.

    Raises
    ------
    InputError
        There are no studies, or a film can't be read.
    """
    from edgekit.canvases import stream_inputs

    if not studies:
        raise InputError("a verdict needs at least one row of studies", "give a table with test rows")
    everyone = [*([reference] if reference else []), *sessions]
    kept: list[dict[str, list[NDArray[np.generic]]]] = [{name: [] for name in RECORDED} for _ in everyone]
    pack = PackHash(side)
    with ThreadPoolExecutor(1) as beside:
        for _, inputs, _ in stream_inputs(studies, views, side, "Comparing with the reference"):
            expected = [beside.submit(reference.infer, inputs)] if reference else []
            pack.add(inputs)
            answers = [session.infer(inputs) for session in sessions]
            for lists, outputs in zip(kept, [*(each.result() for each in expected), *answers], strict=True):
                for name in RECORDED:
                    lists[name].append(outputs[name])
    cpu = describe_processor(THREADS)
    return [
        Recording(session.name, session.runtime, pack.hexdigest(), {name: np.stack(values) for name, values in lists.items()}, cpu)
        for session, lists in zip(everyone, kept, strict=True)
    ]


def join_recordings(parts: Sequence[Recording], pack: str) -> Recording:
    """Join what one session answered for consecutive rows; `pack` is the identity of all of them."""
    outputs = {name: np.concatenate([part.outputs[name] for part in parts]) for name in RECORDED}
    return replace(parts[0], pack=pack, outputs=outputs)


def identify_canvases(studies: Sequence[Study], views: Sequence[View], side: int) -> str:
    """Return the identity of the canvases that the films make now (see `PackHash`); no session runs."""
    from edgekit.canvases import stream_inputs

    pack = PackHash(side)
    for _, inputs, _ in stream_inputs(studies, views, side, "Reading the films"):
        pack.add(inputs)
    return pack.hexdigest()


def write_recording(path: Path, recording: Recording, bundle: str) -> None:
    """Write a recording, whole or not at all; `bundle` says which model answered."""
    labels = {"bundle": bundle, "pack": recording.pack, "session": recording.session, "runtime": recording.runtime}
    arrays: dict[str, Any] = {"schema": SCHEMA, **labels, **recording.outputs}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_recording(path: Path, bundle: str, rows: int, tensors: dict[str, Any]) -> Recording:
    """Read a recording and check all of it.

    Parameters
    ----------
    bundle
        The model that must have answered.
    rows
        Number of rows N that it must have answered.
    tensors
        ``dtype`` and ``shape`` of each graph output, as ``tensors.outputs`` of a manifest.

    Raises
    ------
    InputError
        The file is missing, damaged, of another schema, model or number of rows, or holds anything but the expected arrays.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file", "a bundle's runner writes it: python runner/run.py --pack canvases.npz --out FOLDER")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(path, archive)
            if (schema := int(_read_array(path, archive, "schema", np.dtype(np.int64), ()))) != SCHEMA:
                raise InputError(f"{path}: schema {schema}, this edgekit reads {SCHEMA}", "pip install --upgrade edgekit-imaging")
            labels = {name: _read_label(path, archive, name) for name in LABELS}
            cpu = _read_cpu(path, archive) if f"{CPU}.npy" in archive.namelist() else None
            if labels["bundle"] != bundle:
                raise InputError(
                    f"{path} was answered by another model: {labels['bundle'][:12]}, this bundle's is {bundle[:12]}",
                    "run this bundle's own runner on the device",
                )
            shape = (rows, *tensors["probabilities"]["shape"])
            answered = len(_read_array(path, archive, "probabilities", np.dtype(np.float32), (-1, *shape[1:])))
            if answered != rows:
                raise InputError(f"{path} answers {answered} rows, the studies have {rows}", "give the studies that the pack was made of")
            outputs = {
                name: _read_array(path, archive, name, np.dtype(tensors[name]["dtype"]), (rows, *tensors[name]["shape"]))
                for name in RECORDED
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise InputError(f"{path} is damaged or not an .npz file: {error}", "copy it from the device again") from error
    return Recording(labels["session"], labels["runtime"], labels["pack"], outputs, cpu)


def _check_entries(path: Path, archive: zipfile.ZipFile) -> None:
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    expected = {"schema", *LABELS, *RECORDED}
    for what, wrong in (("lacks", expected - set(names)), ("has the unknown entries", set(names) - expected - {CPU})):
        if wrong:
            raise InputError(f"{path} {what} {', '.join(sorted(wrong))}", "write it with the runner of the bundle")
    if len(names) != len(set(names)):
        raise InputError(f"{path} has an entry twice", "write it with the runner of the bundle")
    if largest := [info.filename for info in archive.infolist() if info.file_size > LARGEST_ENTRY]:
        raise InputError(f"{path}: '{largest[0]}' is larger than {LARGEST_ENTRY} bytes", "write it with the runner of the bundle")


def _read_array(path: Path, archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Read one entry; -1 in `shape` is any length, and a scalar may be of a shorter type of the same kind."""
    with archive.open(f"{name}.npy") as file:
        try:
            array: NDArray[np.generic] = np.load(file, allow_pickle=False)
        except (ValueError, MemoryError) as error:
            raise InputError(
                f"{path}: '{name}' is not a plain array: {error}", "write it with numpy.savez; pickled objects are never read"
            ) from error
    same_type = array.dtype == dtype or (not shape and array.dtype.kind == dtype.kind and array.dtype.itemsize <= dtype.itemsize)
    if not same_type or array.ndim != len(shape) or any(want not in (-1, found) for want, found in zip(shape, array.shape, strict=True)):
        wanted = f"{dtype} {shape}".replace("-1", "N")
        raise InputError(f"{path}: '{name}' is {array.dtype} {array.shape}, expected {wanted}", "write it with the runner of the bundle")
    return array


def _read_label(path: Path, archive: zipfile.ZipFile, name: str) -> str:
    text = str(_read_array(path, archive, name, np.dtype(f"U{LONGEST_LABEL}"), ()))
    if not text or not text.isprintable():
        raise InputError(f"{path}: '{name}' is {text!r}, expected printable text", "write it with the runner of the bundle")
    return text


def _read_cpu(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    text = _read_label(path, archive, CPU)
    try:
        cpu = json.loads(text)
        sound = set(cpu) == set(CPU_FIELDS) and all(type(cpu[name]) in types for name, types in CPU_FIELDS.items())
    except (ValueError, TypeError):
        sound = False
    if not sound or not all(isinstance(feature, str) for feature in cpu["features"]):
        expected = ", ".join(CPU_FIELDS)
        raise InputError(f"{path}: '{CPU}' is {text!r}, expected the fields {expected}", "write it with the runner of the bundle")
    return dict(cpu)
