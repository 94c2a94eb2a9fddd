"""Beer-Lambert against hand calculation, with attenuation coefficients of another source."""

import numpy as np
import pytest

from edgekit.phantom.geometry.mesh import make_box, make_tube
from edgekit.phantom.geometry.projector import find_extent
from edgekit.phantom.imaging.beam import Beam, add_metal, cast_shadow
from edgekit.phantom.materials import Part, compute_attenuation

# NIST XCOM mass attenuation at 60 keV (cm²/g) times density (g/cm³): soft tissue and cortical bone ICRU-44; the alloy from titanium 0.7661
# and aluminium 0.2778, its 4 % vanadium taken as titanium.
PER_CM_60_KEV = {"soft": 0.2048 * 1.06, "bone": 0.3148 * 1.92, "titanium": (0.94 * 0.7661 + 0.06 * 0.2778) * 4.43}
MONOCHROMATIC = Beam((60.0,), (1.0,))
TISSUE_MM = 100.0


def expose(parts, camera, beam):
    """Transmission of a scene, and the box of its metal."""
    shadow, thickness = add_metal(cast_shadow(parts, camera, beam), parts, camera)
    return shadow.weigh(), find_extent(thickness, 1.0)


@pytest.fixture
def tissue():
    return Part(make_box((200, TISSUE_MM, 200)), "soft")


def _middle(image):
    return image[image.shape[0] // 2 - 5 : image.shape[0] // 2 - 3, image.shape[1] // 2 + 2 : image.shape[1] // 2 + 4].mean()


@pytest.mark.parametrize("material", PER_CM_60_KEV)
def test_coefficients_agree_with_xcom(material):
    assert compute_attenuation(material, (60.0,))[0] * 10 == pytest.approx(PER_CM_60_KEV[material], rel=0.01)


def test_cobalt_chrome_is_about_three_times_as_dense_as_titanium():
    titanium, cobalt = (compute_attenuation(metal, (60.0,))[0] for metal in ("titanium", "cobalt-chrome"))
    assert 3.0 < cobalt / titanium < 4.0


def test_tissue_slab(aim_camera, tissue):
    transmission, box = expose([tissue], aim_camera(), MONOCHROMATIC)
    assert _middle(transmission) == pytest.approx(np.exp(-PER_CM_60_KEV["soft"] * TISSUE_MM / 10), rel=0.01)
    assert box is None


def test_bone_slab_takes_the_place_of_tissue(aim_camera, tissue):
    transmission, _ = expose([tissue, Part(make_box((80, 15, 80)), "bone")], aim_camera(), MONOCHROMATIC)
    expected = np.exp(-PER_CM_60_KEV["soft"] * (TISSUE_MM - 15) / 10 - PER_CM_60_KEV["bone"] * 1.5)
    assert _middle(transmission) == pytest.approx(expected, rel=0.01)


def test_titanium_rod_and_slab(aim_camera, tissue):
    camera = aim_camera(spacing_mm=0.05, width=200, height=60)
    rod = Part(make_tube(np.array([[0, 0, -30.0], [0, 0, 0], [0, 0, 30]]), 2.75, 64), "titanium")
    slab = Part(make_box((30, 5.5, 30)), "titanium")
    expected = np.exp(-PER_CM_60_KEV["soft"] * (TISSUE_MM - 5.5) / 10 - PER_CM_60_KEV["titanium"] * 0.55)
    for metal in (rod, slab):
        transmission, box = expose([tissue, metal], camera, MONOCHROMATIC)
        assert transmission.min() == pytest.approx(expected, rel=0.01)
        assert box is not None


def test_spectrum_is_the_weighted_sum_of_exponentials(aim_camera, tissue):
    beam = Beam((50.0, 65.0, 85.0), (0.5, 0.3, 0.2))
    transmission, _ = expose([tissue, Part(make_box((30, 4, 30)), "titanium")], aim_camera(), beam)
    soft, titanium = (np.array(compute_attenuation(name, beam.energies_kev)) for name in ("soft", "titanium"))
    expected = np.sum(beam.weights * np.exp(-soft * (TISSUE_MM - 4) - titanium * 4))
    assert _middle(transmission) == pytest.approx(expected, rel=0.01)


def test_edges_of_metal_are_partly_transparent(aim_camera):
    """A rod thinner than a pixel: transmission is averaged, not thickness."""
    rod = Part(make_tube(np.array([[-4.0, 0, -30], [0, 0, 0], [4, 0, 30]]), 0.4, 64), "cobalt-chrome")
    coarse, _ = expose([rod], aim_camera(spacing_mm=0.96, width=100, height=20), MONOCHROMATIC)
    fine, _ = expose([rod], aim_camera(spacing_mm=0.03, width=3200, height=640), MONOCHROMATIC)
    assert (1 - coarse).sum() * 0.96**2 == pytest.approx((1 - fine).sum() * 0.03**2, rel=0.05)


def test_metal_beside_the_film_is_no_metal(aim_camera, tissue):
    rod = Part(make_box((5, 5, 5)).moved(np.eye(3), np.array([300.0, 0, 0])), "titanium")
    _, box = expose([tissue, rod], aim_camera(), MONOCHROMATIC)
    assert box is None


def test_metal_leaves_the_rest_of_the_film_as_it_was(aim_camera, tissue):
    """A pair with and without a construct differs under the construct alone."""
    camera, rod = aim_camera(), Part(make_box((20, 5, 30)), "titanium")
    plain = cast_shadow([tissue], camera, MONOCHROMATIC)
    before = plain.weigh()
    shadow, thickness = add_metal(plain, [rod], camera)
    np.testing.assert_array_equal(plain.weigh(), before)
    changed = shadow.weigh() != before
    assert changed.any()
    np.testing.assert_array_equal(changed, thickness > 0)
    assert (shadow.weigh() <= before).all()
