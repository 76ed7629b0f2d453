"""The examples that README points to run, on the pictures of the repository and the bundled weights."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from running import code_of

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "tests" / "examples"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with the pictures of two classes, and a file that is not an image, in `photos`."""
    monkeypatch.chdir(tmp_path)
    for name in ("apple", "banana"):
        shutil.copytree(ROOT / "sample_images" / name, tmp_path / "photos" / name)
    Path("photos/notes.jpg").write_text("not an image")
    return Path("photos")


def run_python(name: str, *arguments: str) -> None:
    """Run an example in Python in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name))


def run_shell(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an example for the shell, whose `inception` is the code in this repository."""
    command = Path("bin/inception")
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m inception_cli "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {"PATH": f"{command.parent.resolve()}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    line = ["sh", str(EXAMPLES / name), *arguments]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


def test_every_example_is_in_readme() -> None:
    readme = (ROOT / "README.md").read_text()

    assert [file.name for file in EXAMPLES.iterdir() if f"(tests/examples/{file.name})" not in readme] == []


def test_python_api_counts_classes_and_lists_failures(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_python("python_api.py", "photos", "demo")

    failure, counts, *table = capsys.readouterr().out.splitlines()
    assert failure.startswith("corrupt: photos/notes.jpg: ")
    assert counts == "[('apple', 4), ('banana', 4)]"
    assert [line.split()[0] for line in table[1:3]] == ["apple", "banana"]


def test_least_confident_lists_the_smallest_margins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "preds.csv"
    file.write_text(
        "path,status,top1_index,top1_label,top1_score,top2_index,top2_label,top2_score,error\n"
        "a.jpg,ok,0,apple,0.9,1,pear,0.1,\n"
        "b.jpg,ok,0,apple,0.45,1,pear,0.4,\n"
        "c.jpg,corrupt,,,,,,,empty\n"
        "d.jpg,ok,1,NA,0.5,0,None,0.3,\n"
    )

    run_python("least_confident.py", str(file), "2")

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["b.jpg", "apple", "pear"], ["d.jpg", "NA", "None"]]


@pytest.fixture
def arrays(photos: Path) -> None:
    """The predictions, features and scores of the photos, in `preds.csv`, `features.npy` and `scores.npy`."""
    names = ("--out", "preds.csv", "--features", "features.npy", "--scores", "scores.npy")
    assert code_of("classify", "photos", "-w", "demo", "-q", "-j", 0, *names) == 3


@pytest.mark.usefixtures("arrays")
def test_photos_of_one_class_are_nearest_and_in_one_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    run_python(
        "nearest_photos.py", "preds.csv", "features.npy", "photos/apple/apple-1.jpg", "photos/banana/banana-2.jpg", "2"
    )

    nearest = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [Path(photo).parent == Path(other).parent for photo, _, other in nearest] == [True] * 4
    assert [float(similarity) > 0.5 for _, similarity, _ in nearest] == [True] * 4

    run_python("clusters.py", "preds.csv", "features.npy", "2")

    table = pd.read_csv(StringIO(capsys.readouterr().out))
    classes = table.groupby("cluster").path.agg(lambda paths: {Path(path).parent.name for path in paths})
    assert sorted(classes, key=sorted) == [{"apple"}, {"banana"}]


def test_nearest_photos_takes_a_path_in_another_form_and_names_one_without_a_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "./p/a.jpg,ok,NA\n./p/b.jpg,ok,null\n./p/c.jpg,corrupt,\n"
    Path("preds.csv").write_text(f"path,status,top1_label\n{rows}")
    np.save("features.npy", np.array([[1, 0], [3, 4], [np.nan, np.nan]], np.float32))

    run_python("nearest_photos.py", "preds.csv", "features.npy", "p/a.jpg")
    assert capsys.readouterr().out == "p/a.jpg\t0.600\tp/b.jpg\n"

    for photo in ("p/c.jpg", "p/d.jpg"):
        with pytest.raises(SystemExit, match=f"^{photo}: has no row with a prediction in preds.csv"):
            run_python("nearest_photos.py", "preds.csv", "features.npy", photo)

    run_python("clusters.py", "preds.csv", "features.npy", "2")
    assert {line.split(",")[1] for line in capsys.readouterr().out.splitlines()[1:]} == {"NA", "null"}


def test_label_errors_lists_the_photo_in_the_wrong_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cleanlab")
    monkeypatch.chdir(tmp_path)
    names = ("apple", "None", "pear", "plum")  # there is no photo of a plum
    best = [photo % 3 for photo in range(30)]
    scores = np.full((31, 4), 0.05, np.float32)
    scores[range(30), best] = 0.85
    scores[30] = np.nan
    np.save("scores.npy", scores)
    folders = [names[index] for index in best]
    folders[7] = "pear"  # of the class None
    lines = [f"{folder}/{photo}.jpg,ok,{names[best[photo]]},0.85" for photo, folder in enumerate(folders)]
    Path("preds.csv").write_text("\n".join(["path,status,top1_label,top1_score", *lines, "apple/30.jpg,corrupt,,"]))
    manifest = {"run": {"weights": [{"classes": {"names": names}}]}}
    Path("preds.csv.json").write_text(json.dumps(manifest))

    run_python("label_errors.py", "preds.csv", "scores.npy")

    _, *printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in printed] == [["pear/7.jpg", "pear", "None"]]


def test_evaluate_labels_scores_and_reports(photos: Path) -> None:
    paths = sorted(photos.rglob("*/*.jpg"))
    labels = ["melon", *(path.parent.name for path in paths[1:])]  # the first is an apple
    Path("labels.csv").write_text("path,label\n" + "".join(map("{},{}\n".format, paths, labels)))

    ended = run_shell("evaluate_labels.sh", "photos", "labels.csv", "demo")

    assert ended.returncode == 0, ended.stderr
    assert "87.50" in ended.stdout  # seven of eight
    again = run_shell("evaluate_labels.sh", "photos", "labels.csv", "demo")
    assert (again.returncode, again.stdout) == (0, ended.stdout), again.stderr
    assert "preds.csv is scored again; delete it to classify photos again\n" in again.stderr
    assert len(Path("per_class.csv").read_text().splitlines()) == 11
    assert "<html" in Path("report.html").read_text()


def test_nightly_names_the_file_with_the_reasons_of_failures(photos: Path) -> None:
    ended = run_shell("nightly.sh", "photos", ".", "demo")

    (rows,) = Path().glob("*.csv")
    assert ended.returncode == 3, ended.stderr
    assert ended.stderr == f"not everything could be read: for photos see the column error in ./{rows}\n"
    assert len(rows.read_text().splitlines()) == 1 + 9

    again = run_shell("nightly.sh", "photos", ".", "demo")

    assert (again.returncode, again.stdout, again.stderr) == (0, "", f"./{rows} is finished: nothing to do\n")
