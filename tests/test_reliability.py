from __future__ import annotations

import numpy as np
import pytest

from edgekit.reliability import calibration_error


def test_the_gap_of_each_bin_counts_by_its_answers() -> None:
    # By hand: 0.95 and 0.97 share the last of 15 bins, one of them right: |0.95 - 1 + 0.97|; 0.5 stands alone and is right: 0.5.
    confidence, right = np.array([0.95, 0.97, 0.5]), np.array([True, False, True])
    assert calibration_error(confidence, right) == pytest.approx([(0.92 + 0.5) / 3])


def test_each_row_of_weights_is_an_error_of_its_own() -> None:
    confidence, right = np.array([0.95, 0.97, 0.5]), np.array([True, False, True])
    found = calibration_error(confidence, right, np.array([[1.0, 0, 0], [0, 2, 1], [0, 0, 0]]))
    assert found[:2] == pytest.approx([0.05, (2 * 0.97 + 0.5) / 3])
    assert np.isnan(found[2])  # nothing counts
