from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from edgekit.models.side_by_side import answer_side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterator

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before, "torch's own number was not put back"


def test_answers_are_those_of_one_thread_in_order() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Flatten(), torch.nn.Linear(8 * 62 * 62, 5)
    ).eval()
    rows = list(torch.randn(23, 1, 1, 64, 64))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        expected = [network(row) for row in rows]
    torch.set_num_threads(before)
    answered = list(answer_side_by_side(network, rows))
    assert all(row is given for (row, _), given in zip(answered, rows, strict=True))
    assert all(torch.equal(answer, right) for (_, answer), right in zip(answered, expected, strict=True))
    assert not any(answer.requires_grad for _, answer in answered)


def test_four_rows_are_answered_at_once() -> None:
    together = threading.Barrier(4)

    def meet(row: int) -> int:
        together.wait(timeout=30)  # breaks unless four are there
        return -row

    assert list(answer_side_by_side(meet, range(8))) == [(row, -row) for row in range(8)]


def test_rows_are_not_read_far_ahead() -> None:
    read: list[int] = []
    stream = (read.append(row) or row for row in range(100))
    for row, _ in answer_side_by_side(lambda row: row, stream):
        assert len(read) - row <= 2 * 4


def test_a_failure_reaches_the_caller() -> None:
    def fail(row: int) -> int:
        if row == 5:
            raise ValueError("film 5")
        return row

    seen = []
    with pytest.raises(ValueError, match="film 5"):
        seen.extend(row for row, _ in answer_side_by_side(fail, range(100)))
    assert seen == [0, 1, 2, 3, 4], "the answers before it are kept"


def test_what_was_read_before_a_broken_row_is_answered() -> None:
    def read() -> Iterator[int]:
        yield from range(3)
        raise ValueError("row 3")

    seen = []
    with pytest.raises(ValueError, match="row 3"):
        seen.extend(row for row, _ in answer_side_by_side(lambda row: row, read()))
    assert seen == [0, 1, 2]
