"""The command, end to end: rows, exit codes, and one line for every error."""

import csv
import errno
import io
import json
import os
import shutil
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from lively import lively
from PIL import Image
from running import Ended, Inception, code_of
from safetensors.torch import load_file, save_file

from inception_cli.cli import jobs
from inception_cli.cli.progress import ProgressBar
from inception_cli.config import PRESETS
from inception_cli.errors import InceptionError
from inception_cli.inference.predictor import DevicePredictor
from inception_cli.inference.runner import RunProgress
from inception_cli.predictions.formats import read_predictions
from inception_cli.predictions.prediction import Prediction
from inception_cli.weights.load import save_weights

GROCERIES = str(Path(__file__).parents[1] / "sample_images" / "*" / "*-1.*")  # a photo of each of ten classes
FP32 = ("--precision", "fp32", "--decode", "exact", "--no-exif")  # as a plain torchvision loop


@pytest.fixture(scope="module")
def classified(photos: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a run over eight photos with batches of 7 and no workers."""
    out = tmp_path_factory.mktemp("plain") / "plain.csv"
    code_of("classify", photos / "a", "-w", checkpoint, "-o", out, "-b", 7, "-j", 0, *FP32)
    return out


@pytest.fixture(scope="module")
def demo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a run over GROCERIES with the bundled weights, batches of 7 and no workers."""
    out = tmp_path_factory.mktemp("demo") / "plain.csv"
    assert code_of("classify", GROCERIES, "-w", "demo", "-o", out, "-b", 7, "-j", 0, *FP32) == 0
    assert len({row.classes[0] for row in rows(out)}) >= 8  # else no equality could fail
    return out


@pytest.fixture(scope="module")
def stub_file(photos: Path, stub: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a run of the stub network with batches of 7 and no workers."""
    out = tmp_path_factory.mktemp("stub") / "plain.csv"
    assert code_of("classify", photos, "-w", stub, "-o", out, "-b", 7, "-j", 0, *FP32) == 0
    assert len({row.classes[0] for row in rows(out)}) >= 8  # else no equality could fail
    return out


def rows(file: Path) -> list[Prediction]:
    return list(read_predictions(file))


def assert_same(some: list[Prediction], others: list[Prediction]) -> None:
    """Assert equal classes, and scores within 1e-5."""
    assert [(row.path, row.status, row.classes) for row in some] == [
        (row.path, row.status, row.classes) for row in others
    ]
    np.testing.assert_allclose([row.scores for row in some], [row.scores for row in others], rtol=0, atol=1e-5)


def one_line(ended: Ended) -> str:
    """Return the line of an error; there is only one, and no traceback."""
    lines = ended.err.strip().splitlines()
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("error: ")
    return lines[0]


def test_one_row_for_each_photo_in_order(stub_file: Path, photos: Path) -> None:
    expected = sorted(photos.rglob("*.jpg"), key=lambda path: path.relative_to(photos).parts)

    assert [row.path for row in rows(stub_file)] == [str(path) for path in expected]


def test_the_same_bytes_at_any_number_of_workers(
    inception: Inception, demo_file: Path, stub_file: Path, photos: Path, stub: str, tmp_path: Path
) -> None:
    for inputs, weights, workers, plain in (
        (photos, stub, 1, stub_file),
        (photos, stub, 3, stub_file),
        (GROCERIES, "demo", 2, demo_file),
    ):
        inception("classify", inputs, "-w", weights, "-fo", tmp_path / "p.csv", "-b", 7, "-j", workers, *FP32)

        assert (tmp_path / "p.csv").read_bytes() == plain.read_bytes()


def test_the_same_classes_at_any_batch_size(inception: Inception, demo_file: Path, tmp_path: Path) -> None:
    for batch in (1, 64):
        inception("classify", GROCERIES, "-w", "demo", "-fo", tmp_path / "p.csv", "-b", batch, "-j", 0, *FP32)

        assert_same(rows(tmp_path / "p.csv"), rows(demo_file))


def torchvision_rows(paths: list[str], checkpoint: Path, **wrong: Any) -> list[Prediction]:
    """Return the rows of torchvision's model with its weights' own transforms, one image at a time."""
    network = torchvision.models.inception_v3(weights=None, aux_logits=False, init_weights=False, transform_input=True)
    network.load_state_dict(load_file(checkpoint))
    network.eval()
    transforms = torchvision.models.Inception_V3_Weights.IMAGENET1K_V1.transforms(**wrong)
    predictions = []
    for path in paths:
        with torch.inference_mode():
            scores = network(transforms(Image.open(path).convert("RGB"))[None]).softmax(1)[0].topk(5)
        classes = tuple(scores.indices.tolist())
        predictions.append(Prediction(path, "ok", classes, tuple(map(str, classes)), tuple(scores.values.tolist())))
    return predictions


def test_rows_equal_those_of_a_plain_torchvision_loop(classified: Path, checkpoint: Path) -> None:
    ours = rows(classified)

    assert len({row.classes[0] for row in ours}) >= 4
    assert_same(ours, torchvision_rows([row.path for row in ours], checkpoint))


def test_rows_differ_from_those_of_another_preset(classified: Path, checkpoint: Path) -> None:
    ours = rows(classified)[::2]
    wrong = torchvision_rows([row.path for row in ours], checkpoint, resize_size=299)

    assert [row.classes for row in ours] != [row.classes for row in wrong]


def test_standard_output_gets_the_same_bytes(inception: Inception, stub_file: Path, photos: Path, stub: str) -> None:
    ended = inception("classify", photos, "-w", stub, "-o", "-", "-b", 7, "-j", 0, *FP32)

    assert ended.code == 0
    assert ended.out.encode() == stub_file.read_bytes()


def test_paths_are_read_from_standard_input(
    inception: Inception, stub_file: Path, stub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = "".join(f"{row.path}\n" for row in rows(stub_file)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(paths)))

    inception("classify", "-", "-w", stub, "-o", tmp_path / "p.csv", "-b", 7, "-j", 0, *FP32)

    assert (tmp_path / "p.csv").read_bytes() == stub_file.read_bytes()


def test_without_out_there_is_a_line_for_each_photo(
    inception: Inception, stub_file: Path, photos: Path, stub: str
) -> None:
    ended = inception("classify", photos, "-w", stub, "-b", 7, "-j", 0, *FP32)

    lines = ended.out.splitlines()
    assert len(lines) == 24
    first = rows(stub_file)[0]
    assert lines[0].split("%")[0].strip() == f"{100 * first.scores[0]:.1f}"
    assert first.labels[0] in lines[0]


def test_bf16_gives_scores_near_those_of_fp32(inception: Inception, demo_file: Path, tmp_path: Path) -> None:
    inception("classify", GROCERIES, "-w", "demo", "-o", tmp_path / "p.csv", *FP32, "--precision", "bf16")

    difference = [
        abs(row.scores[0] - other.scores[0])
        for row, other in zip(rows(tmp_path / "p.csv"), rows(demo_file), strict=True)
    ]
    assert 0 < np.median(difference) < 0.1


def test_an_ensemble_is_the_mean_of_its_softmaxes(inception: Inception, photos: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    network, preset = lively(num_classes=3), replace(PRESETS["torchvision"], name="small", size=139, resize=158)
    save_weights(files[0], network, ("a", "b", "c"), preset, {})
    network.fc.weight.data.neg_()
    save_weights(files[1], network, ("a", "b", "c"), preset, {})
    outs, four = [tmp_path / f"{name}.csv" for name in ("a", "b", "both")], sorted((photos / "a").iterdir())[:4]
    for out, words in zip(outs, (["-w", files[0]], ["-w", files[1]], ["-w", files[0], "-w", files[1]]), strict=True):
        assert inception("classify", *four, *words, "-o", out, "-j", 0, *FP32).code == 0

    alone, other, both = ([dict(zip(row.classes, row.scores, strict=True)) for row in rows(out)] for out in outs)

    assert len({max(scores, key=scores.__getitem__) for scores in alone}) > 1
    for one, two, mean in zip(alone, other, both, strict=True):
        assert mean == pytest.approx({index: (one[index] + two[index]) / 2 for index in range(3)}, abs=1e-5)


def test_top_k_is_at_most_the_number_of_classes(inception: Inception, photos: Path, tmp_path: Path) -> None:
    save_file(lively(num_classes=3).state_dict(), tmp_path / "three.safetensors")

    ended = inception("classify", photos / "a/00.jpg", "-w", tmp_path / "three.safetensors", "-o", "-", "-j", 0)

    assert next(csv.reader(io.StringIO(ended.out)))[-2] == "top3_score"
    assert "top-k is 3" in ended.err


def test_the_manifest_records_what_was_done(classified: Path, checkpoint: Path) -> None:
    manifest = json.loads(classified.with_name("plain.csv.json").read_text())

    assert manifest["n"] == 8
    assert manifest["counts"] == {"ok": 8}
    assert manifest["run"]["loader"]["batch_size"] == 7
    assert manifest["run"]["weights"][0]["file"] == str(checkpoint)
    assert len(manifest["run"]["weights"][0]["classes"]["names"]) == 1000
    assert manifest["network"] == {
        "params": 23_834_568,
        "macs": 5_713_216_096,
        "flops": 11_426_432_192,
        "mmpretrain_count": 5_745_177_632,
    }


def test_json_prints_the_manifest(inception: Inception, photos: Path, stub: str, tmp_path: Path) -> None:
    ended = inception("classify", photos / "a", "-w", stub, "-o", tmp_path / "p.csv", "-j", 0, "--json")

    printed = json.loads(ended.out)
    assert printed["n"] == 8
    assert printed["inputs"] == [str(photos / "a")]


def test_json_without_a_file_prints_the_manifest_and_the_predictions(
    inception: Inception, photos: Path, stub: str, tmp_path: Path
) -> None:
    missing = os.fsdecode(b"gr\xfcn.jpg")
    words = photos / "a", missing, "-w", stub, "-j", 0, "-b", 3, "-k", 2
    inception("classify", *words, "-o", tmp_path / "p.csv")

    printed = json.loads(inception("classify", *words, "--json").out)

    assert printed["counts"] == {"ok": 8, "missing": 1}
    expected = [asdict(row) for row in read_predictions(tmp_path / "p.csv")]
    for row in expected:
        del row["decision"], row["features"]
    assert printed["predictions"] == json.loads(json.dumps(expected))
    last = printed["predictions"][-1]
    assert [*last] == ["path", "status", "classes", "labels", "scores", "error"]
    assert [*last.values()] == [r"gr\xfcn.jpg", "missing", [], [], [], "no such file"]


@pytest.mark.parametrize(("limit", "listed"), [(8, True), (7, False)])
def test_json_prints_the_predictions_of_few_inputs_only(
    limit: int, listed: bool, inception: Inception, photos: Path, stub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert jobs.MAX_JSON_INPUTS == 1000
    monkeypatch.setattr(jobs, "MAX_JSON_INPUTS", limit)

    printed = json.loads(inception("classify", photos / "a", "-w", stub, "-j", 0, "-b", 3, "--json").out)

    assert ("predictions" in printed) == listed
    assert printed["n"] == 8


# Bad input: a row with its status, and the rest of its batch does not change.


def test_a_bad_file_is_a_row_and_the_other_rows_do_not_change(
    inception: Inception, photos: Path, stub: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(photos / "a", tmp_path / "photos")
    words = ("-w", stub, "-b", 8, "-j", 0, *FP32)
    inception("classify", folder, *words, "-o", tmp_path / "good.csv")
    bad = sorted(folder.iterdir())[1:6]
    for file, content in zip(bad, (b"", b"<html>", bad[2].read_bytes()[:3000], b"\0" * 99), strict=False):
        file.write_bytes(content)
    bad[4].unlink()
    bad[4].symlink_to("nowhere.jpg")

    ended = inception("classify", folder, *words, "-o", tmp_path / "bad.csv")

    good, bad_rows = rows(tmp_path / "good.csv"), rows(tmp_path / "bad.csv")
    assert ended.code == 3
    assert [row.status for row in bad_rows] == [
        "ok",
        "corrupt",
        "corrupt",
        "truncated",
        "corrupt",
        "missing",
        "ok",
        "ok",
    ]
    assert all(row.error and not row.classes for row in bad_rows if row.status != "ok")
    assert [bad_rows[place] for place in (0, 6, 7)] == [good[place] for place in (0, 6, 7)]
    allowed = inception("classify", folder, *words, "-o", tmp_path / "bad.csv", "-f", "--allow-failures")
    assert allowed.code == 0


def test_a_missing_path_is_a_row_if_another_input_exists(
    inception: Inception, photos: Path, stub: str, tmp_path: Path
) -> None:
    ended = inception("classify", "none.jpg", photos / "a", "-w", stub, "-o", tmp_path / "p.csv", "-j", 0)

    assert ended.code == 3
    assert (rows(tmp_path / "p.csv")[0].path, rows(tmp_path / "p.csv")[0].status) == ("none.jpg", "missing")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of another network."""
    file = tmp_path_factory.mktemp("resnet") / "resnet.pth"
    torch.save(torchvision.models.resnet18().state_dict(), file)
    return file


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["NOWHERE"], 1, "NOWHERE"),
        (["EMPTY"], 4, "no image"),
        (["TEXTS"], 4, "2 .txt"),
        (["PHOTOS", "-w", "torchvison"], 2, "did you mean torchvision"),
        (["PHOTOS", "-w", "none.pth"], 1, "none.pth: no such file"),
        (["PHOTOS", "-w", "RESNET"], 1, "a ResNet"),
        (["PHOTOS", "-w", "CHECKPOINT", "--preset", "tim"], 2, "'torchvision', 'mmpretrain', 'timm', 'timm-gluon'"),
        (["PHOTOS", "-w", "CHECKPOINT", "--classes", "TEXTS/a.txt"], 2, "has 1,000"),
        (["PHOTOS", "-w", "CHECKPOINT", "--device", "cpuu"], 2, "choose auto, cpu, cuda, cuda:N or mps"),
        (["PHOTOS", "-w", "CHECKPOINT", "--crops", "7"], 2, "1, 10, 12, 144"),
        (["PHOTOS", "-w", "CHECKPOINT", "--batch-size", "some"], 2, "neither a number nor auto"),
        (["PHOTOS", "-w", "CHECKPOINT", "--batch-size", "0"], 2, "at least 1"),
        (["PHOTOS", "-w", "CHECKPOINT", "--nonsense"], 2, "--nonsense"),
        ([], 2, "INPUT"),
    ],
)
def test_an_error_is_one_line_and_leaves_no_file(
    words: list[str],
    code: int,
    message: str,
    inception: Inception,
    photos: Path,
    checkpoint: Path,
    resnet: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "texts" / name).write_text("text")
    places = {
        "PHOTOS": photos,
        "CHECKPOINT": checkpoint,
        "EMPTY": tmp_path / "empty",
        "RESNET": resnet,
        "NOWHERE": tmp_path / "NOWHERE",
    }
    before = sorted(tmp_path.rglob("*"))

    arguments = [str(places.get(word, word)).replace("TEXTS", str(tmp_path / "texts")) for word in words]
    ended = inception("classify", *arguments, "-o", tmp_path / "preds.csv")

    assert ended.code == code
    assert message in one_line(ended)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("out", ["none/preds.csv", "folder.csv", "file.csv/preds.csv", "preds.xls"])
def test_an_output_that_cannot_be_written_is_one_line(
    out: str, inception: Inception, photos: Path, stub: str, tmp_path: Path
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file.csv").touch()
    before = sorted(tmp_path.rglob("*"))

    ended = inception("classify", photos / "a", "-w", stub, "-o", tmp_path / out)

    assert ended.code == (2 if out.endswith("xls") else 1)
    assert out.split("/")[0] in one_line(ended)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_finished_file_is_not_overwritten_without_force(
    inception: Inception, photos: Path, stub: str, tmp_path: Path
) -> None:
    (tmp_path / "p.csv").write_text("somebody's work")

    ended = inception("classify", photos / "a", "-w", stub, "-o", tmp_path / "p.csv")

    assert ended.code == 1
    assert "--force" in one_line(ended)
    assert (tmp_path / "p.csv").read_text() == "somebody's work"
    assert inception("classify", photos / "a", "-w", stub, "-fo", tmp_path / "p.csv").code == 0
    assert len(rows(tmp_path / "p.csv")) == 8


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InceptionError("refused"), OSError("disk")], ids=repr)
@pytest.mark.parametrize(
    ("command", "where"),
    [
        (("evaluate", "--val-dir"), "inception_cli.cli.progress.ProgressBar.loading"),
        (("classify",), "inception_cli.cli.progress.ProgressBar.loading"),  # then PyTorch is imported
        (("classify",), "inception_cli.inference.runner._resolve"),
        (("classify",), "inception_cli.inference.runner._predictor"),
        (("classify",), "inception_cli.inference.predictor.load_network"),  # the header has been written
    ],
)
def test_a_run_that_fails_before_its_first_row_leaves_no_file(
    command: tuple[str, ...],
    where: str,
    error: BaseException,
    stub: str,
    inception: Inception,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(where, fail)

    ended = inception(*command, photos, "-w", stub, "-j", 0, "-o", tmp_path / "p.csv")

    assert ended.code == (130 if isinstance(error, KeyboardInterrupt) else 1)
    assert [*tmp_path.iterdir()] == []


# Interruption: the rows stay, and the same command resumes the run.


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when the second batch is done, once."""
    update, done = ProgressBar.update, []

    def interrupt(bar: ProgressBar, progress: RunProgress) -> None:
        update(bar, progress)
        done.append(progress.done)
        if len(done) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ProgressBar, "update", interrupt)


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize(("weights", "workers"), [("demo", 0), ("stub", 2)])
def test_a_resumed_run_has_the_bytes_of_an_uninterrupted_one(
    weights: str, workers: int, inception: Inception, photos: Path, stub: str, tmp_path: Path
) -> None:
    inputs, batch = (photos, 5) if workers else (GROCERIES, 3)
    words = ("classify", inputs, "-w", weights, "-b", batch, "-j", workers, *FP32, "-o")

    first = inception(*words, tmp_path / "stopped.csv")
    assert first.code == 130
    assert "the same command resumes the run" in first.err
    assert not (tmp_path / "stopped.csv").exists()
    second = inception(*words, tmp_path / "stopped.csv")
    inception(*words, tmp_path / "plain.csv")

    assert second.code == 0
    assert f"{2 * batch} of them from the interrupted run" in second.err
    assert (tmp_path / "stopped.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "plain.csv",
        "plain.csv.json",
        "stopped.csv",
        "stopped.csv.json",
    ]


@pytest.mark.usefixtures("interrupted")
def test_an_interrupted_run_without_a_file_says_how_it_could_resume(
    inception: Inception, photos: Path, stub: str
) -> None:
    ended = inception("classify", photos, "-w", stub, "-b", 5, "-j", 0, "-o", "-")

    assert ended.code == 130
    assert "with --out FILE" in ended.err


@pytest.mark.usefixtures("interrupted")
def test_a_run_with_other_settings_is_not_resumed(
    inception: Inception, photos: Path, stub: str, tmp_path: Path
) -> None:
    words = ("classify", photos, "-w", stub, "-b", 5, "-j", 0, "-o", tmp_path / "p.csv")
    assert inception(*words, "--precision", "fp32").code == 130

    other = inception(*words, "--precision", "bf16")

    assert other.code == 1
    assert "fp32 → bf16" in one_line(other)
    assert "--restart" in one_line(other)
    assert inception(*words, "--precision", "bf16", "--restart").code == 0
    assert len(rows(tmp_path / "p.csv")) == 24


@pytest.mark.usefixtures("interrupted")
def test_photos_added_after_the_start_are_listed(inception: Inception, photos: Path, stub: str, tmp_path: Path) -> None:
    folder = shutil.copytree(photos, tmp_path / "photos")
    words = ("classify", folder, "-w", stub, "-b", 5, "-j", 0, "-o", tmp_path / "p.csv")
    inception(*words)
    shutil.copy(next(folder.glob("*.jpg")), folder / "new.jpg")

    ended = inception(*words)

    assert f"{folder}/new.jpg" in ended.err
    assert len(rows(tmp_path / "p.csv")) == 24


@pytest.mark.usefixtures("interrupted")
def test_relative_inputs_belong_to_the_folder_in_which_the_run_started(
    inception: Inception, photos: Path, stub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("classify", "photos", "-w", stub, "-b", 5, "-j", 0, "-o", tmp_path / "p.csv")
    monkeypatch.chdir(photos.parent)
    assert inception(*words).code == 130
    monkeypatch.chdir(tmp_path)

    ended = inception(*words)

    assert ended.code == 0
    assert "added after the run started" not in ended.err
    assert [row.path for row in rows(tmp_path / "p.csv")[:1]] == ["photos/02.jpg"]
    assert {row.status for row in rows(tmp_path / "p.csv")} == {"ok"}


def test_two_runs_with_one_output_do_not_mix(
    inception: Inception, photos: Path, stub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A POSIX lock belongs to a process: so the other run is in another one."""
    words = ["classify", str(photos / "a"), "-w", stub, "-j", "0", "-o", str(tmp_path / "p.csv")]
    codes: list[int] = []

    def start_another(bar: ProgressBar, progress: RunProgress) -> None:
        child = os.fork()
        if not child:
            os._exit(code_of(*words))
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    monkeypatch.setattr(ProgressBar, "update", start_another)

    ended = inception(*words)

    assert (ended.code, codes) == (0, [1])
    assert "another run" in ended.err


# Names that a terminal would interpret.


def test_control_characters_in_names_are_escaped_in_the_terminal_and_kept_in_the_file(
    inception: Inception, photos: Path, stub: str, tmp_path: Path
) -> None:
    picture = next(photos.rglob("*.jpg")).read_bytes()
    names = [b"\x1b[31mred.jpg", b"[bold]x[red].jpg", b"new\nline.jpg", b"=1+1.jpg", b"\xff.jpg", 'é,".jpg'.encode()]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(picture)

    shown = inception("classify", tmp_path, "-w", stub, "-j", 0)
    listed = inception("classify", tmp_path, "-w", stub, "-j", 0, "-o", "-")

    assert "\x1b[31m" not in shown.out
    assert "\\x1b[31mred.jpg" in shown.out
    assert "[bold]x[red].jpg" in shown.out
    assert "new\\nline.jpg" in shown.out
    paths = {row["path"].removeprefix(f"{tmp_path}/") for row in csv.DictReader(io.StringIO(listed.out, newline=""))}
    assert paths == {"\x1b[31mred.jpg", "[bold]x[red].jpg", "new\nline.jpg", "=1+1.jpg", "\\xff.jpg", 'é,".jpg'}


# info, and help.


def test_info_shows_the_published_figures(inception: Inception) -> None:
    ended = inception("info")

    assert ended.code == 0
    for figure in (
        "23.83",
        "5.75",
        "77.57",
        "93.58",
        "77.294",
        "93.45",
        "78.806",
        "94.372",
        "23,834,568",
        "27,161,264",
    ):
        assert figure in ended.out
    for count in ("5,745,177,632", "5,713,216,096", "11,426,432,192", "5.71 GMACs", "11.43 GFLOPs"):
        assert count in ended.out


def test_info_json_has_every_documented_field(inception: Inception) -> None:
    facts = json.loads(inception("info", "--json").out)

    assert facts["params"] == sum(stage["params"] for stage in facts["stages"])
    assert facts["macs"] == sum(stage["macs"] for stage in facts["stages"])
    assert (facts["params_aux"], facts["flops"]) == (27_161_264, 2 * facts["macs"])
    assert [entry["name"] for entry in facts["weights"]][:2] == ["torchvision", "mmpretrain"]
    assert {"name", "top1", "top5", "preset", "cached", "path"} <= set(facts["weights"][0])
    assert {"device", "precision", "mmpretrain_count"} <= set(facts)


def test_info_of_a_file_shows_its_classes_and_preset(inception: Inception, checkpoint: Path) -> None:
    ended = inception("info", "-w", checkpoint)

    assert ended.code == 0
    assert "1,000 classes: tench" in ended.out
    assert "from -1.0 to 1.0" in ended.out


def test_inception_alone_prints_help(inception: Inception) -> None:
    ended = inception()

    assert ended.code == 2
    assert "classify" in ended.out + ended.err


def test_a_mistyped_command_is_an_error_with_the_nearest_name(inception: Inception) -> None:
    ended = inception("clasify")

    assert ended.code == 2
    assert "classify" in one_line(ended)


def test_an_unexpected_error_is_one_line(
    inception: Inception, photos: Path, stub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DevicePredictor, "predict", lambda *_: 1 / 0)

    ended = inception("classify", photos, "-w", stub, "-o", "-")
    with_traceback = inception("classify", photos, "-w", stub, "-o", "-", "--debug")

    assert ended.code == 1
    assert "ZeroDivisionError" in one_line(ended)
    assert "unexpected error" in one_line(ended)
    assert "Traceback" in with_traceback.err


@pytest.mark.parametrize("command", [("classify", "photos"), ("evaluate", "--val-dir", "photos")])
def test_folders_that_cannot_be_read_are_named_even_when_quiet(
    command: tuple[str, ...],
    inception: Inception,
    photos: Path,
    stub: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos/class 0/private").mkdir(parents=True)
    shutil.copy(photos / "a/00.jpg", "photos/class 0")
    scandir = os.scandir

    def deny(path: Any) -> Any:  # root may read every folder
        if "private" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", deny)
        ended = inception(*command, "-w", stub, "-j", 0, "-q", "-o", "preds.csv")

    assert ended.code == 3
    assert ended.err == "1 folder or pattern could not be read: photos/class 0/private: permission denied\n"


# At a terminal


def test_a_single_photo_in_a_terminal_is_shown_with_bars(
    inception: Inception, photos: Path, stub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("classify", photos / "a/00.jpg", "-w", stub, "-j", 0, "-k", 3)
    piped = inception(*words)
    monkeypatch.setenv("FORCE_COLOR", "1")  # for Rich a terminal
    monkeypatch.setenv("TTY_INTERACTIVE", "0")
    bars = inception(*words)
    folder = inception("classify", photos / "a", "-w", stub, "-j", 0, "-k", 3)

    assert (piped.code, bars.code, folder.code) == (0, 0, 0)
    (line,) = piped.out.splitlines()
    assert "█" not in piped.out
    assert "1 row: 1 ok" in piped.err
    best, *others = bars.out.splitlines()
    assert len(others) == 2
    score, label = line.split()[:2]
    assert score in best
    assert label in best
    assert "█" in best
    assert "rows" not in bars.err
    assert "█" not in folder.out
    assert "8 rows: 8 ok" in folder.err


def test_a_single_file_that_is_no_image_is_shown_with_the_reason(
    inception: Inception, tmp_path: Path, stub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.jpg").write_text("no photo")
    monkeypatch.setenv("FORCE_COLOR", "1")

    ended = inception("classify", tmp_path / "x.jpg", "-w", stub, "-j", 0, "-q")

    assert ended.code == 3
    assert "not an image" in ended.out
