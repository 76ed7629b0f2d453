"""Metrics, compared with scikit-learn's, which is imported where it is used: that takes a second."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from inception_cli.config import Classes
from inception_cli.errors import InceptionError
from inception_cli.evaluation.confusion_matrix import write_confusion_matrix
from inception_cli.evaluation.labels import Labels
from inception_cli.evaluation.metrics import Confusion, compute_metrics, confusion_matrix, hits, per_class_csv
from inception_cli.predictions.intervals import percent, wilson
from inception_cli.predictions.prediction import Prediction
from inception_cli.predictions.table import class_indices, to_frame

N, C, K = 400, 12, 5
TWELVE = Classes(tuple("abcdefghijkl"))


def labels_of(sets: list[tuple[int, ...]], classes: Classes = TWELVE) -> Labels:
    """Return ground truth with these correct classes per row."""
    return Labels.from_sets(classes, "a test", "number", sets)


def table_of(
    top: list[tuple[int, ...]], confidence: list[float] | None = None, classes: Classes = TWELVE
) -> pd.DataFrame:
    """Return predictions of these classes, without a prediction for (); `confidence` are the top-1 scores."""
    rows = [
        Prediction(
            *(f"{row}.jpg", "ok", indices, tuple(classes.names[index] for index in indices)),
            tuple((confidence[row] if confidence else 0.5) / 2**place for place in range(len(indices))),
        )
        if indices
        else Prediction(f"{row}.jpg", "corrupt", error="no image")
        for row, indices in enumerate(top)
    ]
    return to_frame(rows, max(map(len, top)))


@pytest.fixture(scope="module")
def example() -> tuple[pd.DataFrame, list[int]]:
    """Random predictions and their labels: right about half the time; class 11 is never top-1, class 10 no label."""
    rng = np.random.default_rng(7)
    right = rng.integers(0, 10, N).tolist()
    right[:3] = [11, 11, 11]
    top = []
    for label in right:
        others = rng.permutation([index for index in range(11) if index != label]).tolist()
        others.insert(int(rng.choice([0, 0, 0, 2, 4, 6])) if label != 11 else 3, label)
        top.append(tuple(others[:K]))
    return table_of(top, rng.uniform(0.05, 1, N).round(6).tolist()), right


def test_accuracies_equal_those_of_scikit_learn(example: tuple[pd.DataFrame, list[int]]) -> None:
    import sklearn.metrics

    table, right = example
    result = compute_metrics(table, labels_of([(index,) for index in right]))
    confidence = np.zeros((N, C))  # any numbers that rank the five predicted classes first, in their order
    np.put_along_axis(confidence, class_indices(table).astype(int), np.arange(K, 0, -1)[None], axis=1)

    assert result.top1 == pytest.approx(100 * sklearn.metrics.accuracy_score(right, class_indices(table)[:, 0]))
    assert result.top5 == pytest.approx(
        100 * sklearn.metrics.top_k_accuracy_score(right, confidence, k=5, labels=range(C))
    )
    assert (result.n, result.not_ok, result.multi_label, result.notes) == (N, 0, 0, ())
    assert 40 < result.top1 < 60 < (result.top5 or 0) < 95


def test_per_class_metrics_equal_those_of_scikit_learn(example: tuple[pd.DataFrame, list[int]]) -> None:
    import sklearn.metrics

    table, right = example
    result = compute_metrics(table, labels_of([(index,) for index in right]))
    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(
        right, class_indices(table)[:, 0], labels=range(C), zero_division=np.nan
    )

    def shares(percents: list[float | None]) -> list[float]:
        return [np.nan if percent is None else percent / 100 for percent in percents]

    np.testing.assert_allclose(shares([each.precision for each in result.per_class]), precision)
    np.testing.assert_allclose(shares([each.recall for each in result.per_class]), recall)
    np.testing.assert_allclose(shares([each.f1 for each in result.per_class]), f1)
    assert [each.support for each in result.per_class] == support.tolist()
    assert result.per_class[10].recall is None  # no image of it
    assert result.per_class[11].precision is None  # never predicted


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_macro_averages_equal_those_of_scikit_learn(example: tuple[pd.DataFrame, list[int]]) -> None:
    import sklearn.metrics

    table, right = example
    predicted = class_indices(table)[:, 0]
    present = sorted({*right})

    macro = compute_metrics(table, labels_of([(index,) for index in right])).macro

    assert macro
    expected = sklearn.metrics.precision_recall_fscore_support(
        right, predicted, labels=present, average="macro", zero_division=0
    )
    assert (macro.precision, macro.recall, macro.f1) == pytest.approx([100 * value for value in expected[:3]])
    assert macro.recall == pytest.approx(100 * sklearn.metrics.balanced_accuracy_score(right, predicted))
    assert macro.classes == len(present) == 11  # of twelve classes one has no photo
    assert 11 not in predicted  # its precision is 0, which counts


def test_the_confusion_matrix_equals_that_of_scikit_learn(
    example: tuple[pd.DataFrame, list[int]], tmp_path: Path
) -> None:
    import sklearn.metrics

    table, right = example
    matrix = confusion_matrix(table, labels_of([(index,) for index in right]))
    expected = sklearn.metrics.confusion_matrix(right, class_indices(table)[:, 0], labels=range(C))

    assert (matrix.rows(np.arange(C)) == expected).all()
    assert (matrix.rows(np.array([7, 2])) == expected[[7, 2]][:, [7, 2]]).all()
    write_confusion_matrix(tmp_path / "c.csv", matrix)
    written = pd.read_csv(tmp_path / "c.csv", index_col=0)
    assert list(written.index) == list(written.columns) == list(TWELVE.names)
    assert (written.to_numpy() == expected).all()
    assert written.index.name == "label\\predicted"


def test_the_most_confused_classes_are_those_with_most_wrong_photos(
    example: tuple[pd.DataFrame, list[int]],
) -> None:
    import sklearn.metrics

    table, right = example
    matrix = confusion_matrix(table, labels_of([(index,) for index in right]))
    wrong = sklearn.metrics.confusion_matrix(right, class_indices(table)[:, 0], labels=range(C))
    np.fill_diagonal(wrong, 0)
    confusions = wrong.sum(0) + wrong.sum(1)

    three = matrix.most_confused(3)

    assert list(three) == sorted(three)
    assert sorted(confusions[three]) == sorted(confusions)[-3:]
    assert list(matrix.most_confused(C)) == list(matrix.occurring()) == list(range(C))


def test_names_of_classes_are_quoted_in_the_confusion_matrix(tmp_path: Path) -> None:
    classes = Classes(("crane, a bird", '"crane"', "grün\nx"))
    table = table_of([(0,), (2,)], classes=classes)

    matrix = confusion_matrix(table, labels_of([(0,), (1,)], classes))
    write_confusion_matrix(tmp_path / "c.csv", matrix)

    written = pd.read_csv(tmp_path / "c.csv", index_col=0)
    assert list(written.index) == list(written.columns) == list(classes.names)
    assert written.to_numpy().tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_confusions_equal_those_of_scikit_learn(example: tuple[pd.DataFrame, list[int]]) -> None:
    import sklearn.metrics

    table, right = example
    matrix = sklearn.metrics.confusion_matrix(right, class_indices(table)[:, 0], labels=range(C))
    np.fill_diagonal(matrix, 0)
    confusions = compute_metrics(table, labels_of([(index,) for index in right]), most_confused=1000).confusions

    assert {(each.true_class, each.predicted_class): each.count for each in confusions} == {
        (int(one), int(other)): int(matrix[one, other]) for one, other in np.argwhere(matrix)
    }
    assert [each.count for each in confusions] == sorted((each.count for each in confusions), reverse=True)
    assert len(compute_metrics(table, labels_of([(index,) for index in right])).confusions) == 20


def test_reliability_equals_that_of_scikit_learn(example: tuple[pd.DataFrame, list[int]]) -> None:
    from sklearn.calibration import calibration_curve

    table, right = example
    result = compute_metrics(table, labels_of([(index,) for index in right]))
    confidence, hit = table["top1_score"].astype(float), class_indices(table)[:, 0] == right
    share, mean = calibration_curve(hit, confidence, n_bins=15)
    filled = [each for each in result.reliability if each.n]

    np.testing.assert_allclose([each.accuracy or 0 for each in filled], 100 * share)
    np.testing.assert_allclose([each.confidence or 0 for each in filled], 100 * mean)
    assert sum(each.n for each in result.reliability) == N
    weights = np.array([each.n for each in filled]) / N
    assert result.calibration_error == pytest.approx(100 * float(np.sum(weights * abs(share - mean))))


def test_calibration_error_by_hand() -> None:
    # Two images at 0.9, one right: 40 points off; two at 0.5, both right: 50 off. On average 45.
    result = compute_metrics(
        table_of([(0,), (1,), (2,), (3,)], [0.9, 0.9, 0.5, 0.5]), labels_of([(0,), (0,), (2,), (3,)])
    )

    assert result.calibration_error == pytest.approx(45)
    assert [(round(each.low, 3), each.n) for each in result.reliability if each.n] == [(0.467, 2), (0.867, 2)]


def test_a_score_of_one_is_in_the_last_bin_and_a_score_of_zero_in_the_first() -> None:
    result = compute_metrics(table_of([(0,), (0,)], [1.0, 0.0]), labels_of([(0,), (0,)]))

    assert [at for at, each in enumerate(result.reliability) if each.n] == [0, 14]


@pytest.mark.parametrize("fifths", [1, 2, 3, 4])
def test_a_score_at_the_end_of_a_bin_is_in_this_bin(fifths: int) -> None:
    result = compute_metrics(table_of([(0,)], [fifths / 5]), labels_of([(0,)]))

    assert [round(each.high, 6) for each in result.reliability if each.n] == [fifths / 5]


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [  # by hand from the formula, and as in Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0.00, 16.11),
        (1, 29, 0.61, 17.18),
        (20, 20, 83.89, 100.00),
    ],
)
def test_wilson_intervals_equal_published_ones(right: int, n: int, low: float, high: float) -> None:
    assert wilson(right, n) == pytest.approx((low, high), abs=0.005)


@pytest.mark.parametrize(
    ("n", "of", "digits", "text"),
    [
        (300, 300, 1, "100.0"),
        (299, 300, 1, "99.7"),
        (2999, 3000, 1, "> 99.9"),
        (299, 300, 0, "> 99"),
        (0, 3000, 1, "0.0"),
        (1, 3000, 1, "< 0.1"),
        (1, 3000, 2, "0.03"),
        (49_999, 50_000, 2, "> 99.99"),
        (1, 3, 2, "33.33"),
    ],
)
def test_only_all_is_100_percent_and_only_none_is_0(n: int, of: int, digits: int, text: str) -> None:
    assert percent(100 * n / of, digits) == text


def test_images_without_a_prediction_are_counted_both_ways() -> None:
    result = compute_metrics(table_of([(0, 1), (), (1, 0), ()]), labels_of([(0,), (0,), (2,), ()]))

    assert (result.n, result.not_ok) == (2, 1)
    assert result.top1 == 50
    assert result.top1_not_ok_as_wrong == pytest.approx(100 / 3)


def test_images_without_a_label_do_not_count() -> None:
    result = compute_metrics(table_of([(0,), (1,), (2,)]), labels_of([(0,), (), (3,)]))

    assert (result.n, result.top1) == (2, 50)
    assert sum(each.predicted for each in result.per_class) == 2


def test_any_of_several_correct_classes_is_right_and_per_class_metrics_leave_these_images_out() -> None:
    result = compute_metrics(
        table_of([(5, 0, 1, 2, 3), (0, 1, 2, 3, 4), (7, 8, 9, 10, 1), (4, 0, 1, 2, 3)]),
        labels_of([(3, 5), (6, 7), (1, 2), (6,)]),
    )

    assert (result.n, result.multi_label, result.top1, result.top5) == (4, 3, 25, 50)
    assert result.confusions == (Confusion(6, 4, "g", "e", 1),)
    assert [each.index for each in result.per_class if each.support or each.predicted] == [4, 6]
    assert result.notes == ("per-class metrics and confusions leave out 3 photos with several correct classes",)


def test_hits_tell_for_each_of_the_predicted_classes_whether_it_is_correct() -> None:
    found = hits(class_indices(table_of([(5, 3, 1), (), (0, 1, 2)])), labels_of([(3, 11), (3,), ()]))

    assert found.tolist() == [[False, True, False], [False] * 3, [False] * 3]


def test_top5_of_three_classes_is_noted_as_always_right() -> None:
    three = Classes(("a", "b", "c"))
    result = compute_metrics(table_of([(0, 1, 2), (1, 0, 2)], classes=three), labels_of([(0,), (2,)], three))

    assert (result.top1, result.top5) == (50, 100)
    assert result.notes == ("with 3 classes, top-5 is always right",)


@pytest.mark.parametrize("classes", [TWELVE, Classes(("a", "b", "c"))])
def test_rows_with_fewer_than_five_classes_have_no_top5(classes: Classes) -> None:
    result = compute_metrics(table_of([(0, 1), (1, 0)], classes=classes), labels_of([(0,), (2,)], classes))

    assert (result.top5, result.top5_ci, result.top5_not_ok_as_wrong) == (None, None, None)
    assert result.notes == (
        f"the rows hold 2 of {len(classes)} classes, so there is no top-5: classify with --top-k 5",
    )


def test_a_run_with_few_allowed_classes_is_not_told_to_show_more() -> None:
    table, labels = table_of([(0, 1), (1, 0)]), labels_of([(0,), (2,)])

    assert compute_metrics(table, labels, allowed=3).notes == (
        "only 3 of 12 classes could be predicted (--only-classes), so there is no top-5",
    )
    assert compute_metrics(table, labels, allowed=5).notes == (
        "the rows hold 2 of 12 classes, so there is no top-5: classify with --top-k 5",
    )


@pytest.mark.parametrize(
    ("top", "sets", "message"),
    [
        ([(0,), (1,)], [(), ()], "nothing to score"),
        ([(0,), ()], [(), (1,)], "nothing to score: a test: .*, 1 of them without a prediction"),
    ],
)
def test_nothing_to_score_is_refused(top: list[tuple[int, ...]], sets: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(InceptionError, match=message):
        compute_metrics(table_of(top), labels_of(sets))


def test_predictions_of_other_classes_are_refused() -> None:
    with pytest.raises(InceptionError, match="the predictions contain class 11, but there are 3 classes"):
        compute_metrics(table_of([(11,)]), labels_of([(0,)], Classes(("a", "b", "c"))))


def test_per_class_csv_has_a_line_per_class() -> None:
    three = Classes(("a", "b, c", "d"))
    result = compute_metrics(table_of([(0,), (1,), (0,)], classes=three), labels_of([(0,), (0,), (1,)], three))

    assert per_class_csv(result).decode().splitlines() == [
        "index,label,support,predicted,right,precision,recall,f1",
        "0,a,2,2,1,50,50,50",
        '1,"b, c",1,1,0,0,0,0',
        "2,d,0,0,0,,,",
    ]


def test_names_that_are_not_utf8_are_escaped_in_per_class_csv() -> None:
    classes = Classes(("caf\udce9", "b"))
    result = compute_metrics(table_of([(0,)], classes=classes), labels_of([(0,)], classes))

    assert per_class_csv(result).splitlines()[1] == rb"0,caf\xe9,1,1,1,100,100,100"


def test_metrics_can_be_written_as_json(example: tuple[pd.DataFrame, list[int]]) -> None:
    table, right = example
    result = compute_metrics(table, labels_of([(index,) for index in right]))

    back = json.loads(json.dumps(dataclasses.asdict(result), allow_nan=False))

    assert back["top1"] == result.top1
    assert back["top1_ci"] == list(result.top1_ci)
