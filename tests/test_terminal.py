"""What a person sees in a terminal: no line wraps at 80 columns, no figure is cut at 60, the progress bar goes away."""

import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import shots
from PIL import Image
from records import run_config
from reported import evaluation, rows
from rich.console import Console
from running import Inception
from terminal import run_in_terminal, screen

from inception_cli.cli import tables
from inception_cli.cli.commands import HELP, app
from inception_cli.cli.console import prediction_line
from inception_cli.cli.progress import ProgressBar, TrainingProgress
from inception_cli.config import Weights
from inception_cli.inference.runner import RunProgress
from inception_cli.predictions.prediction import Prediction
from inception_cli.training import resolve, train
from inception_cli.training.dataset import ImageCounts
from inception_cli.training.recipe import Recipe
from inception_cli.training.settings import TrainConfig
from inception_cli.training.train import EpochProgress, Trainer
from inception_cli.weights.training_record import EpochResult, TrainingRecord


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder per class of the stub network, and a file that is no image."""
    folder = tmp_path_factory.mktemp("terminal") / "photos"
    for number in range(10):
        (folder / f"{number}").mkdir(parents=True)
        Image.new("RGB", (75, 75), (20 * number, 90, 200 - 20 * number)).save(folder / f"{number}" / "photo.jpg")
    (folder / "3" / "bad.jpg").write_text("no image")
    return folder


def test_a_screen_is_drawn_as_by_a_terminal() -> None:
    assert screen("one\r\ntwo\r\x1b[2Kthree\x1b[1A\r\x1b[31mfo\x1b[0m\r\n\r\n") == ["foe", "three", ""]


def test_the_name_of_a_preset_is_no_markup(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"params": 1, "params_aux": 1, "macs": 1, "flops": 2, "mmpretrain_count": 1}
    name = "[/a] [x]\x1b[2J"
    preset = {"name": name, "input_range": [[-1, 1]], "resize": 9, "size": 8, "filter": "bilinear", "antialias": True}
    weights: dict[str, object] = {
        "name": "w",
        "top1": None,
        "top5": None,
        "cached": False,
        "sha256": "0",
        "classes": ["a"],
        "notes": [],
    }
    weights |= counts | {"preset": name, "preset_resolved": preset, "trained": {}}
    protocol = {"networks": 1, "views": 1, "total": counts}
    description = counts | {"stages": [], "weights": [weights], "protocol": protocol, "notes": []}
    monkeypatch.setenv("COLUMNS", "200")

    tables.print_info(description | {"device": "cpu", "precision": "fp32"}, trained=False)

    assert capsys.readouterr().out.count(r"[/a] [x]\x1b[2J") == 2


@pytest.mark.parametrize("width", [60, 80, 200])
def test_info_shows_every_figure_and_wraps_no_line(
    width: int, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))

    lines = inception("info").out.splitlines()

    table = [line for line in lines if "/" not in line and ": " not in line]
    assert max(map(len, table)) <= max(80, width)
    assert "…" not in "".join(table)
    for figures in ("77.294 93.45", "77.866 93.644", "Conv2d_2a_3x3 32×147×147 9,280 199,148,544 3.49"):
        assert any(figures in " ".join(re.sub("[│]", " ", line).split()) for line in table), figures
    assert len(table) < 50  # no row takes two lines
    assert ("Cached" in "".join(table)) == (width > 60)


@pytest.mark.parametrize(("width", "wraps"), [(60, True), (80, False)])
def test_the_metrics_show_every_figure(
    width: int, wraps: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    small = evaluation(rows())
    metrics = replace(small.metrics, n=48_238, top1=77.294, top5=93.45, top1_ci=(76.9, 77.7), top5_ci=(93.2, 93.7))

    tables.print_evaluation(replace(small, results=(replace(small.results[0], metrics=metrics),)), verbose=False)

    lines = capsys.readouterr().out.splitlines()
    printed = " ".join(" ".join(lines).split())
    for figures in ("77.29 93.45", "76.90 – 77.70 93.20 – 93.70", "78.8 94.4", "23.83", "48,238"):
        assert figures in re.sub(" +", " ", printed.replace("│", " ")), printed
    table = lines[: next(place for place, line in enumerate(lines) if "ground" in line or "<test>" in line)]
    assert max(map(len, table)) <= width
    assert wraps or sum("paper" in line and "48,238" in line for line in table) == 1


@pytest.mark.parametrize("text", [HELP, *(command.callback.__doc__ for command in app.registered_commands)])
def test_no_example_in_the_help_wraps(text: str) -> None:
    assert max(len(line.strip()) for line in text.splitlines() if line.strip().startswith("inception ")) <= 78


@pytest.mark.parametrize("command", shots.COMMANDS)
def test_no_option_is_cut_in_the_help_of_a_narrow_terminal(
    command: str, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")

    ended = inception(*command.split(), "--help")

    options = re.findall(r"--[a-z\d-]+", shots.snapshot(command).read_text())
    assert [option for option in options if option not in ended.out] == []
    assert "…" not in ended.out
    assert "..." not in ended.out.partition("\n")[2]
    lines = [line for line in ended.out.splitlines() if not line.strip().startswith("inception ")]
    assert max(map(len, lines)) <= 60


def test_the_help_is_no_error_where_there_are_no_arguments(
    inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    for width in ("60", "80"):
        monkeypatch.setenv("COLUMNS", width)

        ended = inception()

        assert (ended.code, ended.err) == (2, "")
        assert "Usage: inception" in ended.out


@pytest.mark.parametrize(("width", "lines"), [(60, 2), (80, 2), (200, 1)])
def test_the_reason_of_a_failure_does_not_wrap(width: int, lines: int) -> None:
    console = Console(width=width, force_terminal=True)
    reason = "the file ends before the image is complete"

    line = prediction_line(Prediction("photos/cut-in-two.jpg", "truncated", error=reason), console).plain

    shown = line.splitlines()
    assert len(shown) == lines
    assert max(map(len, shown)) <= width
    assert shown[-1].index(reason) == (shown[0].index("truncated") if lines == 2 else 62)


def test_a_file_has_a_line_for_each_failure() -> None:
    console = Console(width=60, file=io.StringIO())

    assert "\n" not in prediction_line(Prediction("x" * 200, "corrupt", error="damaged"), console).plain


@pytest.mark.parametrize("words", [("classify",), ("evaluate", "--val-dir")])
def test_the_progress_bar_is_gone_before_results_are_printed(
    words: tuple[str, ...], classes: Path, stub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = ProgressBar.update

    def draw(bar: ProgressBar, progress: RunProgress) -> None:
        update(bar, progress)
        assert bar.progress
        bar.progress.refresh()  # else such a short run ends before the bar is drawn

    monkeypatch.setattr(ProgressBar, "update", draw)

    shown = run_in_terminal(*words, classes, "-w", stub, "-j", 0, "-b", 4)

    assert shown.code == 3, shown.lines
    assert "4/11" in shown.sent  # there was a bar
    results = [line for line in shown.lines if "images/s" in line]
    assert len(results) == 1, shown.lines
    assert results[0].startswith("11 rows: 10 ok, 1 corrupt; ")
    if words[0] == "classify":
        photos = [line for line in shown.lines if ".jpg" in line]
        assert len(photos) == 11
        assert all(re.match(r" +(\d+\.\d%|–)  [a-z\d ]+  /", line) for line in photos), photos


def test_rows_go_to_standard_output_where_only_the_bar_is_in_a_terminal(
    classes: Path, inception: Inception, stub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")

    ended = inception("classify", classes, "-w", stub, "-j", 0, "-b", 4, "-o", "-")

    assert len(ended.out.splitlines()) == 12
    assert "\x1b" not in ended.out
    assert "━" in ended.err


def epoch_result(number: int, planned: int = 2, seconds_left: float = 7200) -> EpochResult:
    return EpochResult(number, planned, 160, 0.04, 2.34567, 100.0, 99.54, 98.76, True, 123.4, 600, seconds_left)


@pytest.mark.parametrize(
    ("by_class", "seconds_left", "line"),
    [
        (False, 7200, "train 100.0 %  val  99.5 %  crop 160 of 176 px  123 images/s  120 min left"),
        (True, 42.4, "train 100.0 %  val  99.5 %  by class  98.8 %  crop 160 of 176 px  123 images/s  42 s left"),
        (False, 0, "train 100.0 %  val  99.5 %  crop 160 of 176 px  123 images/s"),
    ],
)
def test_every_figure_of_an_epoch_has_its_name(
    by_class: bool, seconds_left: float, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    TrainingProgress(quiet=False).epoch(epoch_result(9, 30, seconds_left), 176, by_class)

    assert capsys.readouterr().err == f"epoch  9/30 *  loss 2.346  {line}\n"


class TwoEpochs(Trainer):
    """A training that takes no time."""

    images = ImageCounts(108, 32, 12, [7, 5])
    part_bytes = 282_000_000, 369_000_000

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.recipe, self.history, self.skipped = config, Recipe(), [], {}
        self.classes, self.resumed = ("apple", "pear"), ""

    def epochs(self, progress: EpochProgress = lambda done, total: None) -> Iterator[EpochResult]:
        for number in (1, 2):
            progress(96, 108)
            progress(108, 108)
            self.history.append(epoch_result(number))
            yield self.history[-1]

    def fit_last_layer(self, progress: EpochProgress = lambda done, total: None) -> None:
        progress(300, 324)

    def save(self, on_saved: Callable[[dict[str, Any]], None] = lambda metadata: None) -> dict[str, Any]:
        return asdict(training_record())


def training_record() -> TrainingRecord:
    return TrainingRecord("scratch", 108, 12, 50.0, 52.5, 2, 2, 0, 32, "cpu", "fp32", 1200.0, "{}")


def test_a_training_shows_a_bar_for_the_epoch_that_runs(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "Trainer", TwoEpochs)

    shown = run_in_terminal("train", classes, "--from", "scratch", "--epochs", 2, "-o", tmp_path / "m.safetensors")

    assert shown.code == 0
    for number in (1, 2):
        assert f"training: epoch {number}/2" in shown.sent
        assert f"training: epoch {number}/2, validation" in shown.sent
    assert "96/108" in shown.sent
    assert "fitting the last layer" in shown.sent
    assert "300/324" in shown.sent
    assert re.search(r"\d images/s", shown.sent)
    assert "epoch 3/2" not in shown.sent
    assert shown.lines[0] == "108 images of 2 classes for training, 12 others for validation"
    assert not any("training:" in line for line in shown.lines)
    assert [line[:9] for line in shown.lines if line.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]


def test_the_notes_of_the_start_weights_name_no_option_that_train_lacks(
    classes: Path, tmp_path: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = "the file names no preset: torchvision's is used"

    def find_weights(name: str, can_choose: bool, **_: object) -> Weights:
        return replace(run_config().weights[0], name=name, notes=(f"{note}; --preset" if can_choose else note,))

    monkeypatch.setattr(resolve, "find_weights", find_weights)
    monkeypatch.setattr(train, "Trainer", TwoEpochs)
    words = "train", classes, "--from", "runs/start.pth", "--size", 176, "--epochs", 2, "-o", tmp_path / "m.safetensors"

    shown, quiet = inception(*words), inception(*words, "-q")

    assert f"start.pth: {note}" in shown.err.splitlines()
    assert quiet.err == ""


def test_the_figures_of_an_epoch_are_whole_in_a_narrow_terminal(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "Trainer", TwoEpochs)
    words = "train", classes, "--from", "scratch", "--epochs", 2, "-o", tmp_path / "m.safetensors"

    shown = run_in_terminal(*words, width=60)

    start = next(place for place, line in enumerate(shown.lines) if line.startswith("epoch 1/2"))
    assert shown.lines[start : start + 3] == [
        "epoch 1/2 *  loss 2.346  train 100.0 %  val  99.5 %",
        "      by class  98.8 %  crop 160 of 176 px  123 images/s",
        "      120 min left",
    ]


def test_a_training_says_what_its_figures_mean(
    classes: Path, tmp_path: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "Trainer", TwoEpochs)
    out = tmp_path / "m.safetensors"

    ended = inception("train", classes, "--from", "scratch", "--epochs", 2, "-o", out)

    lines = ended.err.splitlines()
    assert ended.out == ""
    assert lines[:5] == [
        "108 images of 2 classes for training, 12 others for validation",
        f"checkpoint {out}.part: 282 MB after each epoch, 369 MB while an earlier epoch is the best",
        "  loss: mean over the crops, which are random parts of the images; crop: their side, of the input resolution",
        "  train, val: accuracy on 32 of the training images and on the validation images; "
        "by class: mean of the classes' accuracies",
        "  *: the best epoch so far, which is kept; of epochs within one standard error the last",
    ]
    assert [line[:11] for line in lines[5:7]] == ["epoch 1/2 *", "epoch 2/2 *"]
    assert lines[7:] == [
        f"written to {out}: epoch 2 of 2, the last with *",
        "top-1 50.0 % on 12 validation images (95 % interval 25.4 to 74.6), mean of the classes 52.5 %; it also chose "
        "the epoch, so expect a little less on other images",
        f"to use them: inception classify PHOTOS --weights {out} --out preds.csv",
    ]
    early = asdict(training_record()) | {"stopped_early": True, "best_epoch": 1}
    monkeypatch.setattr(TwoEpochs, "save", lambda self, on_saved: early)
    stopped = inception("train", classes, "--from", "scratch", "--epochs", 2, "-o", out)
    assert (
        f"written to {out}: epoch 1 of 2, the last with *\nstopped before epoch 3: 1 epoch without a bett"
        in stopped.err
    )
    quiet = inception("train", classes, "--from", "scratch", "-o", out, "-q", "--json")
    assert (quiet.err, json.loads(quiet.out)["val_photos"]) == ("", 12)


def test_info_shows_a_spinner_that_goes_away() -> None:
    shown = run_in_terminal("info", "-w", "demo")

    assert "loading PyTorch and demo" in shown.sent
    assert not any("loading" in line for line in shown.lines)
    assert "loading PyTorch" in run_in_terminal("info").sent


def test_report_and_evaluate_show_a_spinner_while_they_read_predictions(
    classes: Path, stub: str, tmp_path: Path, inception: Inception
) -> None:
    rows = tmp_path / "rows.csv"
    inception("classify", classes, "-w", stub, "-j", 0, "-o", rows)

    report = run_in_terminal("report", rows, "-o", tmp_path / "page.html")
    evaluate = run_in_terminal("evaluate", "--predictions", rows, "--label-format", "number")

    assert "writing page.html" in report.sent
    assert "scoring the predictions" in evaluate.sent
    assert not any("writing" in line or "scoring" in line for line in report.lines + evaluate.lines)
    assert evaluate.lines[0].startswith("┏")
