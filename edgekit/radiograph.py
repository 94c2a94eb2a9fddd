"""A film file becomes a `Radiograph`, and a `Radiograph` becomes the canvas that the graph sees.

Everything here is specified in ``docs/canvas.md``, so that another language can do the same.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import EdgekitError, InputError
from edgekit.types import Radiograph

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

    from edgekit.types import Box, View

MAX_PIXELS = 80_000_000
"""A film with more pixels is refused before it is decoded: a stitched full spine at 0.1 mm has 40 million."""

PERMILLE = (5, 995)
"""The percentile window, in thousandths of the pixels: 0.5 % and 99.5 %."""

VIEW_POSITIONS: dict[str, View] = {
    "AP": "ap",
    "PA": "ap",
    "LL": "lateral",
    "RL": "lateral",
    "LAT": "lateral",
    "LATERAL": "lateral",
}
"""DICOM View Position (0018,5101) to our views; anything else is unknown."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a film lies on its canvas. Film and canvas coordinates have their origin at the outer corner of the top-left pixel.

    Attributes
    ----------
    side
        Side of the square canvas in pixels.
    scale
        Canvas pixels per film pixel along the film's long side.
    left, top
        First canvas column and row that the film covers.
    width, height
        Size of the film in film pixels.
    """

    side: int
    scale: float
    left: int
    top: int
    width: int
    height: int

    @property
    def covered(self) -> tuple[int, int]:
        """Width and height of the film on the canvas in whole canvas pixels."""
        return max(1, math.floor(self.width * self.scale + 0.5)), max(1, math.floor(self.height * self.scale + 0.5))

    def to_canvas(self, box: Box) -> Box:
        """Map a box from film pixels to canvas pixels."""
        covered_width, covered_height = self.covered
        x, y = covered_width / self.width, covered_height / self.height
        return self.left + box[0] * x, self.top + box[1] * y, self.left + box[2] * x, self.top + box[3] * y

    def to_film(self, box: Box) -> Box:
        """Map a box from canvas pixels to film pixels; not clipped to the film."""
        covered_width, covered_height = self.covered
        x, y = self.width / covered_width, self.height / covered_height
        return (box[0] - self.left) * x, (box[1] - self.top) * y, (box[2] - self.left) * x, (box[3] - self.top) * y


def make_canvas(pixels: NDArray[np.uint8], side: int) -> tuple[NDArray[np.uint8], Letterbox]:
    """Letterbox a film into a square canvas (``docs/canvas.md``, "Letterbox" and "Resampling").

    Parameters
    ----------
    pixels
        uint8 (height, width) film.
    side
        Side S of the canvas in pixels.

    Returns
    -------
    canvas
        uint8 (S, S): the film, resampled by a triangle filter so that its long side fills S, centred, 0 around it.
    letterbox
        How film pixels and canvas pixels correspond.

    Raises
    ------
    ValueError
        `pixels` is not a two-dimensional uint8 array with at least one pixel.
    """
    from PIL import Image

    if pixels.ndim != 2 or pixels.dtype != np.uint8 or pixels.size == 0:
        raise ValueError(f"expected a uint8 film (height, width), got {pixels.dtype} {pixels.shape}")
    height, width = pixels.shape
    scale = side / max(width, height)
    covered_width, covered_height = Letterbox(side, scale, 0, 0, width, height).covered
    letterbox = Letterbox(side, scale, (side - covered_width) // 2, (side - covered_height) // 2, width, height)
    film = Image.fromarray(pixels).resize((covered_width, covered_height), Image.Resampling.BILINEAR)
    canvas = np.zeros((side, side), np.uint8)
    canvas[letterbox.top : letterbox.top + covered_height, letterbox.left : letterbox.left + covered_width] = np.asarray(film)
    return canvas, letterbox


def read_radiograph(path: Path) -> Radiograph:
    """Decode a DICOM, PNG or JPEG film into 8-bit gray, larger is brighter (``docs/canvas.md``, "Gray levels").

    The content decides what the file is, not its name. DICOM: modality LUT or rescale, then the first VOI LUT, else the first
    window, else a percentile window; MONOCHROME1 and an INVERSE presentation LUT shape are inverted (PS3.3 C.7.6.3.1.2, C.11.1,
    C.11.2, C.11.6). PNG and JPEG: EXIF orientation applied, colour to luminance, transparency on black, 16 bits by a percentile window.

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
    InputError
        The file is missing, empty, cut off, of another kind, too large, in colour (DICOM), of several frames, or in a transfer
        syntax that can't be decoded here.
    """
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError as error:
        raise InputError(f"{path}: the film can't be opened ({error.strerror}).", "Check the path and the permissions.") from error
    if head.startswith((_PNG, _JPEG)):
        read, kind = _read_picture, "PNG" if head.startswith(_PNG) else "JPEG"
    elif head[128:132] == b"DICM" or head[:2] in (b"\x02\x00", b"\x08\x00"):  # without the preamble a data set starts at group 2 or 8
        read, kind = _read_dicom, "DICOM"
    else:
        found = "the file is empty" if not head else "not a DICOM, PNG or JPEG file"
        raise InputError(f"{path}: {found}.", "Export the film as DICOM, or as an 8- or 16-bit grayscale PNG.")
    try:
        return read(path)
    except EdgekitError:
        raise
    except Exception as error:  # the codecs raise whatever damaged bytes lead them to
        raise InputError(f"{path}: damaged or cut off {kind} file ({error}).", "Copy or export the film again.") from error


def _read_picture(path: Path) -> Radiograph:
    """Decode a PNG or JPEG. The two file classes are named, so that no other format is sniffed."""
    from PIL import ImageOps
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    with path.open("rb") as file:
        kind = PngImageFile if file.read(len(_PNG)) == _PNG else JpegImageFile
        file.seek(0)
        with kind(file) as picture:
            _check_size(path, *picture.size)
            upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):
        stored = np.asarray(upright).astype(np.uint16)
        grey = _window_percentiles(np.arange(1 << 16, dtype=float), np.bincount(stored.ravel(), minlength=1 << 16))
        return Radiograph(_look_up(stored, _to_bytes(grey)), None, None, path)
    return Radiograph(_to_luminance(upright), None, None, path)


def _to_luminance(picture: Image.Image) -> NDArray[np.uint8]:
    """Return the ITU-R 601 luminance, composited on black where the picture is transparent: uint8 (height, width)."""
    if not picture.has_transparency_data:
        return np.array(picture.convert("L"))
    opaque = picture.convert("RGBA")
    light, alpha = np.asarray(opaque.convert("RGB").convert("L"), np.int32), np.asarray(opaque.getchannel("A"), np.int32)
    return ((light * alpha + 127) // 255).astype(np.uint8)


def _read_dicom(path: Path) -> Radiograph:
    """Decode a DICOM film."""
    import pydicom

    # a file that ends early is an error below; how a value is spelled is only a formality
    warnings.filterwarnings("ignore", "End of file reached|Invalid value for VR|The value length", UserWarning, "pydicom")
    dataset = pydicom.dcmread(path, force=True)
    if "PixelData" not in dataset:
        raise InputError(f"{path}: no complete pixel data; the file is cut off or is not a DICOM image.", "Copy or export the film again.")
    _check_grey_single_frame(path, dataset)
    stored = decode_pixels(path, dataset)
    pixels = _look_up(stored, _make_grey_table(path, dataset, stored))
    position = str(dataset.get("ViewPosition") or "").strip().upper()
    return Radiograph(pixels, VIEW_POSITIONS.get(position), _get_spacing(dataset), path)


def _check_size(path: Path, width: int, height: int) -> None:
    """Refuse a film before memory is spent on it."""
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{path}: {width} x {height} pixels, expected at most {MAX_PIXELS // 1_000_000} million.",
            "Export the film at a lower resolution.",
        )


def _check_grey_single_frame(path: Path, dataset: Any) -> None:
    """Raise for objects that are not one grayscale film of 8 to 16 bits."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise InputError(f"{path}: {frames} frames, expected a single film.", "Export the frame you mean as a film of its own.")
    photometric = str(dataset.get("PhotometricInterpretation", "missing"))
    if dataset.get("SamplesPerPixel", 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(
            f"{path}: not a grayscale DICOM object (photometric interpretation {photometric}), expected MONOCHROME1 or MONOCHROME2.",
            "Export the original film, not a screenshot or a secondary capture; a screenshot is accepted as PNG.",
        )
    allocated, used = dataset.BitsAllocated, dataset.BitsStored
    if allocated not in (8, 16) or not 1 <= used <= allocated:
        raise InputError(f"{path}: {used} bits stored in {allocated} allocated, expected at most 16 in 8 or 16.", "Export the film again.")
    _check_size(path, dataset.Columns, dataset.Rows)


def decode_pixels(path: Path, dataset: Any) -> NDArray[Any]:
    """Return the stored bit patterns, uint8 or uint16 (height, width); the bits above BitsStored may hold anything."""
    from pydicom.pixels import get_decoder, pixel_array
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "TransferSyntaxUID" not in dataset.file_meta:  # a bare data set without the file's preamble
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if dataset.original_encoding[0] else ExplicitVRLittleEndian
    syntax = dataset.file_meta.TransferSyntaxUID
    convert = f"convert the film, for example with GDCM: gdcmconv --raw {path.name} uncompressed.dcm"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise InputError(f"{path}: the transfer syntax {syntax.name} ({syntax}) can't be decoded.", f"First {convert}") from error
    if not decoder.is_native and "pylibjpeg" not in decoder.available_plugins:
        raise InputError(
            f"{path}: no decoder for the transfer syntax {syntax.name} ({syntax}) is installed.",
            f"pip install --upgrade pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg pylibjpeg-rle; or first {convert}",
        )
    # one named decoder: the same lossy film must not differ between two machines
    plugin = "" if decoder.is_native else "pylibjpeg"
    pixels: NDArray[Any] = pixel_array(dataset, raw=True, view_only=True, correct_unused_bits=False, decoding_plugin=plugin)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False).view(f"u{pixels.itemsize}")


def _make_grey_table(path: Path, dataset: Any, stored: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the gray level of every bit pattern that a pixel cell can hold: uint8 (2 ** bits,).

    The whole grayscale pipeline runs on this table instead of on the film: exact, and a film is one indexing.
    """
    used = int(dataset.BitsStored)
    patterns = np.arange(1 << 8 * stored.itemsize)
    high_bit = int(dataset.get("HighBit", used - 1))
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        high_bit = used - 1  # a codec delivers its values right-aligned
    values = (patterns >> (high_bit + 1 - used)) & ((1 << used) - 1)
    if dataset.PixelRepresentation == 1:
        values = np.where(values >> (used - 1), values - (1 << used), values)
    is_padding = _find_padding(dataset, values)
    measured = _apply_modality(path, dataset, values)
    grey = _apply_voi(path, dataset, measured)
    if grey is None:
        counts = np.bincount(stored.ravel(), minlength=patterns.size)
        grey = _window_percentiles(measured, np.where(is_padding, 0, counts))
    # PS3.3 C.8.11.3.1.2: MONOCHROME1 goes with INVERSE, so both together are one inversion
    inverse = str(dataset.get("PresentationLUTShape") or "").strip().upper() == "INVERSE"
    if dataset.PhotometricInterpretation == "MONOCHROME1" or inverse:
        grey = 1 - grey
    return _to_bytes(np.where(is_padding, 0.0, grey))


def _find_padding(dataset: Any, values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which stored `values` are padding around the film (PS3.3 C.7.5.1.1.2); none when the file does not say."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(values.shape, np.bool_)
    limit = dataset.get("PixelPaddingRangeLimit")
    last = first if limit is None else limit
    low, high = min(first, last), max(first, last)
    # modulo 2 ** 16, for the tag may be written unsigned beside signed pixels
    return np.asarray((values - low) % (1 << 16) <= high - low)


def _apply_modality(path: Path, dataset: Any, values: NDArray[np.int64]) -> NDArray[np.float64]:
    """Apply the modality LUT, else the rescale (PS3.3 C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        return _read_lut(path, dataset, dataset.ModalityLUTSequence[0], values.astype(float))[0]
    slope, intercept = _first_number(dataset, "RescaleSlope"), _first_number(dataset, "RescaleIntercept")
    measured = values.astype(float)
    return measured if slope is None or intercept is None else measured * slope + intercept


def _apply_voi(path: Path, dataset: Any, values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Map `values` to 0..1 by the first VOI LUT, else the first window (PS3.3 C.11.2); None when there is neither."""
    if dataset.get("VOILUTSequence"):
        entries, top = _read_lut(path, dataset, dataset.VOILUTSequence[0], values)
        return entries / top
    centre, width = _first_number(dataset, "WindowCenter"), _first_number(dataset, "WindowWidth")
    if centre is None or width is None:
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise InputError(
            f"{path}: Window Width is {width:g}, expected at least 1 (PS3.3 C.11.2.1.2).", "Correct Window Width, or delete Window Center."
        )
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700))))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    elif function != "LINEAR_EXACT":
        raise InputError(
            f"{path}: VOI LUT Function is {function!r}, expected LINEAR, LINEAR_EXACT or SIGMOID.", "Correct it, or delete Window Center."
        )
    if width == 0:
        return (values > centre).astype(float)
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _read_lut(path: Path, dataset: Any, item: Any, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Look `values` up in a modality or VOI LUT; return the entries and the largest possible one (PS3.3 C.11.1.1.1, C.11.2.1.1)."""
    number, first, bits = item.LUTDescriptor
    number = number or 1 << 16
    data = item.LUTData
    if isinstance(data, bytes):
        wide = len(data) >= 2 * number
        little = bool(dataset.original_encoding[1])
        data = np.frombuffer(data, ("<u2" if little else ">u2") if wide else "u1")
    entries = np.asarray(data, float)[:number]
    if entries.size < number or not 8 <= bits <= 16:
        raise InputError(
            f"{path}: a lookup table of {entries.size} entries of {bits} bits, expected {number} entries of 8 to 16 bits.",
            "The film's header contradicts itself: export it again.",
        )
    return entries[np.clip(np.rint(values) - first, 0, number - 1).astype(int)], (1 << bits) - 1


def _window_percentiles(values: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Map `values` to 0..1 between the 0.5th and the 99.5th percentile (nearest rank) of a film with `counts` pixels of each."""
    order = np.argsort(values, kind="stable")
    reached = 1000 * np.cumsum(counts[order])
    low, high = (values[order[np.searchsorted(reached, share * counts.sum())]] for share in PERMILLE)
    return np.asarray(np.clip((values - low) / (high - low or 1.0), 0, 1))


def _to_bytes(grey: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Round 0..1 to 0..255, halves up."""
    return np.floor(grey * 255 + 0.5).astype(np.uint8)


def _look_up(stored: NDArray[Any], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Index `table` by the unsigned `stored` values (height, width); a band of rows at a time, so that the indices stay in cache."""
    pixels = np.empty(stored.shape, np.uint8)
    for row in range(0, stored.shape[0], 64):
        np.take(table, stored[row : row + 64], out=pixels[row : row + 64], mode="clip")
    return pixels


def _get_spacing(dataset: Any) -> tuple[float, float] | None:
    """Return the row and column spacing in mm from Pixel Spacing, else Imager Pixel Spacing; None when neither is two positive numbers."""
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        numbers: Any = dataset.get(name) or ()
        if len(numbers) == 2 and min(numbers) > 0:
            row, column = map(float, numbers)
            return row, column
    return None


def _first_number(dataset: Any, name: str) -> float | None:
    """Return the first value of a decimal string element, or None when it is absent or empty."""
    value = dataset.get(name)
    if value is None or value == "":
        return None
    return float(value) if isinstance(value, (int, float, str)) else next((float(number) for number in value), None)
