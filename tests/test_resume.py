"""What a resumed run accepts: the same inputs, list, versions and rows, wherever it is started."""

import io
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from inception_cli import machine
from inception_cli.config import Settings
from inception_cli.errors import InceptionError
from inception_cli.inference import runner
from inception_cli.inference.runner import Outcome, RunProgress, run_job
from inception_cli.predictions.formats import read_predictions
from inception_cli.storage.file_store import FileStore
from inception_cli.storage.label_sources import LabelSources
from inception_cli.storage.store import Manifest, read_manifest

SETTINGS = Settings(weights=("stub",), batch_size=4, workers=0, top_k=2)


class Callback:
    """A progress callback that interrupts the run after so many batches; 0: never."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def update(self, progress: RunProgress) -> None:
        self.batches -= 1
        if self.batches == 0:
            os.kill(os.getpid(), signal.SIGINT)

    def preparing(self, description: str) -> None:
        pass

    def downloading(self, name: str, done: int, total: int) -> None:
        raise AssertionError("nothing is downloaded")


def run(inputs: list[str], out: Path, interrupt: int = 0) -> Outcome:
    return run_job(inputs, SETTINGS, FileStore.open(out), Callback(interrupt))


def draw(folder: Path, shift: int) -> None:
    """Draw 12 photos; another shift, other colours under the same names."""
    (folder / "photos").mkdir(parents=True)
    for number in range(12):
        colour = tuple((40 * (number + shift) * factor) % 256 for factor in (1, 3, 7))
        Image.new("RGB", (90, 90), colour).save(folder / "photos" / f"{number:02}.png")


@pytest.fixture
def here(tmp_path: Path, stub: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with photos, and beside it `elsewhere` with other photos of the same names."""
    draw(tmp_path / "here", 0)
    draw(tmp_path / "elsewhere", 3)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_relative_inputs_belong_to_the_directory_of_the_first_run(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(["photos"], tmp_path / "whole.csv")
    assert run(["photos"], tmp_path / "preds.csv", interrupt=1).interrupted
    monkeypatch.chdir(tmp_path / "elsewhere")

    outcome = run(["photos"], tmp_path / "preds.csv")

    assert outcome.progress.resumed == 4
    assert (tmp_path / "preds.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    run(["photos"], tmp_path / "other.csv")
    labels = [[row.labels for row in read_predictions(tmp_path / name)] for name in ("whole.csv", "other.csv")]
    assert labels[0] != labels[1]  # or the photos could have been mixed up unnoticed


def test_a_missing_directory_of_the_first_run_is_an_error(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(["photos"], tmp_path / "preds.csv", interrupt=1)
    monkeypatch.chdir(tmp_path / "elsewhere")
    here.rename(tmp_path / "renamed")

    with pytest.raises(InceptionError, match=f"{here}: .* started in this folder, which is missing"):
        run(["photos"], tmp_path / "preds.csv")


@pytest.mark.parametrize("again", ["nothing", "the same list", "the same list with a BOM"])
def test_a_list_on_standard_input_need_not_be_given_again(
    again: str, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = "".join(f"photos/{number:02}.png\n" for number in range(12)).encode()
    feed(monkeypatch, names)
    run(["-"], tmp_path / "preds.csv", interrupt=1)

    feed(monkeypatch, {"nothing": b"", "the same list": names}.get(again, b"\xef\xbb\xbf" + names))
    outcome = run(["-"], tmp_path / "preds.csv")

    assert (outcome.progress.resumed, outcome.progress.done) == (4, 12)


def test_another_list_on_standard_input_is_refused(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"photos/00.png\nphotos/01.png\nphotos/02.png\nphotos/03.png\nphotos/04.png\n")
    run(["-"], tmp_path / "preds.csv", interrupt=1)

    feed(monkeypatch, b"photos/00.png\nphotos/02.png\n")
    with pytest.raises(InceptionError, match=r"list on standard input: .* → "):
        run(["-"], tmp_path / "preds.csv")


def swap(rows: list[bytes]) -> None:
    rows[1], rows[2] = rows[2], rows[1]


def delete(rows: list[bytes]) -> None:
    del rows[2]


def rename(rows: list[bytes]) -> None:
    rows[3] = rows[3].replace(b"02.png", b"07.png")


@pytest.mark.parametrize("edit", [swap, delete, rename])
def test_edited_rows_are_refused_and_left_alone(
    edit: Callable[[list[bytes]], None], here: Path, tmp_path: Path
) -> None:
    run(["photos"], tmp_path / "preds.csv", interrupt=2)
    part = tmp_path / "preds.csv.part"
    rows = part.read_bytes().splitlines(keepends=True)
    edit(rows)
    part.write_bytes(b"".join(rows))
    before = part.read_bytes()

    with pytest.raises(
        InceptionError, match=r"part was edited: row \d is for photos/\d+\.png, not for photos/\d+\.png"
    ):
        run(["photos"], tmp_path / "preds.csv")

    assert part.read_bytes() == before


@pytest.mark.parametrize(("library", "refused"), [("torch", True), ("pillow", True), ("python", False)])
def test_another_version_of_a_library_is_refused(library: str, refused: bool, here: Path, tmp_path: Path) -> None:
    run(["photos"], tmp_path / "preds.csv", interrupt=1)
    file = tmp_path / "preds.csv.part.json"
    manifest = Manifest.decode(file.read_bytes())
    file.write_bytes(replace(manifest, versions=manifest.versions | {library: "1.2.3"}).encode())

    if refused:
        with pytest.raises(InceptionError, match=rf"versions\.{library}: 1\.2 → "):
            run(["photos"], tmp_path / "preds.csv")
    else:
        assert run(["photos"], tmp_path / "preds.csv").progress.done == 12


def test_a_resumed_evaluation_records_its_own_labels(here: Path, tmp_path: Path) -> None:
    out, (first, second) = tmp_path / "preds.csv", (LabelSources(labels=(f"/{name}.csv",)) for name in "ab")
    run_job(["photos"], SETTINGS, FileStore.open(out), Callback(1), first)

    outcome = run_job(["photos"], SETTINGS, FileStore.open(out), Callback(0), second)

    assert outcome.manifest.labels == second
    manifest = read_manifest(out)
    assert manifest
    assert manifest.labels == second


def test_a_run_that_resumes_an_evaluation_keeps_its_labels(here: Path, tmp_path: Path) -> None:
    out, labels = tmp_path / "preds.csv", LabelSources(labels=("/a.csv",))
    run_job(["photos"], SETTINGS, FileStore.open(out), Callback(1), labels)

    assert run(["photos"], out).manifest.labels == labels


def test_a_patch_version_is_no_difference() -> None:
    assert (
        machine.major_minor({"torch": "2.14.1+cu130"}) == machine.major_minor({"torch": "2.14.0"}) == {"torch": "2.14"}
    )


def test_at_most_five_differences_are_listed() -> None:
    text = runner._listed([f"{number}: a → b" for number in range(400)])

    assert text.count("→") == 5
    assert text.endswith("and 395 more")


def test_reasons_of_the_interrupted_run_are_counted_when_it_is_resumed(here: Path, tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    for number in (1, 2, 11):
        Path(f"photos/{number:02}.png").write_text("no image")
    first = run(["photos"], out, interrupt=1)

    resumed = run(["photos"], out)

    assert first.progress.reasons == {("corrupt", "not an image, or its header is damaged"): 2}
    assert resumed.progress.resumed == 4
    assert resumed.progress.reasons == {("corrupt", "not an image, or its header is damaged"): 3}
    assert resumed.progress.counts == {"ok": 9, "corrupt": 3}
