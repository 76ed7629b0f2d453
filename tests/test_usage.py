"""Errors in a command line: one line that says the right form to type."""

import errno
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from records import new_manifest
from running import Inception

from inception_cli.cli.console import print_outcome
from inception_cli.errors import plural
from inception_cli.images import heif
from inception_cli.inference.runner import Outcome, RunProgress
from inception_cli.predictions.prediction import header, reason
from inception_cli.storage.store import read_manifest
from inception_cli.training import resolve


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a folder of photos, a photo, a PDF, a file of predictions."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a/1.png", "photos/b/2.png", "photo.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 80)).save(name)
    Path("paper.pdf").write_bytes(b"%PDF-1.7")
    Path("rows.csv").write_text("path,status\n")
    Path("stopped.csv.part").touch()
    return tmp_path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("report photos -o r.html", 1, "first classify it: inception classify photos --out preds.csv"),
        ("report photos", 1, "first classify it: inception classify photos --out preds.csv"),
        ("report photo.png -o r.html", 1, "is an image; first classify it: inception classify photo.png"),
        ("report nowhere -o r.html", 1, "nowhere: no such file; give a file that inception classify --out has written"),
        ("report paper.pdf -o r.html", 1, "paper.pdf: not a file of predictions"),
        ("report rows.csv -o photos", 1, "photos is a folder; name a file in it, such as photos/report.html"),
        ("evaluate --predictions photos", 1, "first classify it: inception classify photos"),
        ("photo.png -w demo", 2, "is not a command; to classify it: inception classify photo.png -w demo"),
        ("photos", 2, "is not a command; to classify it: inception classify photos"),
        ("gone/*.jpg", 2, "to classify it: inception classify 'gone/*.jpg'"),
        ("rows.csv -o r.html", 2, "to view predictions: inception report rows.csv -o r.html"),
        ("evaluate photos", 2, "evaluate takes no argument: inception evaluate --val-dir photos"),
        ("evaluate rows.csv", 2, "inception evaluate --predictions rows.csv"),
        ("info demo", 2, "info takes no argument: inception info --weights demo"),
        ("report rows.csv other.csv", 2, "unexpected argument: other.csv"),
        ("evaluate --val-dir photos --expect-top1 0.9", 2, "it is in percent: did you mean 90?"),
        ("evaluate --val-dir photos --expect-top1 1", 2, "it is in percent: did you mean 100?"),
        ("evaluate --val-dir photos --expect-top1 120", 2, "it is in percent: give a number from 0 to 100"),
        ("evaluate --val-dir photos --expect-top1 nan", 2, "it is in percent: give a number from 0 to 100"),
        ("evaluate --val-dir photos --against gone.csv", 1, "gone.csv: no such file; give a file that inception"),
        ("evaluate --val-dir photos --against photos", 1, "photos is a folder without predictions"),
        ("evaluate --predictions rows.csv -o new.csv", 2, "--out has no effect with --predictions"),
        ("evaluate --predictions rows.csv -w stub", 2, "--weights has no effect with --predictions"),
        ("evaluate --predictions stopped.csv", 1, "stopped.csv: its run was interrupted; the command that began it"),
        ("report stopped.csv -o r.html", 1, "stopped.csv: its run was interrupted; the command that began it"),
        ("report stopped.csv.part -o r.html", 1, "stopped.csv: its run was interrupted; the command that began it"),
        (
            "classify gone*.jpg",
            4,
            "1 folder or pattern cannot be read (gone*.jpg: no match); give image files",
        ),
        ("evaluate --val-dir ", 2, "--val-dir is empty"),
        ("evaluate --val-dir photos --labels ", 2, "--labels is empty"),
        ("train  -o m.safetensors", 2, "DIR is empty"),
        ("train photos -o ", 2, "--out is empty"),
        ("classify ", 2, "INPUT is empty"),
        ("classify photos -w ", 2, "--weights is empty"),
        ("report  -o r.html", 2, "FILE is empty"),
        ("report rows.csv -o ", 2, "--out is empty"),
        ("train photos -o photos", 2, "--out photos: it would overwrite photos, which this command uses"),
        ("train photos -o m.pth", 2, "--out m.pth: give a file that ends in .safetensors, or a folder"),
        ("train photos -o gone/m.safetensors", 1, "gone: not a writable folder"),
        ("train photos -o m.safetensors --size 10", 2, "at least 75 pixels"),
    ],
)
def test_the_error_says_what_to_type(
    words: str, code: int, said: str, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "find_weights", lambda *_, **__: pytest.fail("weights before the check"))

    ended = inception(*words.split(" "))

    assert ended.code == code, ended.err
    assert len(ended.err.splitlines()) == 1
    assert said in ended.err


#: Command lines with a path that cannot be looked at, PATH, and the exit code.
UNREADABLE = [
    ("report PATH.csv -o r.html", 1),
    ("report PATH -o r.html", 1),
    ("report rows.csv -o PATH.html", 1),
    ("evaluate --predictions PATH.csv", 1),
    ("evaluate --predictions PATH.parquet", 1),
    ("evaluate --predictions rows.csv --against PATH.jsonl", 1),
    ("evaluate --predictions rows.csv --confusion PATH.csv", 1),
    ("evaluate --predictions rows.csv --per-class PATH.csv", 1),
    ("evaluate --predictions rows.csv --rows-with-labels PATH.csv", 1),
    ("evaluate --val-dir photos --out PATH.csv", 2),
    ("evaluate --val-dir photos --report PATH.html", 1),
    ("classify photos --out PATH.csv", 2),
    ("classify photos --out p.csv --report PATH.html", 1),
    ("classify photo.png --explain PATH.png", 1),
    ("sort PATH.csv --into out", 1),
    ("sort rows.csv --into PATH", 1),
    ("sort rows.csv --into PATH --dry-run", 1),
    ("sort --undo PATH", 1),
    ("tag PATH.csv", 1),
    ("tag --undo PATH.csv", 1),
    ("export --out PATH.onnx", 1),
    ("train photos --out PATH.safetensors", 1),
    ("train photos --out PATH/", 1),
    ("info -w PATH", 1),
    ("classify photo.png -w PATH.safetensors", 1),
]


@pytest.fixture
def private(here: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of which the system does not tell what is in it, as if its permissions were those of another user."""
    Path("private").mkdir()
    folder, look = f"{Path('private').absolute()}/", os.stat

    def refuse(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if not isinstance(path, int) and os.fsdecode(os.path.abspath(path)).startswith(folder):  # noqa: PTH100
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return look(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", refuse)
    return "private"


@pytest.mark.parametrize(("words", "code"), UNREADABLE)
@pytest.mark.parametrize("reason", ["permission denied", "file name too long"])
def test_a_path_that_cannot_be_looked_at_is_one_line(
    words: str, code: int, reason: str, private: str, inception: Inception
) -> None:
    path = f"{private}/rows" if reason == "permission denied" else 100 * "rows"

    ended = inception(*words.replace("PATH", path).split(" "))

    assert ended.code == code, ended.err
    assert len(ended.err.splitlines()) == 1
    assert "unexpected" not in ended.err
    assert f": {reason}; " in ended.err
    assert path[:40] in ended.err


@pytest.mark.usefixtures("here")
def test_a_long_word_that_is_no_command(inception: Inception) -> None:
    ended = inception("n" * 300)

    assert ended.code == 2
    assert "No such command" in ended.err


def test_an_output_whose_part_file_would_have_too_long_a_name_leaves_nothing(
    here: Path, inception: Inception, stub: str
) -> None:
    ended = inception("classify", "photos", "-w", stub, "-o", "n" * 244 + ".csv")  # .part fits, .part.json does not

    assert ended.code == 1
    assert ended.err.count(": file name too long; ") == 1
    assert not [*here.glob("n*")]


def test_predictions_with_a_name_that_has_no_room_for_a_manifest(tmp_path: Path) -> None:
    file = tmp_path / ("n" * 251 + ".csv")
    file.write_text(",".join(header(1)) + "\n")

    assert read_manifest(file) is None


@pytest.mark.usefixtures("here")
def test_train_names_its_own_option_for_weights(inception: Inception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", "cache")

    ended = inception("train", "photos", "-o", "m.safetensors", "--offline")

    assert ended.code == 1
    assert ended.err.startswith("error: --from: torchvision: not on this machine, and offline is set; ")
    assert ended.err.endswith(", or --from scratch\n")
    assert "--weights" not in ended.err


@pytest.mark.usefixtures("here")
def test_failures_are_grouped_by_reason_with_the_remedy(
    inception: Inception, stub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heif, "is_installed", lambda: False)
    for number in range(3):
        Path(f"photos/{number}.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(20))
    Path("photos/x.jpg").write_text("no image")

    ended = inception("classify", "photos", "-w", stub, "-j", 0)

    assert ended.code == 3
    assert "6 rows: 3 unsupported, 2 ok, 1 corrupt" in ended.err
    assert f"\n3 unsupported: {heif.REMEDY}\n1 corrupt: not an image" in ended.err
    assert "column error" not in ended.err  # there is no file


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("damaged image: bad marker at 17", "damaged image"),
        ("12 × 9000000 pixels, more than max_pixels (500)", "more pixels than max_pixels (500)"),
        (heif.REMEDY, heif.REMEDY),
        ("no such file", "no such file"),
    ],
)
def test_a_reason_has_nothing_that_differs_from_file_to_file(error: str, kind: str) -> None:
    assert reason(error) == kind


@pytest.mark.parametrize(("n", "text"), [(0, "0 rows"), (1, "1 row"), (2000, "2,000 rows")])
def test_a_number_goes_with_its_noun(n: int, text: str) -> None:
    assert plural(n, "row") == text
    assert plural(n, "class", "classes").endswith("class" if n == 1 else "classes")


def test_info_says_that_it_shows_all_weights_by_default(inception: Inception) -> None:
    assert "[default: (all published weights)]" in " ".join(inception("info", "--help").out.split())


def test_other_predictions_are_compared_with_the_list_before_a_run(here: Path, inception: Inception, stub: str) -> None:
    Path("photos/a").rename("photos/class 0")
    (here / "other.csv").write_text(f"{','.join(header(1))}\nelsewhere/a/1.png,ok,0,a,0.5,\n")

    ended = inception("evaluate", "--val-dir", "photos", "-w", stub, "-j", 0, "--against", "other.csv")

    assert ended.code == 1, ended.err
    assert ended.err == (
        "error: against: other.csv has a row for none of these photos; "
        "compare files on the same photos, classified from the same folder\n"
    )


def outcome(interrupted: bool, resumed: int, seconds: float) -> Outcome:
    """Return how a run of ten inputs ended; `resumed` rows are of an earlier process, two without prediction."""
    counts = Counter(ok=5, corrupt=3) if interrupted else Counter(ok=7, corrupt=3)
    progress = RunProgress(10, counts, Counter({("corrupt", "damaged"): 3 - (2 if resumed else 0)}), resumed, seconds)
    return Outcome(new_manifest(), progress, interrupted)


@pytest.mark.parametrize(
    ("ended", "lines"),
    [
        (outcome(True, 0, 4), ["8 of 10 rows: 5 ok, 3 corrupt; 2.0 images/s", "3 corrupt: damaged"]),
        (
            outcome(False, 6, 4),
            [
                "10 rows (6 of them from the interrupted run): 7 ok, 3 corrupt; 1.0 images/s",
                "1 corrupt: damaged",
                "2 without prediction in the interrupted run",
            ],
        ),
        (outcome(False, 10, 0), ["10 rows (10 of them from the interrupted run): 7 ok, 3 corrupt"]),
    ],
)
def test_the_summary_of_a_run_adds_up(ended: Outcome, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    print_outcome(ended, None, "local")

    printed = capsys.readouterr().err.splitlines()
    assert printed[: len(lines)] == lines
