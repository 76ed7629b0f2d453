"""Ensembles and crops: the counts of all networks and views are shown beside those of one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from reported import evaluation, page_of, rows
from running import Inception

from inception_cli.evaluation.evaluate import Evaluation


@pytest.fixture
def ensemble() -> Evaluation:
    """The evaluation of four networks that see 144 views of each photo."""
    single = evaluation(rows())
    assert single.manifest
    run = single.manifest.run
    four = replace(run, weights=run.weights * 4, pixels=replace(run.pixels, crops=144))
    return replace(single, manifest=replace(single.manifest, run=four))


def test_the_counts_are_of_all_networks_and_views(ensemble: Evaluation) -> None:
    measured, *others = ensemble.table_rows()

    assert (measured.params, measured.macs) == (4 * 23_834_568, 4 * 144 * 5_745_177_632)
    assert [row.macs for row in others] == [None]  # of the paper
    document = ensemble.to_json()
    assert (document["params"], document["macs"]) == (23_834_568, 5_713_216_096)
    assert document["protocol"]["networks"] == 4
    assert document["protocol"]["views"] == 144
    assert document["protocol"]["total"]["macs"] == 576 * 5_713_216_096
    assert "4 networks × 144 views: 95.34 M parameters, 3309.22 G" in page_of(rows(), ensemble).page.decode()


def test_one_network_with_one_view_has_no_line(inception: Inception) -> None:
    assert "one view" not in inception("info", "-w", "demo").out


def test_info_shows_the_counts_of_an_ensemble_and_the_same_weights(inception: Inception) -> None:
    lines = inception("info", "-w", "demo", "-w", "demo", "--crops", 10).out.splitlines()
    document = json.loads(inception("info", "-w", "demo", "-w", "demo", "--crops", 10, "--json").out)

    assert "2 networks × 10 views: 43.61 M parameters, 33.27 G for a photo" in lines
    assert "one network, one view: 21.81 M parameters, 1.66 G" in lines
    assert lines.count("demo and demo are the same weights: in an ensemble they count 2 times") == 1
    assert document["protocol"]["total"]["macs"] == 20 * document["macs"]


def test_weights_that_differ_in_classes_are_no_ensemble(inception: Inception) -> None:
    document = json.loads(inception("info", "-w", "demo", "-w", "torchvision", "--json").out)

    assert document["protocol"]["networks"] == 1


def test_evaluate_remarks_on_the_same_weights_in_one_line(inception: Inception, tmp_path: Path, stub: str) -> None:
    (tmp_path / "0").mkdir()
    Image.new("RGB", (75, 75)).save(tmp_path / "0" / "a.png")

    ended = inception("evaluate", "--val-dir", tmp_path, "-w", stub, "-w", stub, "-j", 0, "--crops", 10)

    assert "2 networks × 10 views: " in ended.out
    assert ended.err.count("the same weights") == 1
    assert "count 2 times" in ended.err
