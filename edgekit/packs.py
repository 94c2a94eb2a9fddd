"""Canvases for a device, and the answers that it sends back.

A *pack* is a numpy ``.npz`` (a zip of ``.npy`` entries, deflated), read entry by entry, so that no device needs memory for all of it::

    schema       int            1
    bundle       str            sha256 of the model to run, as ``model_sha256`` in the bundle's manifest
    pack         str            which canvases these are; whoever answers copies it
    present      float32 (N, V) 1 where the film of a view was given
    <view>_000000               uint8 (S, S), a canvas of row 0; only those of films given

A bundle's runner answers with ``outputs.npz`` (see `edgekit.parity.recording`), which ``edgekit verify --outputs`` judges.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from edgekit.contract import views_of
from edgekit.errors import InputError
from edgekit.files import replacing
from edgekit.parity.recording import PackHash, read_recording

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike

    from edgekit.parity.recording import Recording
    from edgekit.types import Bundle, Study, Tensors

SCHEMA = 1


def write_pack(bundle: Bundle, studies: Sequence[Study], path: Path) -> str:
    """Write the canvases of every row, whole or not at all; memory does not grow with the number of rows.

    The same films give the same bytes.

    Parameters
    ----------
    bundle
        What will run on the device.
    studies
        The rows, in the order in which they will be judged.
    path
        The file to write.

    Returns
    -------
    The pack's identity: what a verdict on the answers will name.

    Raises
    ------
    InputError
        There are no rows, a film can't be read, or `path` is inside the bundle.
    """
    if path.absolute().is_relative_to(bundle.folder.absolute()):
        raise InputError(f"{path} is inside the bundle, where an unlisted file is damage", "write the pack somewhere else")
    return _write_rows(bundle, _stream_rows(bundle, studies), path)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A pack of some of the rows.

    Attributes
    ----------
    pack
        Its identity.
    rows
        How many rows it holds.
    """

    path: Path
    pack: str
    rows: int


def write_chunks(bundle: Bundle, studies: Sequence[Study], folder: Path, rows: int) -> tuple[list[Chunk], str]:
    """Write the canvases as packs of `rows` consecutive rows each (the last may hold fewer) into `folder`.

    Returns
    -------
    The packs, and the identity that one pack of all the rows has.

    Raises
    ------
    InputError
        There are no rows, or a film can't be read.
    """
    whole, chunks = PackHash(bundle.canvas_side), []
    stream = _stream_rows(bundle, studies)

    def take(count: int) -> Iterator[Tensors]:
        for inputs in islice(stream, count):
            whole.add(inputs)
            yield inputs

    for first in range(0, len(studies), rows):
        count, path = min(rows, len(studies) - first), folder / f"{first:06d}.npz"
        chunks.append(Chunk(path, _write_rows(bundle, take(count), path), count))
    next(stream, None)  # nothing is left: with it ends its progress bar
    return chunks, whole.hexdigest()


def _stream_rows(bundle: Bundle, studies: Sequence[Study]) -> Iterator[Tensors]:
    """Yield the graph inputs of each row."""
    from edgekit.canvases import stream_inputs

    if not studies:
        raise InputError("a pack needs at least one row of studies", "give a table with test rows")
    for _, inputs, _ in stream_inputs(studies, bundle.views, bundle.canvas_side, "Packing canvases"):
        yield inputs


def _write_rows(bundle: Bundle, rows: Iterable[Tensors], path: Path) -> str:
    """Write one pack, whole or not at all, and return its identity."""
    identity, present = PackHash(bundle.canvas_side), []
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for row, inputs in enumerate(rows):
            identity.add(inputs)
            present.append(inputs["present"])
            for view, given in zip(views_of(inputs), inputs["present"], strict=True):
                if given:
                    _write_entry(archive, f"{view}_{row:06d}", inputs[view][0, 0])
        pack = identity.hexdigest()
        _write_entry(archive, "present", np.stack(present))
        for name, value in (("schema", SCHEMA), ("bundle", bundle.manifest.model_sha256), ("pack", pack)):
            _write_entry(archive, name, value)
    return pack


def read_outputs(path: Path, bundle: Bundle, rows: int) -> Recording:
    """Read what a device answered for a pack, and check all of it.

    Probabilities or boxes that are not numbers are the device's answer, and fail its verdict.

    Parameters
    ----------
    path
        The device's ``outputs.npz``.
    bundle
        What ran on the device.
    rows
        Number of rows of the pack.

    Raises
    ------
    InputError
        The file is missing, damaged, of another bundle or number of rows, or holds anything but the expected arrays.
    """
    return read_recording(path, bundle.manifest.model_sha256, rows, bundle.manifest.tensors["outputs"])


def _write_entry(archive: zipfile.ZipFile, name: str, value: ArrayLike) -> None:
    entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, so that the same films give the same bytes
    entry.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(entry, "w") as file:
        np.save(file, np.asarray(value), allow_pickle=False)
