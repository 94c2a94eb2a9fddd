"""Several looks at each film: the film itself first, then moved and darker or brighter, always the same."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.quantization.looks import LOOKS, SHIFT, Looks

SIDE = 100


@pytest.fixture
def patients() -> list[dict[str, np.ndarray]]:
    """A white square in the middle of black, and a patient without a lateral film."""
    square = np.zeros((1, 1, SIDE, SIDE), np.uint8)
    square[..., 40:60, 30:70] = 128
    absent = np.zeros_like(square)
    return [
        {"ap": square, "lateral": square, "present": np.ones(2, np.float32)},
        {"ap": square, "lateral": absent, "present": np.array([1, 0], np.float32)},
    ]


def test_all_patients_come_as_they_are_before_any_comes_again(patients: list[dict[str, np.ndarray]]) -> None:
    looks = Looks(patients)
    assert len(looks) == LOOKS * 2
    for look, patient in zip(looks[:2], patients, strict=True):
        for name in patient:
            np.testing.assert_array_equal(look[name], patient[name])
    assert len(list(looks)) == len(looks)


def test_a_look_moves_a_film_and_changes_its_gray_levels(patients: list[dict[str, np.ndarray]]) -> None:
    looks = Looks(patients)
    moves, levels = set(), set()
    for look in looks[2:]:
        film = look["ap"][0, 0]
        rows, columns = np.nonzero(film)
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 40)  # the whole square is there
        level = np.unique(film[film > 0])
        assert level.size == 1
        moves.add((int(rows.min()) - 40, int(columns.min()) - 30))
        levels.add(int(level[0]))
    assert max(abs(far) for move in moves for far in move) <= SHIFT * SIDE
    assert len(moves) > LOOKS // 2
    assert len(levels) > LOOKS // 2
    assert all(128 * 0.85 < level < 128 * 1.15 for level in levels)  # 255 (128 / 255)^e, e from exp(-0.2) to exp(0.2)
    assert not looks[3]["lateral"].any()  # a film that is not there stays black
    np.testing.assert_array_equal(looks[5]["ap"], Looks(patients)[5]["ap"])
