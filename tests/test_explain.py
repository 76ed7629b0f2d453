"""The commands with --explain: one photo with its heat map, and the heat maps of a report."""

import base64
import csv
import io
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from reported import manifest, page_of, prediction
from running import Inception
from stub_network import WEIGHTS, StubNetwork

from inception_cli.config import PixelConfig
from inception_cli.errors import InceptionError
from inception_cli.files.hashing import sha256
from inception_cli.images.decode import Failure, read
from inception_cli.images.preprocess import views
from inception_cli.inference import explain
from inception_cli.predictions.prediction import Prediction
from inception_cli.report.heat_maps import MAX_PHOTOS, HeatMap, HeatMaps, choose_photos, quantise
from inception_cli.report.samples import collect_samples
from inception_cli.weights.load import find_weights

SUM = re.compile(r"mean (\S+), bias (\S+): logit (\S+) \(the map is in fp32")


def page_data(file: Path) -> dict[str, object]:
    """Return the data of a report's script."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', file.read_text())
    assert found
    data: dict[str, object] = json.loads(found[1])
    return data


@pytest.fixture
def photo(photos: Path, tmp_path: Path) -> Path:
    """Return a photo in a folder of its own."""
    return Path(shutil.copy(photos / "a" / "00.jpg", tmp_path / "photo.jpg"))


@pytest.fixture
def rows(stub: str, photos: Path, tmp_path: Path, inception: Inception) -> Path:
    """Return the predictions of copies of 24 photos."""
    shutil.copytree(photos, tmp_path / "photos")
    assert inception("classify", tmp_path / "photos", "-w", stub, "-j", 0, "--out", tmp_path / "rows.csv").code == 0
    return tmp_path / "rows.csv"


# ── One photo ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["heat.png", "heat.jpg"])
def test_the_picture_of_one_photo_and_its_sum(
    stub: str, photo: Path, tmp_path: Path, inception: Inception, name: str
) -> None:
    ended = inception("classify", photo, "-w", stub, "--explain", tmp_path / name)

    assert ended.code == 0
    with Image.open(tmp_path / name) as picture:
        assert picture.width == 1000 or picture.height > 1000
    found = SUM.search(ended.err)
    assert found, ended.err
    mean, bias, logit = map(float, found.groups())
    config = PixelConfig(WEIGHTS.preset, decode="fast")
    image = read(str(photo), config)
    assert not isinstance(image, Failure)
    pixels = views(image, config)
    expected = StubNetwork()(torch.from_numpy(pixels).permute(0, 3, 1, 2)).max().detach()
    assert logit == pytest.approx(float(expected), abs=0.2)
    assert mean + bias == pytest.approx(logit, abs=0.1)
    assert f"written to {tmp_path / name}" in ended.err


def test_the_map_is_of_the_named_class(stub: str, photo: Path, tmp_path: Path, inception: Inception) -> None:
    lines = [
        inception(
            "classify", photo, "-w", stub, "--explain", tmp_path / "heat.jpg", "--explain-class", name
        ).err.splitlines()[-1]
        for name in ("class 3", "CLASS_3", "3")
    ]

    assert "heat map of class 3 (" in lines[0]
    assert lines[1:] == lines[:1] * 2


def test_the_best_class_is_one_that_is_allowed(stub: str, photo: Path, tmp_path: Path, inception: Inception) -> None:
    ended = inception("classify", photo, "-w", stub, "--only-classes", "class 7", "--explain", tmp_path / "heat.jpg")

    assert "heat map of class 7 (100.0 %)" in ended.err


def test_a_photo_is_turned_as_the_network_sees_it(stub: str, photo: Path, tmp_path: Path, inception: Inception) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (400, 200), "green").save(photo, exif=exif)

    for option, upright in (("--exif", True), ("--no-exif", False)):
        assert inception("classify", photo, "-w", stub, option, "--explain", tmp_path / "heat.jpg").code == 0
        with Image.open(tmp_path / "heat.jpg") as picture:
            assert (picture.height > 1000) == upright


def test_an_unreadable_photo_has_no_picture(stub: str, photo: Path, tmp_path: Path, inception: Inception) -> None:
    photo.write_bytes(photo.read_bytes()[:2000])

    ended = inception("classify", photo, "-w", stub, "--explain", tmp_path / "heat.jpg")

    assert ended.code == 3
    assert f"no heat map: {photo}: truncated" in ended.err
    assert not (tmp_path / "heat.jpg").exists()


def test_another_picture_is_not_replaced(stub: str, photo: Path, tmp_path: Path, inception: Inception) -> None:
    other = tmp_path / "other.png"
    Image.new("RGB", (8, 8)).save(other)
    kept, before = other.read_bytes(), photo.read_bytes()

    refused = inception("classify", photo, "-w", stub, "--explain", other)
    itself = inception("classify", photo, "-w", stub, "--explain", photo, "--force")
    forced = inception("classify", photo, "-w", stub, "--explain", other, "--force")
    again = inception("classify", photo, "-w", stub, "--explain", other)

    assert (refused.code, itself.code, forced.code, again.code) == (1, 2, 0, 0)
    assert "exists and was not written by inception; --force replaces it" in refused.err
    assert "it would overwrite" in itself.err
    assert other.read_bytes() != kept
    assert photo.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--explain", "heat.gif"], "--explain heat.gif: the picture is a .png or .jpg file"),
        (["--explain", "s3://bucket/heat.png"], "--explain s3://bucket/heat.png: give a file on this machine"),
        (["--report", "s3://bucket/r.html"], "--report s3://bucket/r.html: give a file on this machine"),
        (["--explain", "heat"], "give a name that ends in .png"),
        (["--explain-class", "apple"], "give --explain FILE as well"),
        (["--explain", "heat.png", "--crops", "10"], "a heat map is of one view, not of 10; leave out --crops"),
        (["--explain", "heat.png", "-w", "demo"], "of one network, not of an ensemble; give one --weights"),
        (["--explain", "heat.png", "--engine", "ray"], "leave out --engine ray"),
        (["--explain", "heat.png", "photo.jpg"], "draws one photo: give one file"),
        (
            ["--explain", "heat.png", "--explain-class", "class_33"],
            "'class_33' is no class of the weights: did you mean",
        ),
        (["--explain", "heat.png", "--explain-class", "xyzzy"], "the classes are class 0, class 1, class 2, class 3"),
    ],
)
def test_what_has_no_map_is_refused_in_one_line_before_the_run(
    stub: str, photo: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(photo.parent)

    ended = inception("classify", photo.name, "-w", stub, "--out", "rows.csv", *options)

    assert ended.code == 2
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1
    assert [file.name for file in photo.parent.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize("given", [".", "-", "*.jpg", "s3://bucket/photo.jpg"])
def test_only_a_single_file_has_a_map(
    stub: str, photo: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.chdir(photo.parent)

    ended = inception("classify", given, "-w", stub, "--explain", "heat.png")

    assert ended.code == 2
    assert "give one file, or for many inception report FILE --explain" in ended.err


# ── A report ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_report_has_the_map_of_every_photo_and_its_numbers(rows: Path, tmp_path: Path, inception: Inception) -> None:
    ended = inception("report", rows, "--out", tmp_path / "r.html", "--explain")

    assert ended.code == 0
    assert "24 photos, 24 with a heat map; open it in a browser" in ended.err
    assert len(ended.err.splitlines()) == 1
    maps = page_data(tmp_path / "r.html")["maps"]
    assert isinstance(maps, dict)
    assert sorted(map(int, maps["photos"])) == list(range(24))
    assert {len(cells) for cells, *_ in maps["photos"].values()} == {24}  # 16 bytes in base64: a 4 × 4 grid
    assert all(low < high for _, low, high, _ in maps["photos"].values())
    assert "24 photos of this page have a heat map" in (tmp_path / "r.html").read_text()


def test_a_report_without_explain_has_no_map(rows: Path, tmp_path: Path, inception: Inception) -> None:
    ended = inception("report", rows, "--out", tmp_path / "r.html")

    assert "heat map" not in ended.err
    assert "maps" not in page_data(tmp_path / "r.html")
    assert 'class="heat"' not in (tmp_path / "r.html").read_text()


def test_changed_and_missing_photos_have_no_map(rows: Path, tmp_path: Path, inception: Inception) -> None:
    with rows.open() as file:
        first, second, *_ = [row["path"] for row in csv.DictReader(file)]
    Path(first).unlink()
    Image.effect_mandelbrot((90, 80), (-2, -1.5, 1, 1.5), 50).convert("RGB").save(second)

    ended = inception("report", rows, "--out", tmp_path / "r.html", "--explain")

    assert ended.code == 0
    assert "1 photo has changed since the run (another score than in the row), and no heat map" in ended.err
    assert "24 photos, 22 with a heat map; open it" in ended.err
    assert "1 photo could not be read" in ended.err
    maps = page_data(tmp_path / "r.html")["maps"]
    assert isinstance(maps, dict)
    assert sorted(map(int, maps["photos"])) == list(range(2, 24))
    assert "1 photo has changed since the run and has none." in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--crops", "10"], "rows.csv: a heat map is of one view, and there are 10; classify with --crops 1, or leave"),
        (["-w", "stub"], "rows.csv: a heat map is of one network, and these are 2; classify with one --weights, or"),
    ],
)
def test_a_report_of_crops_or_an_ensemble_has_no_maps(
    stub: str, photo: Path, tmp_path: Path, inception: Inception, options: list[str], message: str
) -> None:
    inception("classify", photo, "-w", stub, "-j", 0, "--out", tmp_path / "rows.csv", *options)

    ended = inception("report", tmp_path / "rows.csv", "--out", tmp_path / "r.html", "--explain")

    assert ended.code == 2
    assert message in ended.err
    assert not (tmp_path / "r.html").exists()


def test_maps_need_the_manifest(rows: Path, tmp_path: Path, inception: Inception) -> None:
    Path(f"{rows}.json").unlink()

    ended = inception("report", rows, "--out", tmp_path / "r.html", "--explain")

    assert ended.code == 1
    assert "rows.csv: it has no manifest, which names the weights" in ended.err


def test_other_weights_than_those_of_the_run_are_refused(
    rows: Path, tmp_path: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain, "find_weights", lambda name, **_: replace(WEIGHTS, sha256="1" * 64))

    ended = inception("report", rows, "--out", tmp_path / "r.html", "--explain")

    assert ended.code == 1
    assert "stub: not the weights of the run, whose sha256 is 000000000000…, but others (111111111111…)" in ended.err
    assert len(ended.err.splitlines()) == 1


def test_weights_are_found_from_the_folder_of_the_run(checkpoint: Path, tmp_path: Path) -> None:
    weights = replace(WEIGHTS, file=checkpoint.name, sha256="0" * 64)

    with pytest.raises(InceptionError, match=rf"{checkpoint}: not the weights of the run"):
        explain.find_weights_of_run(weights, str(checkpoint.parent))
    found = find_weights(str(checkpoint))
    gone = replace(weights, name="gone.pth", file="gone.pth", source="gone.pth")
    with pytest.raises(InceptionError, match=r"/gone.pth: the weights of the run are not there; put them back, or"):
        explain.find_weights_of_run(gone, str(checkpoint.parent))
    moved = explain.find_weights_of_run(replace(weights, sha256=found.sha256), str(checkpoint.parent))
    assert moved.file == str(checkpoint)


def test_missing_weights_of_the_hub_are_downloaded_by_another_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    weights = replace(WEIGHTS, name="timm-tv", file=str(tmp_path / "gone.safetensors"), source="timm/inception_v3.tv")

    with pytest.raises(InceptionError) as raised:
        explain.find_weights_of_run(weights, "")

    assert str(raised.value) == (
        f"{tmp_path}/gone.safetensors: the weights of the run are not there; download them with "
        "inception classify PHOTO --weights timm-tv, or leave out --explain"
    )


def test_weights_are_compared_whatever_their_suffix_and_layout(tmp_path: Path) -> None:
    file = tmp_path / "pytorch_model.bin"  # of a folder in timm's layout
    file.write_bytes(b"weights")
    weights = replace(WEIGHTS, name=f"local-dir:{tmp_path}", file=str(file), sha256=sha256(file))

    assert explain.find_weights_of_run(weights, "/elsewhere") == weights


def test_photos_are_shown_as_the_network_saw_them(stub: str, photo: Path, tmp_path: Path, inception: Inception) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((400, 200), 80).convert("RGB").save(photo, exif=exif)
    rows, report = tmp_path / "rows.csv", tmp_path / "r.html"
    for option, upright in (("--exif", True), ("--no-exif", False)):
        inception("classify", photo, "-w", stub, "-j", 0, option, "--out", rows, "-f")
        inception("report", rows, "--out", report, "--explain")

        maps = page_data(report)["maps"]
        assert isinstance(maps, dict)
        left, top, right, bottom = maps["photos"]["0"][3]
        assert (bottom - top < right - left) == upright
        (picture,) = set(re.findall(r'src="data:image/jpeg;base64,([^"]+)"', report.read_text()))
        with Image.open(io.BytesIO(base64.b64decode(picture))) as thumbnail:
            assert (thumbnail.height > thumbnail.width) == upright
        assert ("without their EXIF orientation" in report.read_text()) != upright


# ── What the page holds ──────────────────────────────────────────────────────────────────────────────────────────────


def many(number: int) -> list[Prediction]:
    return [prediction(f"{row}.jpg", row % 3, 0.4 + 0.5 * row / number) for row in range(number)]


def test_a_report_with_500_maps_grows_by_at_most_200_kb() -> None:
    generator = np.random.default_rng(0)

    def explain_all(predictions: Sequence[Prediction]) -> HeatMaps:
        maps = [quantise(generator.normal(size=(8, 8)), (0.1234, 0.0567, 0.8766, 0.9433)) for _ in predictions]
        assert len(maps) == MAX_PHOTOS
        return HeatMaps(maps, (0.0719, 0.9281))

    plain = len(page_of(many(700)).page)
    explained = len(page_of(many(700), explain=explain_all).page)

    assert 50_000 < explained - plain <= 200_000


def test_the_lists_come_first_and_then_each_class_in_turn() -> None:
    chosen = choose_photos(collect_samples(many(900)))

    assert len({sample.number for sample in chosen}) == len(chosen) == MAX_PHOTOS
    assert [sample.number for sample in chosen[:48]] == list(range(48))  # the least confident
    by_class = np.bincount([sample.number % 3 for sample in chosen[48:]])
    assert np.ptp(by_class) <= 1


def test_a_map_is_stored_in_bytes_between_its_lowest_and_highest_value() -> None:
    found = quantise(np.array([[-1.0, 0.0], [1.0, 4.0]]), (0, 0, 1, 1))

    assert found == HeatMap(bytes([0, 51, 102, 255]), -1.0, 4.0, (0, 0, 1, 1))
    assert quantise(np.full((3, 3), 7.0), (0, 0, 1, 1)).cells == bytes(9)


def test_a_larger_map_is_averaged() -> None:
    values = np.arange(144.0).reshape(12, 12)

    found = quantise(values, (0, 0, 1, 1))

    assert len(found.cells) == 64
    assert found.low == pytest.approx((0 + 1 * 0.5 + 12 * 0.5 + 13 * 0.25) / 2.25)  # a cell and a half each way
    assert found.low + found.high == pytest.approx(143)


def test_the_map_of_a_class_that_a_run_does_not_allow_has_the_score_0(stub: str) -> None:
    run = replace(manifest().run, weights=(WEIGHTS,), pixels=PixelConfig(WEIGHTS.preset), only_classes=(2, 5), top_k=1)
    explainer = explain.Explainer(run, "cpu")

    (found,) = explainer.explain(np.zeros((1, 75, 75, 3), np.uint8), [0])

    assert found.score == 0
