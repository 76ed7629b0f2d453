"""Two files of rows on the same photos."""

import pytest
from scipy.stats import binomtest  # type: ignore[import-untyped]
from test_scores import rows_of, truth_of

from inception_cli.errors import InceptionError
from inception_cli.results.against import Against, against, mcnemar
from inception_cli.results.columns import Columns
from inception_cli.results.rows import Prediction


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (1, 0), (3, 9), (9, 3), (10, 10), (100, 61), (600, 900), (25000, 24000)]
)
def test_mcnemar_is_the_exact_test_of_scipy(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0

    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-8)


def test_flips_are_counted_both_ways() -> None:
    truth = truth_of([(0,), (1,), (2,), (3,), (4,), (), (5,)])
    here = rows_of([(0,), (1,), (2,), (9,), (), (0,), (5,)])
    there = rows_of([(9,), (9,), (2,), (3,), (4,), (0,), ()])

    # Of the four that both have read: 0 and 1 gained, 3 lost; a coin gives two and one, or worse, always.
    assert against(here, there, truth) == Against(4, 75.0, 50.0, gained=2, lost=1, p=1.0, missing=0)


def named(*rows: tuple[str, int]) -> Columns:
    return Columns.of([Prediction(path, "ok", (index,), ("abcdefghijkl"[index],), (0.5,)) for path, index in rows], 1)


def test_photos_are_matched_by_path_in_any_order() -> None:
    truth = truth_of([(0,), (1,), (2,)])

    found = against(named(("x", 0), ("y", 1), ("z", 9)), named(("y", 9), ("q", 5), ("x", 0)), truth)

    assert (found.n, found.top1, found.other_top1, found.missing) == (2, 100, 50, 1)


def test_a_path_that_is_named_twice_is_compared_in_order() -> None:
    found = against(named(("x", 0), ("x", 9)), named(("x", 0), ("x", 9)), truth_of([(0,), (0,)]))

    assert (found.n, found.gained, found.lost) == (2, 0, 0)


@pytest.mark.parametrize("other", [[("q", 0)], []])
def test_files_without_a_common_photo_are_refused(other: list[tuple[str, int]]) -> None:
    with pytest.raises(InceptionError, match="no photo in common"):
        against(named(("x", 0)), named(*other), truth_of([(0,)]))
