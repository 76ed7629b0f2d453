"""The report of a training: what it shows, and that names in it are escaped."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from PIL import Image
from reported import HOSTILE
from trained import HISTORY, training

from inception_cli.predictions.prediction import Prediction
from inception_cli.report.curves import accuracy_curves, loss_curve
from inception_cli.report.plots import BOTTOM, LEFT, RIGHT, TOP
from inception_cli.report.training import Training, training_page, write_training_report
from inception_cli.training.recipe import Recipe
from inception_cli.weights.training_record import recipe_facts


def picture(path: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, "JPEG")
    return stream.getvalue() if "bytes" not in path else b""


def page(shown: Training | None = None) -> str:
    return training_page(shown or training(), picture, lambda path: "").decode()


def section(text: str, name: str) -> str:
    return text.partition(f'<section id="{name}"')[2].partition("</section>")[0]


def test_the_page_has_the_accuracy_and_what_it_says() -> None:
    text = page()

    assert "<h1>Training of mine &amp; yours.safetensors: 75.0 % on 12 images</h1>" in text
    assert "top-1 on validation images, 95 % interval 46.8&nbsp;–&nbsp;91.1" in text  # of 9 of 12
    assert "<dd>100.0 %</dd>" in text
    assert "it also chose the epoch" in section(text, "curves")
    assert 'class="finding">Overfitting: in the last epochs 100 % of the training images are right and 66 % ' in text


def test_the_mistakes_are_those_of_the_validation_images_the_surest_first() -> None:
    shown = training()

    text = section(page(shown), "mistakes")

    assert shown.mistakes() == [2, 9, 1]
    assert "All 3 wrong predictions" in text
    assert re.findall(r'class="score">([\d.]+ %)', text) == ["99.0 %", "70.0 %", "60.0 %"]
    assert text.count("data:image/jpeg;base64,") == 3
    assert "labelled plum" in text


def test_the_page_shows_at_most_48_mistakes() -> None:
    predictions = [Prediction(f"{row}.jpg", "ok", (1,), ("pear",), (row / 100,)) for row in range(100)]
    record = replace(training().record, val_photos=100)

    text = section(page(training(labels=[0] * 100, predictions=predictions, record=record)), "mistakes")

    assert "48 of the 100 wrong predictions" in text
    assert re.findall(r'title="(\d+)\.jpg"', text) == [str(row) for row in range(99, 51, -1)]


def test_a_training_without_mistakes_has_no_such_section() -> None:
    shown = training(labels=[each.classes[0] for each in training().predictions])

    text = page(shown)

    assert 'id="mistakes"' not in text
    assert "#mistakes" not in text
    assert "Confusion matrix" in text


def test_classes_have_their_recall_with_its_interval() -> None:
    rows = section(page(), "per-class").split("<tr>")[2:]

    figures = [re.findall(r"[\d.]+(?= <small>|</td>)|\d+\.\d+", row) for row in rows]
    assert len(rows) == 3
    assert figures[0] == ["4", "4", "3", "75.0", "30.1", "95.4", "75.0"]  # Wilson, 3 of 4


def test_the_confusion_matrix_is_of_the_validation_images() -> None:
    cells = re.findall(r'<td(?: class="(\w+)" title="[^"]*")?>(\d*)</td>', section(page(), "confusion-matrix"))

    assert [int(count or 0) for _, count in cells[1:]] == [3, 0, 1, 1, 3, 0, 0, 1, 3]


def test_the_page_has_the_record_of_the_training() -> None:
    about = section(page(), "about")

    for fact in (
        "photos &lt;1&gt;: 108 training images of 3 classes, 12 validation images; 2 unreadable images left out",
        "nothing (random weights)",
        "6 done, the weights of epoch 5 kept; schedule: 6 epochs",
        "32 images each; random seed 7",
        "cpu: A &lt;b&gt;processor&lt;/b&gt;, 2 cores, training in bf16",
        "54 seconds with validation; finished 2026-11-27T04:00:00+00:00",
        "inception 0.3, torch 2.15",
        "hyperparameters.momentum 0.9, area 0.25 to 1, balance 0.5",
    ):
        assert f"<dd>{fact}</dd>" in about
    assert section(page(), "epochs").count("<tr") == 1 + 6


def test_the_page_names_the_folder_of_each_kind_of_images() -> None:
    text = page(training(val_dir="val <2>"))

    assert "trained on 108 images in photos &lt;1&gt;, validated on 12 images in val &lt;2&gt;.</p>" in text
    data = "photos &lt;1&gt;: 108 training images of 3 classes; val &lt;2&gt;: 12 validation images; 2 unreadable"
    assert data in section(text, "about")
    assert "trained on 108 images in photos &lt;1&gt;.</p>" in page()


def test_names_are_escaped_and_nothing_is_loaded() -> None:
    text = page()

    assert "<script" not in text
    assert "onerror=document" not in re.sub(r'(?:title|alt)="[^"]*"|&lt;[^<]*', "", text)
    assert "<b onclick" not in text
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    assert r"\u2028" in text


def test_an_image_links_to_its_file_relative_to_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pages").mkdir()

    write_training_report(Path("pages/x.html"), training(), picture)

    assert 'href="../val/10.jpg"' in Path("pages/x.html").read_text()


def places(points: tuple[tuple[float, float], ...]) -> Iterator[tuple[float, float]]:
    """Yield points as shares of the plot's width and height."""
    return ((round((x - LEFT) / (RIGHT - LEFT), 3), round((BOTTOM - y) / (BOTTOM - TOP), 3)) for x, y in points)


def test_the_curves_are_the_figures_of_the_epochs() -> None:
    accuracy, loss = accuracy_curves(HISTORY, 5, 33.3), loss_curve(HISTORY, 5)

    train, val = accuracy.lines
    assert [*places(train.points)] == [
        (0.083, 0.35),
        (0.25, 0.5),
        (0.417, 0.7),
        (0.583, 0.9),
        (0.75, 1.0),
        (0.917, 1.0),
    ]
    assert [y for _, y in places(val.points)] == [0.33, 0.42, 0.5, 0.67, 0.75, 0.58]
    assert [text for _, text in loss.y_ticks] == ["0", "0.5", "1", "1.5", "2", "2.5"]
    assert [y for _, y in places(loss.lines[0].points)] == [0.96, 0.48, 0.32, 0.24, 0.192, 0.16]
    assert accuracy.best == loss.best == train.points[4][0]
    assert [tip.tooltip for tip in accuracy.hovers][4] == "epoch 5: training 100.0 %, validation 75.0 %"


@pytest.mark.parametrize(
    ("epochs", "shown"), [(1, [1]), (8, [*range(1, 9)]), (9, [2, 4, 6, 8]), (30, [4, 8, 12, 16, 20, 24, 28])]
)
def test_the_axis_has_few_epochs(epochs: int, shown: list[int]) -> None:
    curves = loss_curve([HISTORY[0]] * epochs, 1)

    assert [epoch for _, epoch in curves.x_ticks] == shown


def test_the_facts_of_a_recipe_have_names_of_their_own() -> None:
    facts = dict(recipe_facts(json.dumps(asdict(Recipe()))))

    assert (facts["augmentation.area"], facts["plain_crops.area"]) == ("0.25 to 1", "0.35 to 1")
    assert (facts["balance"], facts["hyperparameters.dropout"]) == ("0.5", "0.2")
    assert len(facts) == len(recipe_facts(json.dumps(asdict(Recipe()))))


@pytest.mark.parametrize("recipe", ["", "[]", "{", "7"])
def test_a_recipe_that_is_no_record_has_no_facts(recipe: str) -> None:
    assert recipe_facts(recipe) == []


def test_reading_the_thumbnails_asks_for_the_mistakes_alone() -> None:
    asked: list[str] = []

    def thumbnail(path: str) -> bytes:
        asked.append(path)
        return b""

    training_page(training(), thumbnail, lambda path: "")

    assert sorted(asked) == sorted(f"val/{name}" for name in (HOSTILE[2], "10.jpg", HOSTILE[1]))
