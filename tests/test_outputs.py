"""Output files: never an input of the command, and no file of somebody else's is replaced without --force."""

from pathlib import Path

import pytest
from running import Inception

from inception_cli.cli.outputs import ONNX_MARKER, PER_CLASS_MARKER, REPORT_MARKER, OutputFile, check_outputs
from inception_cli.errors import InceptionError, UsageError


@pytest.mark.parametrize("name", ["rows.csv", "./rows.csv", "../{folder}/rows.csv", "link.csv", "hard.csv"])
def test_an_output_must_not_be_an_input(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = Path("rows.csv")
    rows.write_text("rows")
    Path("link.csv").symlink_to(rows)
    Path("hard.csv").hardlink_to(rows)

    with pytest.raises(UsageError, match=r"--per-class .*: it would overwrite rows\.csv"):
        check_outputs([OutputFile("--per-class", name.format(folder=tmp_path.name))], ["rows.csv"], force=True)


def test_two_outputs_must_not_be_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match=r"--report x.html: it would overwrite \./x.html"):
        check_outputs([OutputFile("--out", "./x.html"), OutputFile("--report", "x.html")], [])


@pytest.mark.parametrize("marker", [REPORT_MARKER, PER_CLASS_MARKER, ONNX_MARKER])
def test_only_our_own_files_are_replaced_without_force(marker: bytes, tmp_path: Path) -> None:
    file = tmp_path / "file"
    outputs = [OutputFile("--report", str(file), marker)]

    check_outputs(outputs, [])
    file.write_bytes(b"first line\n" + marker + b"...")
    check_outputs(outputs, [])
    file.write_bytes(b"my thesis")
    with pytest.raises(InceptionError, match="was not written by inception; --force replaces it"):
        check_outputs(outputs, [])
    check_outputs(outputs, [], force=True)


def test_metrics_are_not_written_into_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    for name, message in (
        ("gone/x.csv", "gone: no such folder; create it, or give another name"),
        ("", "is a folder; name a file in it"),
    ):
        with pytest.raises(InceptionError, match=message):
            check_outputs([OutputFile("--per-class", str(tmp_path / name), PER_CLASS_MARKER)], [])


@pytest.fixture
def rows(inception: Inception, stub: str, photos: Path, tmp_path: Path) -> Path:
    assert inception("classify", photos, "-w", stub, "-j", 0, "-o", tmp_path / "preds.csv").code == 0
    return tmp_path / "preds.csv"


@pytest.mark.parametrize("option", ["--per-class", "--labels"])
def test_evaluate_keeps_the_rows_and_the_labels(option: str, rows: Path, inception: Inception, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\n")
    victim = rows if option == "--per-class" else labels
    before = victim.read_bytes()

    ended = inception("evaluate", "--predictions", rows, "--labels", labels, "--per-class", victim)

    assert (ended.code, victim.read_bytes()) == (2, before)
    assert "it would overwrite" in ended.err


def test_report_replaces_its_own_page_but_no_other(rows: Path, inception: Inception, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<h1>Mine</h1>")

    assert inception("report", rows, "--out", page).code == 1
    assert page.read_text() == "<h1>Mine</h1>"
    assert inception("report", rows, "--out", page, "--force").code == 0
    assert inception("report", rows, "--out", page).code == 0  # its own page
    assert inception("report", page, "--out", page).code == 2


@pytest.mark.usefixtures("stub")
def test_a_report_without_pictures_names_the_folder_in_which_to_write_it(
    inception: Inception, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    inception("classify", "a", "-w", "stub", "-j", 0, "-o", tmp_path / "preds.csv")
    monkeypatch.chdir(tmp_path)

    ended = inception("report", "preds.csv", "-o", "preds.html")

    assert ended.code == 0
    assert f"8 photos could not be read; if their paths are relative, run this command in {photos}\n" in ended.err
