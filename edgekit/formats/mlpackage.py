"""Reading a saved ``.mlpackage``: its specification and its weight file.

The format is Apple's: ``Manifest.json`` names the root model, a protobuf (``Model.proto``), whose constants lie in a blob file
(``MILBlob/Blob/StorageFormat.hpp`` of coremltools): a header of 64 bytes, then for each constant 64 bytes of metadata, on a multiple
of 64, that say where its data starts.
"""

from __future__ import annotations

import json
import logging
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import InputError, MissingError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

METADATA = struct.Struct("<IIQQQ")
"""Sentinel, dtype, size in bytes, offset of the data, bits of padding at its end."""
SENTINEL = 0xDEADBEEF
BLOB_TYPES: dict[int, str] = {
    1: "float16",
    2: "float32",
    3: "uint8",
    4: "int8",
    5: "bfloat16",
    6: "int16",
    7: "uint16",
    8: "int4",
    9: "uint1",
    10: "uint2",
    11: "uint4",
    12: "uint3",
    13: "uint6",
    14: "int32",
    15: "uint32",
}
"""``MILBlob::Blob::BlobDataType``."""


def import_coremltools() -> Any:
    """Import coremltools without what it prints about untested versions and the Mac's own libraries.

    Raises
    ------
    MissingError
        It is not installed.
    """
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        import coremltools
    except ModuleNotFoundError as error:
        raise MissingError("Core ML files are read and written with coremltools", 'pip install "edgekit-imaging[export]"') from error
    finally:
        logger.setLevel(level)
    return coremltools


def read_specification(package: Path) -> tuple[Any, Path]:
    """Read the specification of an ``.mlpackage``.

    Returns
    -------
    specification
        ``Model_pb2.Model``, an ML Program.
    folder
        Where its weight files lie.

    Raises
    ------
    InputError
        It is not a package, is damaged, or holds something else than an ML Program.
    """
    import_coremltools()
    from coremltools.proto import Model_pb2
    from google.protobuf.message import DecodeError

    try:
        manifest = json.loads((package / "Manifest.json").read_text(encoding="utf-8"))
        model = package / "Data" / manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
        content = model.read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{package}: not a readable .mlpackage ({type(error).__name__}: {error})", "export it again") from error
    if not model.resolve().is_relative_to(package.resolve()):
        raise InputError(f"{package}: its manifest names a model outside the package")
    specification = Model_pb2.Model()
    try:
        specification.ParseFromString(content)
    except DecodeError as error:
        raise InputError(f"{model}: not a Core ML model ({error})", "export it again") from error
    if (kind := specification.WhichOneof("Type")) != "mlProgram":
        raise InputError(f"{package} holds a Core ML model of type {kind}, expected an ML Program", 'convert it to "mlprogram"')
    return specification, model.parent


class Blobs:
    """The constants of a package's weight files.

    Parameters
    ----------
    folder
        Folder of the model file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, NDArray[np.uint8]] = {}

    def read(self, name: str, offset: int) -> tuple[str, NDArray[np.uint8]]:
        """Return the dtype and the raw bytes of the constant whose metadata lies at `offset` of the file `name`.

        Raises
        ------
        InputError
            The file is missing, leaves the package, or has no such constant.
        """
        file = self._open(name)
        if offset + METADATA.size > file.size:
            raise InputError(f"{name}: no constant at byte {offset}, the file has {file.size}", "export it again")
        sentinel, kind, size, start, _ = METADATA.unpack(file[offset : offset + METADATA.size].tobytes())
        if sentinel != SENTINEL or start + size > file.size:
            raise InputError(f"{name}: no constant at byte {offset}", "the file is damaged: export it again")
        if kind not in BLOB_TYPES:
            raise InputError(f"{name}: the constant at byte {offset} has the unknown type {kind}", f"known: {BLOB_TYPES}")
        return BLOB_TYPES[kind], file[start : start + size]

    def _open(self, name: str) -> NDArray[np.uint8]:
        if name not in self._files:
            path = self._folder / name.removeprefix("@model_path/")
            if not path.resolve().is_relative_to(self._folder.resolve()):
                raise InputError(f"the model's weights are said to be in {name}, outside the package")
            try:
                self._files[name] = np.memmap(path, np.uint8, "r")
            except (OSError, ValueError) as error:
                raise InputError(f"{path}: the model's weights can't be read ({error})", "export it again") from error
        return self._files[name]
