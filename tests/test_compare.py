"""Comparison of two files of predictions on the same images."""

import pandas as pd
import pytest
from test_metrics import labels_of, table_of

from inception_cli.config import Classes
from inception_cli.errors import InceptionError
from inception_cli.evaluation.compare import Comparison, compare, mcnemar
from inception_cli.predictions.classes import imagenet, synsets
from inception_cli.predictions.prediction import Prediction
from inception_cli.predictions.table import to_frame, unseen_class


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (1, 0), (3, 9), (9, 3), (10, 10), (100, 61), (600, 900), (25000, 24000)]
)
def test_mcnemar_equals_the_exact_binomial_test_of_scipy(gained: int, lost: int) -> None:
    from scipy.stats import binomtest  # type: ignore[import-untyped]

    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0

    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-8)


def test_gained_and_lost_images_are_counted() -> None:
    labels = labels_of([(0,), (1,), (2,), (3,), (4,), (), (5,)])
    here = table_of([(0,), (1,), (2,), (9,), (), (0,), (5,)])
    there = table_of([(9,), (9,), (2,), (3,), (4,), (0,), ()])

    # Of the four with a prediction in both: 0 and 1 gained, 3 lost; a coin always splits three at least as unevenly.
    assert compare(here, there, labels) == Comparison(4, 75.0, 50.0, gained=2, lost=1, p=1.0, missing=0)


def table(*rows: tuple[str, int]) -> pd.DataFrame:
    """Return predictions of these paths and classes."""
    return to_frame([Prediction(path, "ok", (index,), ("abcdefghijkl"[index],), (0.5,)) for path, index in rows], 1)


def test_rows_are_matched_by_path_in_any_order() -> None:
    labels = labels_of([(0,), (1,), (2,)])

    comparison = compare(table(("x", 0), ("y", 1), ("z", 9)), table(("y", 9), ("q", 5), ("x", 0)), labels)

    assert (comparison.n, comparison.top1, comparison.other_top1, comparison.missing) == (2, 100, 50, 1)


def test_a_path_that_occurs_twice_is_compared_in_order() -> None:
    comparison = compare(table(("x", 0), ("x", 9)), table(("x", 0), ("x", 9)), labels_of([(0,), (0,)]))

    assert (comparison.n, comparison.gained, comparison.lost) == (2, 0, 0)


def test_the_second_row_of_a_path_is_missing_where_the_other_file_has_one() -> None:
    comparison = compare(table(("x", 0), ("x", 0)), table(("x", 0)), labels_of([(0,), (0,)]))

    assert (comparison.n, comparison.missing) == (1, 1)


@pytest.mark.parametrize("other", [[("q", 0)], []])
def test_files_without_a_common_image_are_refused(other: list[tuple[str, int]]) -> None:
    with pytest.raises(InceptionError, match="no labelled photo has a prediction in both files"):
        compare(table(("x", 0)), table(*other), labels_of([(0,)]))


def test_classes_that_the_other_model_numbers_in_another_way_are_compared_by_name() -> None:
    labels = labels_of([(0,), (1,), (2,), (3,)])  # a, b, c, d
    here = table_of([(0,), (1,), (2,), (0,)])
    there = table_of([(11,), (10,), (0,), (8,)], classes=Classes(tuple("lkjihgfedcba")))  # a, b, l, d

    # By hand: a and b are right in both, c only here, d only there.
    assert compare(here, there, labels) == Comparison(4, 75.0, 75.0, gained=1, lost=1, p=1.0, missing=0)


def test_names_that_differ_in_case_underscores_or_unicode_form_are_the_same_class() -> None:
    labels = labels_of([(0,), (1,)], Classes(("Red pear", "p\u00eache")))
    here = table_of([(0,), (0,)], classes=Classes(("Red pear", "p\u00eache")))
    there = table_of([(1,), (0,)], classes=Classes(("pe\u0302che", "red_pear")))

    assert compare(here, there, labels).other_top1 == 100


def test_wnids_and_names_of_imagenet_are_the_same_classes() -> None:
    wnids = Classes(tuple(synset.wnid for synset in synsets()))
    top: list[tuple[int, ...]] = [(134,), (517,)]  # the two cranes

    for own, other in ((imagenet(), wnids), (wnids, imagenet())):
        comparison = compare(table_of(top, classes=own), table_of(top, classes=other), labels_of(top, own))
        assert (comparison.top1, comparison.other_top1) == (100, 100)


def test_a_class_that_is_unknown_here_is_wrong_for_every_label() -> None:
    labels = labels_of([(0,), (1,)], Classes(("a", "b", unseen_class(2))))
    here = table_of([(0,), (1,)], classes=labels.classes)
    there = table_of([(2,), (3,)], classes=Classes(("a", "b", "plum", "fig")))

    assert compare(here, there, labels).other_top1 == 0


def test_files_of_models_with_other_class_names_are_refused() -> None:
    there = table_of([(1,), (2,)], classes=Classes(("a", "plum", "c")))

    with pytest.raises(InceptionError, match=r"its class 1 is plum, .* \(class 1 is b\)") as error:
        compare(table_of([(1,), (2,)]), there, labels_of([(1,), (2,)]))

    assert "\n" not in str(error.value)
