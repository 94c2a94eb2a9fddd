"""Hospitals: what kind of patients they have, how they take a film and what they make of it.

`a` and `b` are two hospitals of the study. `many` stands for all the hospitals, machines and web pages that a detector may meet; `others`
and `elsewhere` differ from it, and from each other, in everything that was held out: the threshold is chosen in the one, because real films
differ too, and what is found is judged in the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edgekit.errors import UsageError
from edgekit.phantom.body.anatomy import STYLES
from edgekit.phantom.fields import FIELDS
from edgekit.phantom.imaging.beam import Beam
from edgekit.phantom.imaging.families import FAMILIES
from edgekit.phantom.marks.annotations import Annotation
from edgekit.phantom.metal.hardware import KINDS, SPINAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgekit.phantom.body.anatomy import Region

Range = tuple[float, float]
"""Ends of a uniform range."""


@dataclass(frozen=True, slots=True)
class Site:
    """A hospital.

    Attributes
    ----------
    regions
        Share of the films by region of the spine.
    styles
        Names in `edgekit.phantom.body.anatomy.STYLES`, drawn alike.
    levels
        Share of the constructs by number of instrumented vertebrae.
    beams
        Spectra, drawn alike.
    source_image_mm, film_mm
        Distance from source to detector; height of the film on the detector.
    close_share
        Share of the films that show little more than the operated levels, of those that are aimed at these.
    fields, field_share
        Names in `edgekit.phantom.fields.FIELDS`, drawn alike, and the share of the films that are taken of one of them, not of the
        operated levels.
    aspect
        Width of the film relative to its height.
    oblique_degrees
        Standard deviation of the tube's angle about the patient's long axis; `oblique_share` of the films are taken at up to 25 degrees.
    whole
        The construct is never cut off by the film's edge.
    irregular
        Share of the constructs that leave out a side or some screws.
    quanta_per_mm2, scatter, blur_mm
        See `edgekit.phantom.imaging.exposure.Exposure`.
    families
        Names in `edgekit.phantom.imaging.families.FAMILIES`, drawn alike.
    sides
        Long side of the pictures when the caller does not ask for one, pixels, log-uniform.
    framed
        Films are shuttered, turned, cropped, padded, resampled and compressed as pictures from many sources are.
    annotations
        What is burned in.
    metal
        Probability of each kind of metal that is no construct, beside a construct or without.
    spinal
        Kinds fixed to vertebrae, of which most patients who must have other metal have one; their films are framed as a construct's.
    midline
        Share of the surgeons who place lumbar screws from the midline.
    """

    regions: dict[Region, float]
    styles: tuple[str, ...]
    levels: dict[int, float]
    beams: tuple[Beam, ...]
    source_image_mm: Range
    film_mm: Range
    close_share: float
    aspect: Range
    oblique_degrees: float
    oblique_share: float
    whole: bool
    irregular: float
    quanta_per_mm2: Range
    scatter: Range
    blur_mm: Range
    families: tuple[str, ...]
    sides: Range
    framed: bool
    annotations: Annotation
    metal: dict[str, float] = field(default_factory=dict)
    spinal: tuple[str, ...] = ()
    midline: float = 0.04
    fields: tuple[str, ...] = ()
    field_share: float = 0.0


# Spectra as they reach the detector behind a patient.
_SOFT = Beam((40.0, 50.0, 62.0), (0.40, 0.38, 0.22))
_80_KVP = Beam((45.0, 57.0, 72.0), (0.40, 0.38, 0.22))
_94_KVP = Beam((50.0, 65.0, 85.0), (0.38, 0.40, 0.22))
_HARD = Beam((55.0, 75.0, 100.0), (0.34, 0.40, 0.26))

_KNOWN_KINDS = tuple(KINDS)[: tuple(KINDS).index("windowed-plate")]
"""Kinds of metal that the hospitals `a` and `b` may have; what came later would change their films."""
_COMMON_METAL = {
    **dict.fromkeys(_KNOWN_KINDS, 0.0),
    "cage": 0.25,
    "clips": 0.12,
    "staples": 0.12,
    "drain": 0.06,
    "ecg": 0.08,
    "jewellery": 0.05,
    "contrast": 0.03,
}
_ALL_METAL = {
    **dict.fromkeys(_KNOWN_KINDS, 0.05),
    "cage": 0.15,
    "clips": 0.12,
    "ecg": 0.12,
    "staples": 0.1,
    "anterior-plate": 0.1,
    "hip-prosthesis": 0.1,
    "jewellery": 0.1,
    "dental": 0.3,
    "needle": 0.1,
    **dict.fromkeys(("zero-profile", "laminoplasty", "mesh-cage", "buckles"), 0.05),
}
# What is held out of training, once to choose the threshold on and once to judge on: kinds of metal in the place of those that training
# knows, families of processing, kinds of patients, and fields.
_CHOSEN_METAL = ("windowed-plate", "vertebroplasty", "ratchets")
_JUDGED_METAL = ("sliding-plate", "laminar-spacers", "expandable-cage", "mobile-prosthesis")
_REPLACED_METAL = ("anterior-plate", "zero-profile", "laminoplasty", "mesh-cage", "kyphoplasty", "disc-prosthesis", "buckles", "brace")
_CHOSEN_FAMILIES, _JUDGED_FAMILIES = ("film",), ("clahe", "burnt")
_CHOSEN_STYLES, _JUDGED_STYLES = ("degenerate",), ("dense",)
_CHOSEN_FIELDS = (
    "lumbar-ap-low",
    "lumbar-lateral-low",
    "thoracic-ap-high",
    "thoracic-lateral-high",
    "cervical-ap-high",
    "cervical-lateral-high",
)
_JUDGED_FIELDS = (
    "thoracolumbar-ap",
    "thoracolumbar-lateral",
    "lumbar-lateral-narrow",
    "lower-lumbar-lateral",
    "lower-lumbar-ap",
    "ribs-ap",
    "ribs-lateral",
    "lower-neck-ap",
    "lower-neck-lateral",
)


def _leave_out(names: Iterable[str], *held_out: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if not any(name in some for some in held_out))


def _keep(names: Iterable[str], chosen: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name in chosen)


def _shift_metal(new: Sequence[str]) -> dict[str, float]:
    """Return the kinds of metal of a site that training does not know."""
    return {kind: share for kind, share in _ALL_METAL.items() if kind not in _REPLACED_METAL} | dict.fromkeys(new, 0.08)


_MARKER = Annotation(
    sides=(0, 1), words=(0, 1), blocks=(0, 0), arrows=(0, 0), lines=(0, 0), figures=(0, 0), rulers=(0, 0), bars=(0, 0), frames=(0, 0)
)

_A = Site(
    regions={"lumbar": 0.85, "thoracic": 0.15},
    styles=("adult", "young", "stout", "osteoporotic", "degenerate"),
    levels={2: 0.3, 3: 0.32, 4: 0.18, 5: 0.1, 6: 0.06, 8: 0.04},
    beams=(_94_KVP,),
    source_image_mm=(1100.0, 1500.0),
    film_mm=(290.0, 400.0),
    close_share=0.0,
    aspect=(0.62, 0.92),
    oblique_degrees=3.0,
    oblique_share=0.0,
    whole=True,
    irregular=0.08,
    quanta_per_mm2=(2.0e4, 1.2e5),
    scatter=(0.15, 0.5),
    blur_mm=(0.12, 0.3),
    families=("cr", "multifrequency"),
    sides=(1500.0, 1500.0),
    framed=False,
    annotations=_MARKER,
    metal=_COMMON_METAL,
)
_MANY = Site(
    regions={"lumbar": 0.45, "thoracic": 0.25, "cervical": 0.3},
    styles=_leave_out(STYLES, _CHOSEN_STYLES, _JUDGED_STYLES),
    levels={1: 0.07, 2: 0.23, 3: 0.22, 4: 0.16, 5: 0.1, 6: 0.08, 8: 0.08, 12: 0.06},
    beams=(_SOFT, _80_KVP, _94_KVP, _HARD),
    source_image_mm=(900.0, 1900.0),
    film_mm=(170.0, 600.0),
    close_share=0.4,
    aspect=(0.35, 1.3),
    oblique_degrees=5.0,
    oblique_share=0.15,
    whole=False,
    irregular=0.3,
    quanta_per_mm2=(2.0e3, 1.2e5),
    scatter=(0.1, 1.2),
    blur_mm=(0.1, 0.5),
    families=_leave_out(FAMILIES, _CHOSEN_FAMILIES, _JUDGED_FAMILIES),
    sides=(150.0, 1100.0),
    framed=True,
    annotations=Annotation(),
    metal=_ALL_METAL,
    spinal=_leave_out(SPINAL, _CHOSEN_METAL, _JUDGED_METAL),
    midline=0.12,
    fields=_leave_out(FIELDS, _CHOSEN_FIELDS, _JUDGED_FIELDS),
    field_share=0.6,
)
SITES: dict[str, Site] = {
    "a": _A,
    # Another technique: 80 kVp, a shorter distance, fewer quanta, a reader that sharpens more and compresses less.
    "b": replace(
        _A,
        beams=(_80_KVP,),
        source_image_mm=(1000.0, 1150.0),
        film_mm=(340.0, 430.0),
        quanta_per_mm2=(1.0e4, 4.0e4),
        scatter=(0.4, 0.9),
        blur_mm=(0.2, 0.45),
        families=("plain", "multifrequency"),
    ),
    "many": _MANY,
    "others": replace(
        _MANY,
        styles=_CHOSEN_STYLES,
        families=_CHOSEN_FAMILIES,
        metal=_shift_metal(_CHOSEN_METAL),
        spinal=_keep(SPINAL, _CHOSEN_METAL),
        fields=_CHOSEN_FIELDS,
    ),
    "elsewhere": replace(
        _MANY,
        styles=_JUDGED_STYLES,
        families=_JUDGED_FAMILIES,
        metal=_shift_metal(_JUDGED_METAL),
        spinal=_keep(SPINAL, _JUDGED_METAL),
        fields=_JUDGED_FIELDS,
    ),
}


def find_site(name: str) -> Site:
    """Return a site by name.

    Raises
    ------
    UsageError
        It is unknown.
    """
    if name not in SITES:
        raise UsageError(f"unknown site {name!r}", f"Use one of: {', '.join(SITES)}.")
    return SITES[name]


def check_size(size: int | None) -> None:
    """Raise `UsageError` when a film's long side of `size` pixels can't be made; None leaves it to the site."""
    if size is not None and not 64 <= size <= 4000:
        raise UsageError(f"size is {size}, expected 64 to 4000 pixels", "Give the long side of the films, for example --size 768.")
