import numpy as np
import pytest

from edgekit.phantom.geometry.projector import measure_thickness
from edgekit.phantom.geometry.wires import make_disc, make_ring, make_strip, make_wire
from edgekit.phantom.metal.placing import align


def test_ring_and_wire_have_their_volume():
    # Torus: 2 pi^2 R r^2; a polygon of n points has n/2 sin(2 pi/n) / pi of a circle's area.
    share = 6 / 2 * np.sin(2 * np.pi / 6) / np.pi
    assert make_ring(10.0, 1.0, 80).volume() == pytest.approx(2 * np.pi**2 * 10 * share, rel=0.01)
    loop = np.array([[0, 0, 0.0], [0, 0, 40], [0, 40, 40], [0, 40, 0]])
    assert make_wire(np.array([[0, 0, 0.0], [3, 4, 0]]), 2.0, 64).volume() == pytest.approx(np.pi * 4 * 5, rel=0.01)
    assert make_wire(loop, 1.0, 32).volume() > 0


def test_disc_is_as_thick_as_it_is_made(aim_camera):
    disc = make_disc(12.0, 2.5, 48).moved(align([0.0, 1.0, 0.0]), np.zeros(3))
    assert np.median(measure_thickness([disc], [1.0], aim_camera())[140:150, 145:160]) == pytest.approx(2.5, rel=0.002)


def test_strip_is_width_by_thickness_by_length():
    path = np.column_stack([np.zeros(5), np.zeros(5), np.linspace(0, 50, 5)])
    assert make_strip(path, np.array([1.0, 0, 0]), 12.0, 2.0).volume() == pytest.approx(12 * 2 * 50)
