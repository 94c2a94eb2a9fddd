"""Burned-in marks: in range, few pixels, the same for the same generator, at every size."""

from dataclasses import replace

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.phantom.marks.annotations import Annotation, annotate

KINDS = ("sides", "words", "blocks", "arrows", "lines", "figures", "rulers", "bars", "frames")
BLANK = Annotation(**dict.fromkeys(KINDS, (0, 0)), share=1.0)
FULL = Annotation(share=1.0)


def make_page(height, width):
    return np.random.default_rng(0).random((height, width), dtype=np.float32) * np.float32(0.5) + np.float32(0.25)


@pytest.mark.parametrize(("height", "width"), [(140, 100), (140, 140), (450, 600), (3000, 2200)])
def test_page_keeps_range_type_and_most_of_its_pixels(height, width):
    page = make_page(height, width)
    before = page.copy()
    for seed in range(30 if height < 1000 else 6):
        result = annotate(page, np.random.default_rng(seed), FULL)
        assert result.dtype == np.float32
        assert result.shape == page.shape
        assert 0 <= result.min() <= result.max() <= 1
        assert (result != page).mean() < 0.35
    assert np.array_equal(page, before)


def test_few_pixels_on_average():
    page = make_page(600, 450)
    assert np.mean([(annotate(page, np.random.default_rng(seed)) != page).mean() for seed in range(60)]) < 0.05


def test_same_generator_same_marks():
    page = make_page(400, 300)
    first, again, other = (annotate(page, np.random.default_rng(seed), FULL) for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_blank_spec_changes_nothing():
    page = make_page(300, 200)
    for seed in range(5):
        assert np.array_equal(annotate(page, np.random.default_rng(seed), BLANK), page)
        assert np.array_equal(annotate(page, np.random.default_rng(seed), replace(FULL, share=0.0)), page)


def test_marks_are_placed_without_looking_at_the_picture():
    dark, bright = np.full((400, 300), 0.5, np.float32), np.full((400, 300), 0.5, np.float32)
    bright[150:250, 100:200] = 1.0  # a construct
    elsewhere = np.ones((400, 300), dtype=bool)
    elsewhere[150:250, 100:200] = False
    for seed in range(10):
        first, second = (annotate(page, np.random.default_rng(seed), FULL) for page in (dark, bright))
        assert np.array_equal(first[elsewhere], second[elsewhere])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [140, 1500])
def test_every_kind_leaves_a_mark(kind, size):
    page = make_page(size, size)
    only = replace(BLANK, **{kind: (1, 1)})
    touched = [(annotate(page, np.random.default_rng(seed), only) != page).mean() for seed in range(12)]
    assert np.count_nonzero(touched) >= 11  # one may lie off the picture
    assert max(touched) < 0.3


def test_number_of_marks_follows_the_spec():
    page = make_page(500, 500)
    one, many = (
        np.mean([(annotate(page, np.random.default_rng(seed), replace(BLANK, words=(n, n))) != page).mean() for seed in range(10)])
        for n in (1, 6)
    )
    assert many > 2.5 * one


def test_arrows_are_about_the_centre():
    page = np.full((600, 600), 0.5, np.float32)
    only = replace(BLANK, arrows=(1, 1))
    rows = [np.argwhere(annotate(page, np.random.default_rng(seed), only, (150.0, 450.0)) != page) for seed in range(30)]
    middle = np.mean([row.mean(axis=0) for row in rows if len(row)], axis=0)
    assert middle == pytest.approx([450, 150], abs=75)


@pytest.mark.parametrize("fields", [{"words": (3, 1)}, {"lines": (-1, 1)}, {"size": (0.0, 0.1)}, {"size": (0.1, 0.5)}])
def test_impossible_spec_is_refused(fields):
    with pytest.raises(InputError, match=next(iter(fields))):
        Annotation(**fields)


def test_colour_picture_is_refused():
    with pytest.raises(InputError, match="shape"):
        annotate(np.zeros((100, 100, 3), np.float32), np.random.default_rng(0))
