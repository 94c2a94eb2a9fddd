"""The usual projections of the spine and their fields: films are taken of them wherever an implant is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.phantom.body.anatomy import Region
    from edgekit.task import View

Range = tuple[float, float]
"""Ends of a uniform range."""


@dataclass(frozen=True, slots=True)
class Field:
    """A projection; lengths in mm, in the plane of the spine.

    Attributes
    ----------
    region, view
        What it is taken of.
    centres
        Vertebrae at whose height the field's middle may be.
    height, width
        Of the field: what the collimator leaves.
    behind
        From the centre of that vertebra's body backwards to the field's middle; of a lateral field alone.
    """

    region: Region
    view: View
    centres: tuple[str, ...]
    height: Range
    width: Range
    behind: Range = (0.0, 0.0)


# Cassettes of 18 x 24 to 35 x 43 cm at magnifications of 1.1 to 1.3, collimated to the column or left open. No field is higher than what
# the anatomy of its region is made for.
FIELDS: dict[str, Field] = {
    "lumbar-ap": Field("lumbar", "ap", ("L2", "L3", "L4"), (290.0, 380.0), (180.0, 330.0)),
    "lumbar-ap-column": Field("lumbar", "ap", ("L2", "L3"), (290.0, 380.0), (110.0, 170.0)),
    "lumbar-lateral": Field("lumbar", "lateral", ("L2", "L3", "L4"), (290.0, 380.0), (190.0, 300.0), (-30.0, 15.0)),
    "lumbar-lateral-column": Field("lumbar", "lateral", ("L2", "L3"), (290.0, 380.0), (125.0, 185.0), (0.0, 25.0)),
    "lumbosacral-spot": Field("lumbar", "lateral", ("L5", "S1"), (140.0, 210.0), (120.0, 190.0), (-10.0, 20.0)),
    "upper-lumbar-ap": Field("lumbar", "ap", ("L1",), (280.0, 345.0), (120.0, 300.0)),
    "upper-lumbar-lateral": Field("lumbar", "lateral", ("L1",), (280.0, 345.0), (130.0, 260.0), (-20.0, 20.0)),
    "thoracic-ap": Field("thoracic", "ap", ("T7", "T8"), (300.0, 370.0), (130.0, 350.0)),
    "thoracic-lateral": Field("thoracic", "lateral", ("T7", "T8"), (300.0, 370.0), (130.0, 280.0), (-40.0, 25.0)),
    "chest-spine-ap": Field("thoracic", "ap", ("T8", "T9"), (390.0, 430.0), (200.0, 380.0)),
    "chest-spine-lateral": Field("thoracic", "lateral", ("T8", "T9"), (390.0, 430.0), (160.0, 320.0), (-30.0, 25.0)),
    "cervical-ap": Field("cervical", "ap", ("C4", "C5"), (160.0, 230.0), (100.0, 200.0)),
    "cervical-lateral": Field("cervical", "lateral", ("C3", "C4", "C5"), (170.0, 260.0), (120.0, 230.0), (-20.0, 25.0)),
    "neck-and-chest-ap": Field("cervical", "ap", ("C7", "T1"), (230.0, 270.0), (180.0, 340.0)),
    "cervicothoracic-spot": Field("cervical", "lateral", ("C7", "T1"), (150.0, 220.0), (130.0, 220.0), (-20.0, 25.0)),
    "upper-neck-ap": Field("cervical", "ap", ("C1", "C2"), (90.0, 140.0), (90.0, 150.0)),
    # Held out of training, to choose the threshold on. Each is beyond every field above in its centres, its height or its width.
    "lumbar-ap-low": Field("lumbar", "ap", ("L5",), (240.0, 320.0), (200.0, 300.0)),
    "lumbar-lateral-low": Field("lumbar", "lateral", ("L5",), (240.0, 330.0), (130.0, 220.0), (-5.0, 30.0)),
    "thoracic-ap-high": Field("thoracic", "ap", ("T4", "T5"), (210.0, 260.0), (120.0, 300.0)),
    "thoracic-lateral-high": Field("thoracic", "lateral", ("T4", "T5"), (210.0, 260.0), (130.0, 240.0), (-20.0, 20.0)),
    "cervical-ap-high": Field("cervical", "ap", ("C3",), (130.0, 190.0), (110.0, 170.0)),
    "cervical-lateral-high": Field("cervical", "lateral", ("C2",), (150.0, 220.0), (120.0, 200.0), (-10.0, 25.0)),
    # Held out of both, to judge on; beyond all above likewise.
    "thoracolumbar-ap": Field("lumbar", "ap", ("T12",), (220.0, 285.0), (110.0, 260.0)),
    "thoracolumbar-lateral": Field("lumbar", "lateral", ("T12",), (220.0, 285.0), (110.0, 180.0), (0.0, 20.0)),
    "lumbar-lateral-narrow": Field("lumbar", "lateral", ("L1", "L2", "L3"), (300.0, 370.0), (95.0, 122.0), (10.0, 25.0)),
    "lower-lumbar-lateral": Field("lumbar", "lateral", ("L4",), (215.0, 280.0), (110.0, 160.0), (5.0, 25.0)),
    "lower-lumbar-ap": Field("lumbar", "ap", ("L4",), (215.0, 280.0), (220.0, 360.0)),
    "ribs-ap": Field("thoracic", "ap", ("T10",), (290.0, 370.0), (220.0, 360.0)),
    "ribs-lateral": Field("thoracic", "lateral", ("T10",), (290.0, 370.0), (140.0, 230.0), (-10.0, 25.0)),
    "lower-neck-ap": Field("cervical", "ap", ("C6",), (180.0, 260.0), (140.0, 280.0)),
    "lower-neck-lateral": Field("cervical", "lateral", ("C6",), (180.0, 280.0), (110.0, 180.0), (-5.0, 30.0)),
}
"""Projections by name."""


def list_fields(names: tuple[str, ...], region: Region, view: View) -> tuple[str, ...]:
    """Return those of `names` that are taken of a region in a view."""
    return tuple(name for name in names if (FIELDS[name].region, FIELDS[name].view) == (region, view))
