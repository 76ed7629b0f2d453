"""Scores, equal to scikit-learn's."""

import dataclasses
import json
from array import array
from itertools import accumulate

import numpy as np
import pytest
from sklearn import metrics
from sklearn.calibration import calibration_curve

from inception_cli.errors import InceptionError
from inception_cli.results.classes import Classes
from inception_cli.results.columns import Columns
from inception_cli.results.rows import Prediction
from inception_cli.results.scores import Confusion, hits, per_class_csv, score, wilson
from inception_cli.results.truth import NONE, Truth

N, C, K = 400, 12, 5
TWELVE = Classes(tuple("abcdefghijkl"))


def truth_of(answers: list[tuple[int, ...]], classes: Classes = TWELVE) -> Truth:
    offsets = array("q", accumulate(map(len, answers), initial=0))
    values = array("i", (index for right in answers for index in right))
    return Truth(classes, "a test", "number", offsets, values, NONE, NONE, NONE)


def rows_of(best: "list[tuple[int, ...]]", sure: "list[float] | None" = None, classes: Classes = TWELVE) -> Columns:
    """Rows with these classes, and none where there are none; `sure` is the best score."""
    rows = [
        Prediction(
            *(f"{row}.jpg", "ok", classes_, tuple(classes.names[index] for index in classes_)),
            tuple((sure[row] if sure else 0.5) / 2**place for place in range(len(classes_))),
        )
        if classes_
        else Prediction(f"{row}.jpg", "corrupt", error="no image")
        for row, classes_ in enumerate(best)
    ]
    return Columns.of(rows, max(map(len, best)))


@pytest.fixture(scope="module")
def made() -> tuple[Columns, list[int]]:
    """Random rows, right about half the time, class 11 never predicted first and class 10 never true; and the truth."""
    rng = np.random.default_rng(7)
    right = rng.integers(0, 10, N).tolist()
    right[:3] = [11, 11, 11]
    best = []
    for answer in right:
        others = rng.permutation([index for index in range(11) if index != answer]).tolist()
        others.insert(int(rng.choice([0, 0, 0, 2, 4, 6])) if answer != 11 else 3, answer)
        best.append(tuple(others[:K]))
    return rows_of(best, rng.uniform(0.05, 1, N).round(6).tolist()), right


def test_accuracies_are_those_of_scikit_learn(made: tuple[Columns, list[int]]) -> None:
    rows, right = made
    scores = score(rows, truth_of([(index,) for index in right]))
    confidence = np.zeros((N, C))  # any numbers that rank the five predicted classes first, in their order
    np.put_along_axis(confidence, rows.classes, np.arange(K, 0, -1)[None], axis=1)

    assert scores.top1 == pytest.approx(100 * metrics.accuracy_score(right, rows.classes[:, 0]))
    assert scores.top5 == pytest.approx(100 * metrics.top_k_accuracy_score(right, confidence, k=5, labels=range(C)))
    assert (scores.n, scores.failed, scores.several, scores.notes) == (N, 0, 0, ())
    assert 40 < scores.top1 < 60 < (scores.top5 or 0) < 95


def test_classes_are_scored_as_by_scikit_learn(made: tuple[Columns, list[int]]) -> None:
    rows, right = made
    scores = score(rows, truth_of([(index,) for index in right]))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        right, rows.classes[:, 0], labels=range(C), zero_division=np.nan
    )

    def shares(percents: list[float | None]) -> list[float]:
        return [np.nan if percent is None else percent / 100 for percent in percents]

    np.testing.assert_allclose(shares([each.precision for each in scores.per_class]), precision)
    np.testing.assert_allclose(shares([each.recall for each in scores.per_class]), recall)
    np.testing.assert_allclose(shares([each.f1 for each in scores.per_class]), f1)
    assert [each.support for each in scores.per_class] == support.tolist()
    assert scores.per_class[10].recall is None  # no photo of it
    assert scores.per_class[11].precision is None  # never predicted


def test_confusions_are_those_of_scikit_learn(made: tuple[Columns, list[int]]) -> None:
    rows, right = made
    matrix = metrics.confusion_matrix(right, rows.classes[:, 0], labels=range(C))
    np.fill_diagonal(matrix, 0)
    confusions = score(rows, truth_of([(index,) for index in right]), most_confused=1000).confusions

    assert {(each.truth, each.predicted): each.count for each in confusions} == {
        (int(one), int(other)): int(matrix[one, other]) for one, other in np.argwhere(matrix)
    }
    assert [each.count for each in confusions] == sorted((each.count for each in confusions), reverse=True)
    assert len(score(rows, truth_of([(index,) for index in right])).confusions) == 20


def test_reliability_is_that_of_scikit_learn(made: tuple[Columns, list[int]]) -> None:
    rows, right = made
    scores = score(rows, truth_of([(index,) for index in right]))
    sure, hit = rows.scores[:, 0].astype(float), rows.classes[:, 0] == right
    share, mean = calibration_curve(hit, sure, n_bins=15)
    filled = [each for each in scores.reliability if each.n]

    np.testing.assert_allclose([each.accuracy or 0 for each in filled], 100 * share)
    np.testing.assert_allclose([each.confidence or 0 for each in filled], 100 * mean)
    assert sum(each.n for each in scores.reliability) == N
    weights = np.array([each.n for each in filled]) / N
    assert scores.calibration_error == pytest.approx(100 * float(np.sum(weights * abs(share - mean))))


def test_calibration_error_by_hand() -> None:
    # Two photos at 0.9, one right: 40 points off; two at 0.5, both right: 50 off. On average 45.
    scores = score(rows_of([(0,), (1,), (2,), (3,)], [0.9, 0.9, 0.5, 0.5]), truth_of([(0,), (0,), (2,), (3,)]))

    assert scores.calibration_error == pytest.approx(45)
    assert [(round(each.low, 3), each.n) for each in scores.reliability if each.n] == [(0.467, 2), (0.867, 2)]


def test_the_surest_score_falls_into_the_last_bin_and_the_least_into_the_first() -> None:
    scores = score(rows_of([(0,), (0,)], [1.0, 0.0]), truth_of([(0,), (0,)]))

    assert [at for at, each in enumerate(scores.reliability) if each.n] == [0, 14]


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
def test_wilson_intervals_are_those_in_print(right: int, n: int, low: float, high: float) -> None:
    assert wilson(right, n) == pytest.approx((low, high), abs=0.005)


def test_failures_are_counted_both_ways() -> None:
    scores = score(rows_of([(0, 1), (), (1, 0), ()]), truth_of([(0,), (0,), (2,), ()]))

    assert (scores.n, scores.failed) == (2, 1)
    assert scores.top1 == 50
    assert scores.top1_failed_as_wrong == pytest.approx(100 / 3)


def test_rows_without_an_answer_do_not_count() -> None:
    scores = score(rows_of([(0,), (1,), (2,)]), truth_of([(0,), (), (3,)]))

    assert (scores.n, scores.top1) == (2, 50)
    assert sum(each.predicted for each in scores.per_class) == 2


def test_any_of_several_answers_is_right_and_classes_leave_them_out() -> None:
    scores = score(
        rows_of([(5, 0, 1, 2, 3), (0, 1, 2, 3, 4), (7, 8, 9, 10, 1), (4, 0, 1, 2, 3)]),
        truth_of([(3, 5), (6, 7), (1, 2), (6,)]),
    )

    assert (scores.n, scores.several, scores.top1, scores.top5) == (4, 3, 25, 50)
    assert scores.confusions == (Confusion(6, 4, "g", "e", 1),)
    assert [each.index for each in scores.per_class if each.support or each.predicted] == [4, 6]
    assert scores.notes == ("3 photos have several right answers: per class and in confusions they are left out",)


def test_hits_know_each_place() -> None:
    found = hits(rows_of([(5, 3, 1), (), (0, 1, 2)]), truth_of([(3, 11), (3,), ()]))

    assert found.tolist() == [[False, True, False], [False] * 3, [False] * 3]


def test_top5_of_three_classes_says_that_it_says_nothing() -> None:
    three = Classes(("a", "b", "c"))
    scores = score(rows_of([(0, 1, 2), (1, 0, 2)], classes=three), truth_of([(0,), (2,)], three))

    assert (scores.top1, scores.top5) == (50, 100)
    assert scores.notes == ("with 3 classes top-5 is always right: it says nothing",)


@pytest.mark.parametrize("classes", [TWELVE, Classes(("a", "b", "c"))])
def test_rows_of_too_few_classes_have_no_top5(classes: Classes) -> None:
    scores = score(rows_of([(0, 1), (1, 0)], classes=classes), truth_of([(0,), (2,)], classes))

    assert (scores.top5, scores.top5_ci, scores.top5_failed_as_wrong) == (None, None, None)
    assert scores.notes == (
        f"the rows hold 2 of {len(classes)} classes, so there is no top-5: classify with --top-k 5",
    )


@pytest.mark.parametrize(
    ("best", "answers", "what"),
    [
        ([(0,), (1,)], [(), ()], "nothing to score"),
        ([(0,), ()], [(), (1,)], "nothing to score: a test: .*, 1 of them failed"),
    ],
)
def test_nothing_to_score_is_said(best: list[tuple[int, ...]], answers: list[tuple[int, ...]], what: str) -> None:
    with pytest.raises(InceptionError, match=what):
        score(rows_of(best), truth_of(answers))


def test_rows_of_other_classes_are_refused() -> None:
    with pytest.raises(InceptionError, match="the rows know a class 11, but there are 3 classes"):
        score(rows_of([(11,)]), truth_of([(0,)], Classes(("a", "b", "c"))))


def test_the_table_of_classes_has_a_line_each() -> None:
    three = Classes(("a", "b, c", "d"))
    scores = score(rows_of([(0,), (1,), (0,)], classes=three), truth_of([(0,), (0,), (1,)], three))

    assert per_class_csv(scores).decode().splitlines() == [
        "index,label,support,predicted,right,precision,recall,f1",
        "0,a,2,2,1,50,50,50",
        '1,"b, c",1,1,0,0,0,0',
        "2,d,0,0,0,,,",
    ]


def test_scores_are_json_as_they_are(made: tuple[Columns, list[int]]) -> None:
    rows, right = made
    scores = score(rows, truth_of([(index,) for index in right]))

    back = json.loads(json.dumps(dataclasses.asdict(scores), allow_nan=False))

    assert back["top1"] == scores.top1
    assert back["top1_ci"] == list(scores.top1_ci)
