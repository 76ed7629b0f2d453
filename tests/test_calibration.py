"""Runs in int8: calibrated on their photos, compared with fp32, and resumed with the same ranges."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from lively import lively, pictures
from PIL import Image
from records import new_manifest, run_config
from running import Inception

from inception_cli import Classifier
from inception_cli.cli.progress import ProgressBar
from inception_cli.config import PRESETS, Plan, Settings
from inception_cli.errors import InceptionError, UsageError
from inception_cli.inference import calibration, resolve, runner
from inception_cli.machine import int8_instructions
from inception_cli.network import int8
from inception_cli.storage.store import Int8Check
from inception_cli.weights.load import save_weights

needs_int8 = pytest.mark.skipif(not int8.available(), reason="this processor multiplies no uint8 by int8")
SIDE = 75


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lively weights with ten classes for pixels 75 × 75."""
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    preset = replace(PRESETS["torchvision"], name="small", size=SIDE, resize=SIDE)
    save_weights(file, lively(num_classes=10), [f"class {number}" for number in range(10)], preset, {})
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 90 pictures, 30 of them different, and two files that are damaged."""
    folder = tmp_path_factory.mktemp("many")
    drawn = [Image.fromarray(each.permute(1, 2, 0).numpy()) for each in pictures(30, seed=7, side=SIDE)]
    for number in range(90):
        drawn[number % 30].save(folder / f"{number:03}.png", compress_level=1)
    for number in (0, 45):
        (folder / f"{number:03}.png").write_bytes(b"damaged")
    return folder


@pytest.fixture
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibrate on few photos, and in short runs, to save time."""
    monkeypatch.setattr(calibration, "MIN_INPUTS", 90)
    monkeypatch.setattr(calibration, "CALIBRATED", 16)


@needs_int8
@pytest.mark.usefixtures("small_numbers")
def test_a_run_is_calibrated_compared_and_resumed(
    small: Path, folder: Path, tmp_path: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("classify", folder, "-w", small, "--precision", "int8", "--allow-failures", "-j", 0, "-v")
    whole, resumed = tmp_path / "whole.csv", tmp_path / "resumed.csv"
    shown: list[str] = []
    monkeypatch.setattr(ProgressBar, "preparing", lambda _, description: shown.append(description))
    ended = inception(*words, "-o", whole)

    assert ended.code == 0
    assert shown == ["calibrating int8 on 16 photos", "comparing int8 with fp32"]
    manifest = json.loads(Path(f"{whole}.json").read_text())
    checked = Int8Check(**manifest["int8"])
    assert (checked.photos, checked.instructions) == (9, int8_instructions())
    assert checked.share >= 0.95
    assert f"{checked}\n" in ended.err
    assert f"{int8_instructions()}, calibrated on at most 16 photos\n" in ended.err
    assert set(manifest["run"]["int8_ranges"][0]) == set(int8.layer_names())

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runner.RunProgress, "images_per_s", property(stop))
        assert inception(*words, "-o", resumed).code == 130
    monkeypatch.setattr(calibration, "calibrate", stop)  # a resumed run must not
    monkeypatch.setattr(calibration, "check", stop)
    ended = inception(*words, "-o", resumed)

    assert ended.code == 0
    assert resumed.read_bytes() == whole.read_bytes()
    assert len({line.split(",")[4] for line in whole.read_text().splitlines()[2:]}) >= 30  # scores
    assert f"{checked}\n" in ended.err


@needs_int8
@pytest.mark.usefixtures("small_numbers")
def test_a_run_that_disagrees_with_fp32_writes_nothing(
    small: Path, folder: Path, tmp_path: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        calibration, "find_ranges", lambda *each: {name: end / 50 for name, end in int8.find_ranges(*each).items()}
    )

    ended = inception("classify", folder, "-w", small, "--precision", "int8", "-j", 0, "-o", tmp_path / "rows.csv")

    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert "less than 95%; use bf16 or fp32 for these photos" in ended.err
    assert not [*tmp_path.iterdir()]


@needs_int8
def test_a_short_run_is_refused(stub: str, inception: Inception, photos: Path) -> None:
    ended = inception("classify", photos, "-w", stub, "--precision", "int8")

    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "error: precision int8: the run has only 24 inputs, and int8 pays from 300 on; leave --precision out\n"
    )


@needs_int8
@pytest.mark.usefixtures("small_numbers")
def test_python_calibrates_on_given_photos(small: Path, folder: Path) -> None:
    files = sorted(folder.iterdir())[1:17]
    classifier = Classifier(str(small), precision="int8", calibration=files, workers=0)

    expected = Classifier(str(small), precision="fp32")(files)
    actual = classifier(files)

    differences = [abs(one.scores[0] - other.scores[0]) for one, other in zip(actual, expected, strict=True)]
    assert max(differences) < 0.1
    assert len({prediction.scores[0] for prediction in expected}) == 16
    with pytest.raises(UsageError, match=r"give calibration=\[paths\]"):
        Classifier(str(small), precision="int8")


def test_the_manifest_names_instructions_that_exist() -> None:
    with pytest.raises(UsageError, match=r"int8\.instructions .*AVX-512 VNNI"):
        Int8Check(30, 30, 0.01, "VNNI\n")


def test_photos_are_taken_at_equal_distances() -> None:
    assert calibration._spread(range(10), 4) == [0, 2, 5, 7]
    assert calibration._spread([3, 4], 4) == [3, 4]


def test_a_machine_that_starts_a_clusters_run_without_instructions_is_told_where_int8_is_calibrated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calibration, "available", lambda: False)
    monkeypatch.setattr(calibration, "calibrate", lambda *_: pytest.fail("it was calibrated"))
    run = replace(run_config(), plan=Plan(precision="int8"))  # as another machine of the cluster has resolved it

    with pytest.raises(InceptionError, match=r"calibrated and checked on the machine that starts the run.*fp32$"):
        runner._calibrate(run, ["a.jpg"] * 300, ProgressBar("classify", True))


def test_too_few_readable_photos_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "load_network", lambda _: lively(num_classes=10))
    run = replace(run_config(), plan=Plan(precision="int8"))
    missing = [str(tmp_path / f"{number}.jpg") for number in range(300)]

    with pytest.raises(
        InceptionError, match="of 64 photos to calibrate on 0 can be read, fewer than 8; use bf16 or fp32"
    ):
        calibration.calibrate(run, missing)


def test_ranges_of_other_layers_in_a_manifest_are_refused() -> None:
    run = replace(run_config(), int8_ranges=({"Conv2d_1a_3x3": 1.0},))

    with pytest.raises(InceptionError, match="int8_ranges: layer Conv2d_2a_3x3 of the interrupted run is wrong"):
        resolve._int8_ranges(run)


@pytest.mark.parametrize(
    ("capabilities", "instructions"),
    [
        ({"amx_int8": True, "avx512_vnni": True}, "AMX"),
        ({"avx512_vnni": True}, "AVX-512 VNNI"),
        ({"avx_vnni": True}, "AVX-VNNI"),
        ({"avx512_bf16": True}, ""),
    ],
)
def test_the_instructions_of_the_processor_are_named(
    capabilities: dict[str, bool], instructions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)

    assert int8_instructions() == instructions


@pytest.mark.parametrize(("images", "suggested"), [(999, False), (1000, True)])
def test_a_long_run_in_fp32_says_that_int8_is_faster(
    images: int, suggested: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "available", lambda: True)

    notes = runner._notes(Settings(), run_config(), new_manifest(), images)

    assert any("--precision int8" in note for note in notes) == suggested
