from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgekit.phantom.metal.implants import DESIGNS, UNSEEN
from edgekit.reading.illustrations import PIXELS_PER_MM, draw_design


def measure(design) -> tuple[float, float]:
    """Height and width in mm of the first thing drawn: the screw seen along its rod."""
    ink = np.asarray(draw_design(design))[:560, :190] < 250
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return (rows[-1] - rows[0] + 1) / PIXELS_PER_MM, (columns[-1] - columns[0] + 1) / PIXELS_PER_MM


@pytest.mark.parametrize("name", DESIGNS | UNSEEN)
def test_a_drawing_is_true_to_scale(name):
    """From the tip to the top of what stands highest, and across the widest part of the tulip, by the design's own numbers."""
    design = (DESIGNS | UNSEEN)[name]
    tulip = design.tulip
    height, width = measure(design)
    assert height == pytest.approx(45.0 + tulip.height + max(tulip.tab, design.set_screw, 0.0), abs=0.4)
    assert width == pytest.approx(tulip.width * max(1.0, tulip.flare), abs=0.5)


def test_no_two_designs_look_alike():
    drawings = {name: np.asarray(draw_design(design), np.int16) for name, design in DESIGNS.items()}
    for first, second in itertools.combinations(drawings, 2):
        differing = (abs(drawings[first] - drawings[second]) > 40).mean()
        assert differing > 0.02, f"{first} and {second}"


def test_nothing_is_cut_off():
    for design in DESIGNS.values():
        drawing = np.asarray(draw_design(design))
        assert min(drawing[0].min(), drawing[-1].min(), drawing[:, 0].min(), drawing[:, -1].min()) == 255
