import numpy as np
import pytest

from edgekit.phantom.geometry.projector import Camera


@pytest.fixture
def aim_camera():
    """A camera in front of the patient; its central ray meets the film off centre."""

    def aim(*, width=300, height=300, spacing_mm=0.3, source_object_mm=1000.0, source_image_mm=1200.0, rotation=None):
        axes = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
        return Camera(
            axes if rotation is None else axes @ rotation.T,
            np.zeros(3),
            source_object_mm,
            source_image_mm,
            spacing_mm,
            width,
            height,
            (width / 2 + 3.3, height / 2 - 4.6),
        )

    return aim
