"""The command, end to end, on drawn pictures: rows, exit codes, one line for whatever goes wrong."""

import csv
import io
import json
import os
import shutil
import signal
import sys
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

from inception_cli import display, session
from inception_cli.results.rows import Prediction, read_csv
from inception_cli.session import Tally

FP32 = ("--precision", "fp32", "--decode", "exact", "--no-exif")  # as a plain torchvision loop


@pytest.fixture(scope="module")
def classified(photos: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a run that nothing disturbed: batches of 7, no workers."""
    out = tmp_path_factory.mktemp("quiet") / "quiet.csv"
    code_of("classify", photos, "-w", checkpoint, "-o", out, "-b", 7, "-j", 0, *FP32)
    return out


def rows(file: Path) -> list[Prediction]:
    return list(read_csv(file))


def assert_same(some: list[Prediction], others: list[Prediction]) -> None:
    """Equal classes, scores within 1e-5."""
    assert [(row.path, row.status, row.classes) for row in some] == [
        (row.path, row.status, row.classes) for row in others
    ]
    np.testing.assert_allclose([row.scores for row in some], [row.scores for row in others], rtol=0, atol=1e-5)


def one_line(ended: Ended) -> str:
    """The line for what went wrong: one, and no traceback."""
    lines = ended.err.strip().splitlines()
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("error: ")
    return lines[0]


def test_one_row_for_each_photo_in_order(classified: Path, photos: Path) -> None:
    expected = sorted(photos.rglob("*.jpg"), key=lambda path: path.relative_to(photos).parts)

    assert [row.path for row in rows(classified)] == [str(path) for path in expected]
    assert len({row.classes[0] for row in rows(classified)}) >= 8  # a third: lively, or no equality could fail


def test_the_same_bytes_at_any_number_of_workers(
    inception: Inception, classified: Path, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    for workers in (1, 2):
        inception("classify", photos, "-w", checkpoint, "-fo", tmp_path / "p.csv", "-b", 7, "-j", workers, *FP32)

        assert (tmp_path / "p.csv").read_bytes() == classified.read_bytes()


def test_the_same_classes_at_any_batch_size(
    inception: Inception, classified: Path, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    for batch in (1, 64):
        inception("classify", photos, "-w", checkpoint, "-fo", tmp_path / "p.csv", "-b", batch, "-j", 0, *FP32)

        assert_same(rows(tmp_path / "p.csv"), rows(classified))


def torchvision_rows(paths: list[str], checkpoint: Path, **wrong: Any) -> list[Prediction]:
    """What people write today: torchvision's model, its weights' own transforms, one picture at a time."""
    network = torchvision.models.inception_v3(weights=None, aux_logits=False, init_weights=False, transform_input=True)
    network.load_state_dict(load_file(checkpoint))
    network.eval()
    transforms = torchvision.models.Inception_V3_Weights.IMAGENET1K_V1.transforms(**wrong)
    found = []
    for path in paths:
        with torch.inference_mode():
            scores = network(transforms(Image.open(path).convert("RGB"))[None]).softmax(1)[0].topk(5)
        classes = tuple(scores.indices.tolist())
        found.append(Prediction(path, "ok", classes, tuple(map(str, classes)), tuple(scores.values.tolist())))
    return found


def test_rows_equal_those_of_a_plain_torchvision_loop(classified: Path, checkpoint: Path) -> None:
    found = rows(classified)

    assert_same(found, torchvision_rows([row.path for row in found], checkpoint))


def test_a_wrong_preset_would_be_seen(classified: Path, checkpoint: Path) -> None:
    found = rows(classified)
    wrong = torchvision_rows([row.path for row in found], checkpoint, resize_size=299)

    assert [row.classes for row in found] != [row.classes for row in wrong]


def test_standard_output_gets_the_same_bytes(
    inception: Inception, classified: Path, photos: Path, checkpoint: Path
) -> None:
    ended = inception("classify", photos, "-w", checkpoint, "-o", "-", "-b", 7, "-j", 0, *FP32)

    assert ended.code == 0
    assert ended.out.encode() == classified.read_bytes()


def test_paths_come_on_standard_input(
    inception: Inception, classified: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = "".join(f"{row.path}\n" for row in rows(classified)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(paths)))

    inception("classify", "-", "-w", checkpoint, "-o", tmp_path / "p.csv", "-b", 7, "-j", 0, *FP32)

    assert (tmp_path / "p.csv").read_bytes() == classified.read_bytes()


def test_without_out_there_is_a_line_for_each_photo(
    inception: Inception, classified: Path, photos: Path, checkpoint: Path
) -> None:
    ended = inception("classify", photos, "-w", checkpoint, "-b", 7, "-j", 0, *FP32)

    lines = ended.out.splitlines()
    assert len(lines) == 24
    first = rows(classified)[0]
    assert lines[0].split("%")[0].strip() == f"{100 * first.scores[0]:.1f}"
    assert first.labels[0] in lines[0]


def test_bf16_runs_and_its_scores_are_near(
    inception: Inception, classified: Path, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    inception("classify", photos, "-w", checkpoint, "-o", tmp_path / "p.csv", *FP32, "--precision", "bf16")

    difference = [
        abs(row.scores[0] - other.scores[0])
        for row, other in zip(rows(tmp_path / "p.csv"), rows(classified), strict=True)
    ]
    assert 0 < np.median(difference) < 0.1


def test_an_ensemble_is_the_mean_of_its_softmaxes(inception: Inception, photos: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    state = lively(num_classes=3).state_dict()
    save_file(state, files[0])
    save_file(state | {"fc.weight": -state["fc.weight"]}, files[1])
    outs = [tmp_path / f"{name}.csv" for name in ("a", "b", "both")]
    for out, words in zip(outs, (["-w", files[0]], ["-w", files[1]], ["-w", files[0], "-w", files[1]]), strict=True):
        assert inception("classify", photos / "a", *words, "-o", out, "-j", 0, *FP32).code == 0

    alone, other, both = ([dict(zip(row.classes, row.scores, strict=True)) for row in rows(out)] for out in outs)

    for one, two, mean in zip(alone, other, both, strict=True):
        assert mean == pytest.approx({index: (one[index] + two[index]) / 2 for index in range(3)}, abs=1e-5)


def test_top_k_is_clamped_to_three_classes(inception: Inception, photos: Path, tmp_path: Path) -> None:
    save_file(lively(num_classes=3).state_dict(), tmp_path / "three.safetensors")

    ended = inception("classify", photos / "a", "-w", tmp_path / "three.safetensors", "-o", "-", "-j", 0)

    assert next(csv.reader(io.StringIO(ended.out)))[-2] == "top3_score"
    assert "top-k is 3" in ended.err


def test_the_manifest_tells_what_was_done(classified: Path, checkpoint: Path) -> None:
    manifest = json.loads(classified.with_name("quiet.csv.json").read_text())

    assert manifest["n"] == 24
    assert manifest["counts"] == {"ok": 24}
    assert manifest["run"]["loading"]["batch_size"] == 7
    assert manifest["run"]["weights"][0]["file"] == str(checkpoint)
    assert len(manifest["run"]["weights"][0]["classes"]["names"]) == 1000
    assert manifest["network"] == {
        "params": 23_834_568,
        "macs": 5_713_216_096,
        "flops": 11_426_432_192,
        "mmpretrain_count": 5_745_177_632,
    }


def test_json_prints_the_manifest(inception: Inception, photos: Path, checkpoint: Path, tmp_path: Path) -> None:
    ended = inception("classify", photos / "a", "-w", checkpoint, "-o", tmp_path / "p.csv", "-j", 0, "--json")

    printed = json.loads(ended.out)
    assert printed["n"] == 8
    assert printed["inputs"] == [str(photos / "a")]


# Bad input: a row with its status, the rest of its batch untouched.


def test_a_bad_file_is_a_row_and_its_neighbours_are_untouched(
    inception: Inception, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(photos / "a", tmp_path / "photos")
    words = ("-w", checkpoint, "-b", 8, "-j", 0, *FP32)
    inception("classify", folder, *words, "-o", tmp_path / "good.csv")
    bad = sorted(folder.iterdir())[1:6]
    for file, content in zip(bad, (b"", b"<html>", bad[2].read_bytes()[:3000], b"\0" * 99), strict=False):
        file.write_bytes(content)
    bad[4].unlink()
    bad[4].symlink_to("nowhere.jpg")

    ended = inception("classify", folder, *words, "-o", tmp_path / "bad.csv")

    good, found = rows(tmp_path / "good.csv"), rows(tmp_path / "bad.csv")
    assert ended.code == 3
    assert [row.status for row in found] == ["ok", "corrupt", "corrupt", "truncated", "corrupt", "missing", "ok", "ok"]
    assert all(row.error and not row.classes for row in found if row.status != "ok")
    assert [found[place] for place in (0, 6, 7)] == [good[place] for place in (0, 6, 7)]
    allowed = inception("classify", folder, *words, "-o", tmp_path / "bad.csv", "-f", "--allow-failures")
    assert allowed.code == 0


def test_a_path_that_is_not_there_is_a_row_beside_one_that_is(
    inception: Inception, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    ended = inception("classify", "none.jpg", photos / "a", "-w", checkpoint, "-o", tmp_path / "p.csv", "-j", 0)

    assert ended.code == 3
    assert (rows(tmp_path / "p.csv")[0].path, rows(tmp_path / "p.csv")[0].status) == ("none.jpg", "missing")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["NOWHERE"], 1, "NOWHERE"),
        (["EMPTY"], 4, "no image"),
        (["TEXTS"], 4, "2 .txt"),
        (["PHOTOS", "-w", "torchvison"], 2, "did you mean torchvision"),
        (["PHOTOS", "-w", "none.pth"], 1, "none.pth: no such file"),
        (["PHOTOS", "-w", "RESNET"], 1, "a ResNet"),
        (["PHOTOS", "-w", "CHECKPOINT", "--preset", "tim"], 2, "did you mean timm"),
        (["PHOTOS", "-w", "CHECKPOINT", "--classes", "TEXTS/a.txt"], 2, "has 1000"),
        (["PHOTOS", "-w", "CHECKPOINT", "--device", "cpuu"], 2, "did you mean cpu"),
        (["PHOTOS", "-w", "CHECKPOINT", "--crops", "7"], 2, "choose from 1, 10, 12, 144"),
        (["PHOTOS", "-w", "CHECKPOINT", "--batch-size", "some"], 2, "neither a number nor auto"),
        (["PHOTOS", "-w", "CHECKPOINT", "--nonsense"], 2, "--nonsense"),
        ([], 2, "INPUT"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_half_written(
    words: list[str], code: int, said: str, inception: Inception, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "texts" / name).write_text("text")
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet.pth")
    places = {
        "PHOTOS": photos,
        "CHECKPOINT": checkpoint,
        "EMPTY": tmp_path / "empty",
        "RESNET": tmp_path / "resnet.pth",
    }
    places["NOWHERE"] = tmp_path / "NOWHERE"
    before = sorted(tmp_path.rglob("*"))

    asked = [str(places.get(word, word)).replace("TEXTS", str(tmp_path / "texts")) for word in words]
    ended = inception("classify", *asked, "-o", tmp_path / "preds.csv")

    assert ended.code == code
    assert said in one_line(ended)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("out", ["none/preds.csv", "folder.csv", "file.csv/preds.csv", "preds.xls"])
def test_an_output_that_cannot_be_written_is_one_line(
    out: str, inception: Inception, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file.csv").touch()
    before = sorted(tmp_path.rglob("*"))

    ended = inception("classify", photos / "a", "-w", checkpoint, "-o", tmp_path / out)

    assert ended.code == (2 if out.endswith("xls") else 1)
    assert out.split("/")[0] in one_line(ended)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_finished_file_is_not_overwritten_without_force(
    inception: Inception, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.csv").write_text("somebody's work")

    ended = inception("classify", photos / "a", "-w", checkpoint, "-o", tmp_path / "p.csv")

    assert ended.code == 1
    assert "--force" in one_line(ended)
    assert (tmp_path / "p.csv").read_text() == "somebody's work"
    assert inception("classify", photos / "a", "-w", checkpoint, "-fo", tmp_path / "p.csv").code == 0
    assert len(rows(tmp_path / "p.csv")) == 8


# Interruption: what is written stays, and the same command goes on.


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when the second batch is done, once."""
    update, seen = display.Bar.update, []

    def interrupt(bar: display.Bar, tally: Tally) -> None:
        update(bar, tally)
        seen.append(tally.done)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(display.Bar, "update", interrupt)


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_run_goes_on_to_the_bytes_of_the_quiet_one(
    workers: int, inception: Inception, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    words = ("classify", photos, "-w", checkpoint, "-b", 5, "-j", workers, *FP32, "-o")

    first = inception(*words, tmp_path / "stopped.csv")
    assert first.code == 130
    assert "the same command goes on" in first.err
    assert not (tmp_path / "stopped.csv").exists()
    second = inception(*words, tmp_path / "stopped.csv")
    inception(*words, tmp_path / "quiet.csv")

    assert second.code == 0
    assert "10 of them by the run that was interrupted" in second.err
    assert (tmp_path / "stopped.csv").read_bytes() == (tmp_path / "quiet.csv").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "quiet.csv",
        "quiet.csv.json",
        "stopped.csv",
        "stopped.csv.json",
    ]


@pytest.mark.usefixtures("interrupted")
def test_a_run_under_other_settings_is_not_resumed(
    inception: Inception, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    words = ("classify", photos, "-w", checkpoint, "-b", 5, "-j", 0, "-o", tmp_path / "p.csv")
    assert inception(*words, "--precision", "fp32").code == 130

    other = inception(*words, "--precision", "bf16")

    assert other.code == 1
    assert "fp32 → bf16" in one_line(other)
    assert "--restart" in one_line(other)
    assert inception(*words, "--precision", "bf16", "--restart").code == 0
    assert len(rows(tmp_path / "p.csv")) == 24


@pytest.mark.usefixtures("interrupted")
def test_photos_that_appeared_since_are_named(
    inception: Inception, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(photos, tmp_path / "photos")
    words = ("classify", folder, "-w", checkpoint, "-b", 5, "-j", 0, "-o", tmp_path / "p.csv")
    inception(*words)
    shutil.copy(folder / "00.jpg" if (folder / "00.jpg").exists() else next(folder.glob("*.jpg")), folder / "new.jpg")

    ended = inception(*words)

    assert f"{folder}/new.jpg" in ended.err
    assert len(rows(tmp_path / "p.csv")) == 24


def test_a_second_ctrl_c_stops_at_once() -> None:
    with session._stop_on_signal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_two_runs_on_one_output_do_not_mix(
    inception: Inception, photos: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock of POSIX belongs to a process: the other run is one."""
    words = ["classify", str(photos / "a"), "-w", str(checkpoint), "-j", "0", "-o", str(tmp_path / "p.csv")]
    codes: list[int] = []

    def start_another(bar: display.Bar, tally: Tally) -> None:
        child = os.fork()
        if not child:
            os._exit(code_of(*words))
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    monkeypatch.setattr(display.Bar, "update", start_another)

    ended = inception(*words)

    assert (ended.code, codes) == (0, [1])
    assert "another run" in ended.err


# Names that a terminal would obey.


def test_hostile_names_are_shown_harmless_and_kept_whole(
    inception: Inception, photos: Path, checkpoint: Path, tmp_path: Path
) -> None:
    picture = next(photos.rglob("*.jpg")).read_bytes()
    names = [b"\x1b[31mred.jpg", b"[bold]x[red].jpg", b"new\nline.jpg", b"=1+1.jpg", b"\xff.jpg", 'é,".jpg'.encode()]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(picture)

    shown = inception("classify", tmp_path, "-w", checkpoint, "-j", 0)
    listed = inception("classify", tmp_path, "-w", checkpoint, "-j", 0, "-o", "-")

    assert "\x1b[31m" not in shown.out
    assert "\\x1b[31mred.jpg" in shown.out
    assert "[bold]x[red].jpg" in shown.out
    assert "new\\nline.jpg" in shown.out
    found = {row["path"].removeprefix(f"{tmp_path}/") for row in csv.DictReader(io.StringIO(listed.out, newline=""))}
    assert found == {"\x1b[31mred.jpg", "[bold]x[red].jpg", "new\nline.jpg", "=1+1.jpg", "\\xff.jpg", 'é,".jpg'}


# info, and help.


def test_info_shows_the_published_page(inception: Inception) -> None:
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


def test_info_json_has_every_field_of_the_contract(inception: Inception) -> None:
    facts = json.loads(inception("info", "--json").out)

    assert facts["params"] == sum(stage["params"] for stage in facts["stages"])
    assert facts["macs"] == sum(stage["macs"] for stage in facts["stages"])
    assert (facts["params_aux"], facts["flops"]) == (27_161_264, 2 * facts["macs"])
    assert [entry["name"] for entry in facts["weights"]][:2] == ["torchvision", "mmpretrain"]
    assert {"name", "top1", "top5", "preset", "cached", "path"} <= set(facts["weights"][0])
    assert {"device", "precision", "mmpretrain_count"} <= set(facts)


def test_info_of_a_file_tells_its_preset_resolved(inception: Inception, checkpoint: Path) -> None:
    ended = inception("info", "-w", checkpoint)

    assert ended.code == 0
    assert "1000 classes: tench" in ended.out
    assert "from -1.0 to 1.0" in ended.out


def test_inception_alone_prints_help(inception: Inception) -> None:
    ended = inception()

    assert ended.code == 2
    assert "classify" in ended.out + ended.err


def test_a_mistyped_command_is_answered_with_the_nearest(inception: Inception) -> None:
    ended = inception("clasify")

    assert ended.code == 2
    assert "classify" in one_line(ended)


def test_an_error_that_nobody_foresaw_is_one_line_too(
    inception: Inception, photos: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inception_cli.predict.classify", lambda *_: 1 / 0)

    ended = inception("classify", photos, "-w", checkpoint, "-o", "-")
    with_traceback = inception("classify", photos, "-w", checkpoint, "-o", "-", "--debug")

    assert ended.code == 1
    assert "ZeroDivisionError" in one_line(ended)
    assert "Traceback" in with_traceback.err


# At a terminal


def test_a_single_photo_is_answered_with_bars(
    inception: Inception, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("classify", photos / "a/00.jpg", "-w", "demo", "-j", 0, "-k", 3)
    piped = inception(*words)
    monkeypatch.setenv("FORCE_COLOR", "1")  # to rich a terminal
    monkeypatch.setenv("TTY_INTERACTIVE", "0")
    answered = inception(*words)
    folder = inception("classify", photos / "a", "-w", "demo", "-j", 0, "-k", 3)

    assert (piped.code, answered.code, folder.code) == (0, 0, 0)
    (line,) = piped.out.splitlines()
    assert "█" not in piped.out
    assert "1 rows: 1 ok" in piped.err
    best, *others = answered.out.splitlines()
    assert len(others) == 2
    score, label = line.split()[:2]
    assert score in best
    assert label in best
    assert "█" in best
    assert "rows" not in answered.err
    assert "█" not in folder.out
    assert "8 rows: 8 ok" in folder.err


def test_a_single_file_that_is_no_photo_says_why(
    inception: Inception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.jpg").write_text("no photo")
    monkeypatch.setenv("FORCE_COLOR", "1")

    ended = inception("classify", tmp_path / "x.jpg", "-w", "demo", "-j", 0, "-q")

    assert ended.code == 3
    assert "not a picture" in ended.out
