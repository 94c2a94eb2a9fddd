"""Canvases for a device, and the answers that it sends back.

A *pack* is a numpy ``.npz`` (a zip of ``.npy`` entries, deflated), read entry by entry, so that no device needs memory for all of it::

    schema       int            1
    bundle       str            sha256 of the model to run, as ``model_sha256`` in the bundle's manifest
    pack         str            which canvases these are; whoever answers copies it
    present      float32 (N, 2) 1 where the AP, the lateral film was given
    ap_000000, lateral_000000   uint8 (S, S), the canvases of row 0; only those of films given

A bundle's runner answers with ``outputs.npz`` (see `edgekit.parity.recording`), which ``edgekit verify --outputs`` judges.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import InputError
from edgekit.files import replacing
from edgekit.parity.recording import PackHash, read_recording
from edgekit.types import VIEWS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike

    from edgekit.parity.recording import Recording
    from edgekit.types import Bundle, Study

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
    from edgekit.canvases import stream_inputs

    if not studies:
        raise InputError("a pack needs at least one row of studies", "give a table with test rows")
    if path.absolute().is_relative_to(bundle.folder.absolute()):
        raise InputError(f"{path} is inside the bundle, where an unlisted file is damage", "write the pack somewhere else")
    identity, present = PackHash(bundle.canvas_side), []
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for row, (_, inputs, _) in enumerate(stream_inputs(studies, bundle.canvas_side, "Packing canvases")):
            identity.add(inputs)
            present.append(inputs["present"])
            for view, given in zip(VIEWS, inputs["present"], strict=True):
                if given:
                    _write_entry(archive, f"{view}_{row:06d}", inputs[view][0, 0])
        pack = identity.hexdigest()
        _write_entry(archive, "present", np.stack(present))
        for name, value in (("schema", SCHEMA), ("bundle", bundle.manifest["model_sha256"]), ("pack", pack)):
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
    return read_recording(path, bundle.manifest["model_sha256"], rows, bundle.manifest["tensors"]["outputs"])


def _write_entry(archive: zipfile.ZipFile, name: str, value: ArrayLike) -> None:
    entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, so that the same films give the same bytes
    entry.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(entry, "w") as file:
        np.save(file, np.asarray(value), allow_pickle=False)
