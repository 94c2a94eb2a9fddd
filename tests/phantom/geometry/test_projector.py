"""Thickness along rays against formulas for the solids themselves, ray by ray."""

import numpy as np
import pytest

from edgekit.phantom.body.anatomy import make_anatomy
from edgekit.phantom.geometry.mesh import make_box, make_ellipsoid, make_tube, merge, turn
from edgekit.phantom.geometry.projector import find_extent, measure_thickness
from edgekit.phantom.metal.construct import make_construct
from edgekit.phantom.metal.implants import DESIGNS


def _trace_rays(camera):
    """Return source (3,) and unit directions (H, W, 3) in patient coordinates, from the definition of a pinhole."""
    right, down, along = camera.axes
    source = camera.centre - camera.source_object_mm * along
    u = (np.arange(camera.width) + 0.5 - camera.principal[0]) * camera.spacing_mm
    v = (np.arange(camera.height) + 0.5 - camera.principal[1]) * camera.spacing_mm
    points = camera.source_image_mm * along + u[None, :, None] * right + v[:, None, None] * down
    return source, points / np.linalg.norm(points, axis=2, keepdims=True)


def _cut_ellipsoid(camera, radii):
    source, rays = _trace_rays(camera)
    origin, rays = source / radii, rays / radii
    a, b, c = (rays**2).sum(-1), rays @ origin, (origin**2).sum() - 1
    return 2 * np.sqrt(np.maximum(b**2 - a * c, 0)) / a


def _cut_box(camera, size, rotation):
    source, rays = _trace_rays(camera)
    origin, rays = source @ rotation, rays @ rotation
    with np.errstate(divide="ignore"):
        low, high = (-size / 2 - origin) / rays, (size / 2 - origin) / rays
    return np.maximum(np.maximum(low, high).min(-1) - np.minimum(low, high).max(-1), 0)


def test_ellipsoid_has_its_analytic_thickness(aim_camera):
    camera, radii = aim_camera(rotation=turn(2, 20) @ turn(0, 10)), np.array([14.0, 20.0, 9.0])
    measured = measure_thickness([make_ellipsoid(radii, 160)], [1.0], camera)
    truth = _cut_ellipsoid(camera, radii)
    assert truth.max() > 20
    assert np.abs(measured - truth)[truth > 8].max() < 0.08
    assert np.abs(measured - truth).max() < 1.0  # the rim, where the chord is steep and the mesh a polygon


@pytest.mark.parametrize("rotation", [np.eye(3), turn(0, 33) @ turn(1, 21) @ turn(2, 57)])
def test_box_is_exact_on_every_ray(aim_camera, rotation):
    camera, size = aim_camera(source_object_mm=400.0, source_image_mm=500.0), np.array([20.0, 30.0, 12.0])
    measured = measure_thickness([make_box(size).moved(rotation, np.zeros(3))], [1.0], camera)
    assert np.abs(measured - _cut_box(camera, size, rotation)).max() < 1e-3


def test_rod_is_as_thick_as_its_diameter(aim_camera):
    rod = make_tube(np.array([[0, 0, -30.0], [0, 0, 0], [0, 0, 30]]), 2.75, 64)
    measured = measure_thickness([rod], [1.0], aim_camera(), oversampling=2)
    assert measured.max() == pytest.approx(5.5, rel=0.002)


def test_magnification_is_sid_over_sod(aim_camera):
    camera = aim_camera(width=600, source_object_mm=900.0, source_image_mm=1125.0)
    marks = merge([make_box((2, 2, 2)).moved(np.eye(3), np.array([x, 0.0, 0.0])) for x in (-40.0, 40.0)])
    profile = measure_thickness([marks], [1.0], camera).sum(axis=0)
    columns = np.arange(camera.width) + 0.5
    middle = camera.principal[0]
    left, right = (np.average(columns[side], weights=profile[side]) for side in (columns < middle, columns > middle))
    assert (right - left) * camera.spacing_mm / 80 == pytest.approx(1125 / 900, rel=0.001)


def test_hollow_solids_are_the_difference(aim_camera):
    solids = [make_box((20, 20, 20)), make_box((16, 16, 16))]
    measured = measure_thickness(solids, [1.0, -1.0], aim_camera())
    assert measured[_find_middle(measured)] == pytest.approx(4.0, abs=0.01)


def _find_middle(image):
    return tuple(int(np.median(place)) for place in np.nonzero(image > 0.1))


def test_no_part_of_a_patient_has_negative_thickness(aim_camera):
    rng = np.random.default_rng(3)
    anatomy = make_anatomy(rng)
    levels = [anatomy.vertebrae[name] for name in ("L3", "L4", "L5", "S1")]
    metal = [
        part for design in DESIGNS.values() for part in make_construct(design, levels, rng, crosslinks=int(design.crosslink is not None))
    ]
    camera = aim_camera(spacing_mm=1.7, rotation=turn(2, 37))
    for part in (*anatomy.parts, *metal):
        assert part.mesh.volume() > 0
    image = measure_thickness([part.mesh for part in (*anatomy.parts, *metal)], [1.0] * (len(anatomy.parts) + len(metal)), camera)
    assert image.max() > 100
    assert image.min() >= -1e-3


def test_nothing_leaks_outside_a_silhouette(aim_camera):
    camera = aim_camera()
    ball = make_ellipsoid((20, 20, 20), 40)
    for angle in range(0, 90, 7):
        image = measure_thickness([ball.moved(turn(0, angle) @ turn(1, 2 * angle), np.zeros(3))], [1.0], camera)
        assert np.abs(image[_cut_ellipsoid(camera, np.full(3, 20.01)) == 0]).max() < 1e-6


def test_extent_is_the_box_of_what_is_thick_enough():
    image = np.zeros((40, 60), dtype=np.float32)
    image[10:20, 31:33] = 0.36
    image[5, 5] = 0.34
    assert find_extent(image, 2) == (15.5, 5.0, 16.5, 10.0)
    assert find_extent(np.zeros((4, 4), dtype=np.float32), 1) is None


def test_a_cropped_camera_sees_the_same_pixels(aim_camera):
    camera, ball = aim_camera(), make_ellipsoid((20, 15, 10), 30)
    whole = measure_thickness([ball], [1.0], camera, 2)
    part = measure_thickness([ball], [1.0], camera.cropped(slice(90, 140), slice(100, 220)), 2)
    np.testing.assert_allclose(part, whole[180:280, 200:440], atol=1e-4)
