"""The record of one prediction."""

import dataclasses
import math
import pickle
from typing import get_args

import pytest

from inception_cli.predictions.prediction import STATUSES, Prediction, Status, header


def test_columns_are_those_of_the_contract() -> None:
    assert header(2) == [
        *("path", "status", "top1_index", "top1_label", "top1_score"),
        *("top2_index", "top2_label", "top2_score", "error"),
    ]


def test_statuses_are_the_values_of_the_type() -> None:
    assert get_args(Status) == STATUSES
    assert STATUSES[0] == "ok"


@pytest.mark.parametrize(
    ("score", "rounded"),
    [
        (0.123456789, 0.123457),
        (1.0, 1.0),
        (1.23456789e-7, 1.23457e-07),
        (0.9999999, 1.0),
        (0.000012345650001, 1.23457e-05),
        (0.0, 0.0),
    ],
)
def test_scores_are_rounded_to_six_significant_digits(score: float, rounded: float) -> None:
    prediction = Prediction("x", "ok", (0,), ("a",), (score,))

    assert prediction.scores == (rounded,)
    assert dataclasses.replace(prediction, path="y").scores == (rounded,)
    assert pickle.loads(pickle.dumps(prediction)) == prediction


def test_scores_that_are_rounded_already_are_kept() -> None:
    assert Prediction("x", "ok", (0,), ("a",), (0.123457,), rounded=True).scores == (0.123457,)


def test_a_score_may_be_nan() -> None:
    assert math.isnan(Prediction("x", "ok", (0,), ("a",), (math.nan,)).scores[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("x", "fine"), "none of ok, missing"),
        (("x", "ok"), "status ok with 0 classes"),
        (("x", "corrupt", (1,), ("a",), (0.5,)), "status corrupt with 1 classes"),
        (("x", "ok", (1, 2), ("a",), (0.5,)), "differ in number"),
    ],
)
def test_a_prediction_that_contradicts_itself_is_refused(fields: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prediction(*fields)  # type: ignore[arg-type]
