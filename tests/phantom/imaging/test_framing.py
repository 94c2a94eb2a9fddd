from dataclasses import replace

import numpy as np
import pytest

from edgekit.phantom.imaging.framing import RESAMPLINGS, Framing, draw_framing, frame

BOX = (70.0, 80.0, 150.0, 200.0)


@pytest.fixture(scope="module")
def scene():
    grey = np.full((300, 240), 0.25, dtype=np.float32)
    thickness = np.zeros_like(grey)
    x0, y0, x1, y1 = map(int, BOX)
    grey[y0:y1, x0:x1], thickness[y0:y1, x0:x1] = 0.95, 6.0
    return grey, thickness


def find_bright(grey, threshold=0.6):
    rows, columns = np.flatnonzero((grey > threshold).any(axis=1)), np.flatnonzero((grey > threshold).any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


WAYS = {
    "nothing": Framing(),
    "crop": Framing(crop=(0.1, 0.2, 0.9, 0.8)),
    "cut": Framing(crop=(0.4, 0.0, 1.0, 0.6)),
    "turn": Framing(degrees=12.0),
    "turn back": Framing(degrees=-15.0, expand=True),
    "mirror": Framing(mirror=True),
    "upside down": Framing(upside_down=True, mirror=True),
    "bars": Framing(bars=(0.1, 0.0, 0.03, 0.2)),
    "stretch": Framing(aspect=1.08),
    "squeeze": Framing(aspect=0.93),
    "small": Framing(side=140),
    "large": Framing(side=1100),
    "shutters": Framing(shutters=(0.4, 0.1, 0.1, 0.45)),
    "oblique shutters": Framing(shutters=(0.4, 0.1, 0.1, 0.45), shutter_degrees=5.0),
    "disc": Framing(disc=0.6, disc_centre=(0.5, 0.5)),
    "JPEG": Framing(qualities=(60, 90)),
    "posterised": Framing(levels=20),
    "all": Framing(
        crop=(0.1, 0.1, 1.0, 0.9), degrees=7, expand=True, mirror=True, bars=(0.0, 0.1, 0.0, 0.1), aspect=1.05, side=500, qualities=(70,)
    ),
    **{name: Framing(side=411, resampling=name) for name in RESAMPLINGS},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_box_is_where_the_picture_shows_it(scene, way):
    framed = frame(*scene, WAYS[way])
    assert framed.grey.dtype == np.float32
    assert np.isfinite(framed.grey).all()
    np.testing.assert_allclose(framed.box, find_bright(framed.grey), atol=1.0)


def test_coarse_detail_moves_the_box_by_no_more_than_its_pixels(scene):
    framed = frame(*scene, Framing(detail=0.4, side=600))
    np.testing.assert_allclose(framed.box, find_bright(framed.grey), atol=2.5)


def test_boxes_by_hand(scene):
    assert frame(*scene, Framing()).box == BOX
    assert frame(*scene, Framing(mirror=True)).box == (90, 80, 170, 200)
    assert frame(*scene, Framing(upside_down=True)).box == (70, 100, 150, 220)
    assert frame(*scene, Framing(crop=(0.25, 0.0, 1.0, 0.5))).box == (10, 80, 90, 150)
    assert frame(*scene, Framing(bars=(0.1, 0.2, 0.0, 0.0))).box == (100, 140, 180, 260)
    assert frame(*scene, Framing(side=600)).box == (140, 160, 300, 400)
    # A rectangle of 80 x 120 turned by 30 degrees.
    x0, y0, x1, y1 = frame(*scene, Framing(degrees=10, expand=True)).box
    cosine, sine = np.cos(np.radians(10)), np.sin(np.radians(10))
    assert x1 - x0 == pytest.approx(80 * cosine + 120 * sine, abs=1.5)
    assert y1 - y0 == pytest.approx(120 * cosine + 80 * sine, abs=1.5)


def test_what_is_covered_or_cut_away_has_no_box(scene):
    assert frame(*scene, Framing(crop=(0.7, 0.0, 1.0, 1.0))).box is None
    assert frame(*scene, Framing(shutters=(0.7, 0.0, 0.0, 0.0))).box is None
    assert frame(scene[0], None, Framing()).box is None


def test_surroundings_have_their_grey(scene):
    framed = frame(*scene, Framing(shutters=(0.2, 0.0, 0.0, 0.0), shutter_grey=1.0, bars=(0.0, 0.1, 0.0, 0.0), bar_grey=0.5))
    assert framed.grey[10, 100] == 0.5
    assert framed.grey[100, 5] == 1.0
    framed = frame(*scene, Framing(inverted=True, disc=0.9, disc_grey=0.0, degrees=10.0, fill=0.4))
    assert framed.grey[150, 100] == pytest.approx(0.05, abs=0.01)
    assert framed.grey[150, 45] == pytest.approx(0.75, abs=0.01)
    assert framed.grey[0, 0] == pytest.approx(0.4)


def test_drawn_ways_leave_most_of_the_construct():
    """It stands in a corner, where crops and shutters reach it."""
    grey, thickness = np.full((300, 240), 0.25, dtype=np.float32), np.zeros((300, 240), dtype=np.float32)
    grey[10:130, 5:85], thickness[10:130, 5:85] = 0.95, 6.0
    rng = np.random.default_rng(5)
    shares, cuts = [], 0
    for _ in range(250):
        framing = draw_framing(rng, grey.shape, (5.0, 10.0, 85.0, 130.0), sides=(140, 500), disc=0.3)
        # Counted on the picture: bright pixels over what there would be at this scale.
        plain = replace(
            framing,
            inverted=False,
            shutter_softness=0.0,
            shutter_grey=0.0,
            disc_grey=0.0,
            fill=0.0,
            bar_grey=0.0,
            levels=0,
            qualities=(),
            detail=1.0,
        )
        framed = frame(grey, thickness, plain)
        left, top, right, bottom = framing.crop
        kept = framing if not framing.expand else replace(framing, expand=False)
        height = round(bottom * 300) - round(top * 300)
        width = round(right * 240) - round(left * 240)
        if framing.expand and framing.degrees:
            cosine, sine = np.cos(np.radians(abs(kept.degrees))), np.sin(np.radians(abs(kept.degrees)))
            height, width = round(cosine * height + sine * width), round(cosine * width + sine * height)
        pad = round(framing.bars[1] * max(height, width)) + round(framing.bars[3] * max(height, width))
        scale = framed.grey.shape[0] / (height + pad)
        shares.append((framed.grey > 0.6).sum() / (80 * 120 * scale**2 * framing.aspect))
        cuts += shares[-1] < 0.97
        # A half-covered pixel of the picture is up to two of the result.
        np.testing.assert_allclose(framed.box, find_bright(framed.grey), atol=2.0)
    assert min(shares) > 0.57
    assert cuts > 5


def test_framing_is_deterministic_and_sizes_are_kept(scene):
    for seed in range(30):
        first, again = (draw_framing(np.random.default_rng(seed), scene[0].shape, BOX, sides=(140, 900)) for _ in range(2))
        assert first == again
        one, two = frame(*scene, first), frame(*scene, again)
        np.testing.assert_array_equal(one.grey, two.grey)
        assert one.box == two.box
        assert 140 <= first.side <= 900
        assert max(one.grey.shape) == pytest.approx(first.side, rel=0.01)
        assert one.grey.min() >= 0
        assert one.grey.max() <= 1


@pytest.mark.parametrize("side", [140, 3000])
def test_smallest_and_largest(scene, side):
    framed = frame(*scene, Framing(side=side, degrees=5, qualities=(50,)))
    assert max(framed.grey.shape) == side
    np.testing.assert_allclose(framed.box, find_bright(framed.grey), atol=2.0 if side == 3000 else 1.0)
