from __future__ import annotations

import numpy as np
import pytest

from edgekit.boxes import box_iou


def test_overlap_by_hand() -> None:
    first = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 5, 5], [0, 0, np.nan, 1]])
    second = np.array([[5, 0, 15, 10], [10, 0, 20, 10], [0, 0, 10, 10], [5, 5, 5, 5], [0, 0, 1, 1]])
    assert box_iou(first, second).tolist() == pytest.approx([50 / 150, 0, 1, 0, 0])
