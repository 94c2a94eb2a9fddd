"""A film file becomes a `Radiograph`, and a `Radiograph` becomes the canvas that the graph sees.

Everything here is specified in ``docs/canvas.md``, so that another language can do the same. `dicom` says which films are read, `header`
what their elements mean, `streams` decodes them, `grey` turns values into gray levels; `picture` reads PNG and JPEG; `canvas` letterboxes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit.errors import EdgekitError
from edgekit.radiograph.canvas import Letterbox, make_canvas
from edgekit.radiograph.refusals import refuse, refuse_damaged

if TYPE_CHECKING:
    from pathlib import Path

    from edgekit.types import Radiograph

__all__ = ["Letterbox", "make_canvas", "read_radiograph"]

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"


def read_radiograph(path: Path) -> Radiograph:
    """Decode a DICOM, PNG or JPEG film into 8-bit gray, larger is brighter (``docs/canvas.md``, "Gray levels").

    The content decides what the file is, not its name.

    Parameters
    ----------
    path
        The film.

    Returns
    -------
    Radiograph
        Pixels uint8 (height, width), the view and the spacing as far as the file tells them.

    Raises
    ------
    FilmError
        The film can't be read; its `reason` is a code of ``docs/canvas.md``, "Reasons for refusing a film".
    MissingError
        A package that decodes it is not installed.
    """
    from edgekit.radiograph.grey import check_contrast

    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError as error:
        raise refuse(path, "missing", f"the film can't be opened ({error.strerror})", "Check the path and the permissions.") from error
    if head.startswith((_PNG, _JPEG)):
        from edgekit.radiograph.picture import read_jpeg, read_png

        read = read_png if head.startswith(_PNG) else read_jpeg
    elif head[128:132] == b"DICM" or head[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):  # without the preamble: group 2 or 8
        from edgekit.radiograph.dicom import read_dicom

        read = read_dicom
    else:
        reason, found = ("unknown", "not a DICOM, PNG or JPEG file") if head else ("empty", "the file is empty")
        raise refuse(path, reason, found, "Export the film as DICOM, or as an 8- or 16-bit grayscale PNG.")  # type: ignore[arg-type]
    try:
        radiograph = read(path)
    except (EdgekitError, ImportError, MemoryError):
        raise
    except Exception as error:  # the codecs raise whatever damaged bytes lead them to
        raise refuse_damaged(path, f"{error}") from error
    check_contrast(path, radiograph.pixels)
    return radiograph
