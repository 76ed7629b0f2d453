"""`sort` and `tag` use the labels of decisions, and decide again from saved rows. The labels are worked out by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
from records import new_manifest
from running import Inception
from sorting import make_photo
from test_decisions import PETS, ROWS, rows
from test_tag import keywords

from inception_cli.config import Thresholds
from inception_cli.predictions.formats import csv_header, read_predictions, to_csv
from inception_cli.predictions.prediction import Prediction

#: The photos of `test_decisions.ROWS`, and their labels with --rollup 0.7: the last node of the path from 0.7 on.
PHOTOS = [f"in/{name or 'other'}/{number}.jpg" for number, (name, *_) in enumerate(ROWS)]
ROLLED_UP = ("husky", "dog", "dog", "animal", "unknown", "animal", "tabby")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos, and a file of predictions with its manifest; no photo reaches the min_score of the run, which is 1."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.sync", lambda: None)
    for photo in PHOTOS:
        make_photo(Path(photo))
    new = new_manifest(top_k=1)
    weights = replace(new.run.weights[0], classes=PETS)
    run = replace(new.run, weights=(weights,), thresholds=Thresholds(1))
    Path("rows.csv").write_bytes(csv_header(1, True) + to_csv(rows(), 1, True))
    Path("rows.csv.json").write_bytes(replace(new, run=run, directory=str(tmp_path), counts={"ok": len(ROWS)}).encode())
    return Path("rows.csv")


@pytest.fixture
def plain(file: Path) -> Path:
    """The same rows without decisions, and without a manifest."""
    plain = Path("plain.csv")
    plain.write_bytes(csv_header(1) + to_csv([replace(row, decision=None) for row in read_predictions(file)], 1))
    return plain


def folders(into: str = "out") -> dict[str, str]:
    """Return the folder of each sorted photo by its name."""
    return {photo.name: photo.parent.name for photo in Path(into).rglob("*.jpg")}


def by_name(labels: tuple[str, ...]) -> dict[str, str]:
    return {Path(photo).name: label for photo, label in zip(PHOTOS, labels, strict=True)}


def test_photos_are_sorted_by_the_decisions_of_the_run(file: Path, inception: Inception) -> None:
    assert inception("sort", file, "--into", "out").code == 0

    assert folders() == by_name(("unknown",) * 7)


def test_photos_are_sorted_by_other_thresholds(file: Path, inception: Inception) -> None:
    assert inception("sort", file, "--into", "out", "--rollup", 0.7).code == 0
    planned = inception("sort", file, "--into", "both", "--rollup", 0.7, "--min-score", 0.9, "--dry-run")

    assert folders() == by_name(ROLLED_UP)
    counts = ("1  animal", "1  dog", "1  husky", "1  tabby", "3  unknown")
    assert planned.out.splitlines()[:5] == [f"{count}  (new)" for count in counts]
    assert not Path("both").exists()


def test_rows_without_decisions_are_sorted_with_min_score(plain: Path, inception: Inception) -> None:
    assert inception("sort", plain, "--into", "out", "--min-score", 0.5).code == 0

    assert folders() == by_name(("husky", "husky", "unknown", "tabby", "unknown", "unknown", "tabby"))


def test_rows_without_paths_are_not_rolled_up(plain: Path, inception: Inception) -> None:
    for words in (("sort", plain, "--into", "out"), ("tag", plain)):
        ended = inception(*words, "--rollup", 0.7)
        assert ended.code == 1
        assert "plain.csv: has no column label_path" in ended.err
        assert ended.err.count("\n") == 1
    assert not Path("out").exists()
    assert not [*Path("in").rglob("*.xmp")]


def test_a_sort_is_resumed_with_its_thresholds_alone(file: Path, inception: Inception) -> None:
    command = ("sort", file, "--into", "out", "--rollup", 0.7)
    assert inception(*command).code == 0

    for other in (("sort", file, "--into", "out"), (*command, "--min-score", 0.5)):
        ended = inception(*other)
        assert ended.code == 1
        assert "rows.csv (--copy --rollup 0.7); undo it" in ended.err
    assert inception(*command).code == 0
    assert folders() == by_name(ROLLED_UP)
    assert inception("sort", "--undo", "out").code == 0
    assert not Path("out").exists()


def test_undo_takes_no_threshold(file: Path, inception: Inception) -> None:
    for words in (("sort", "--undo", "out"), ("tag", "--undo", file)):
        ended = inception(*words, "--min-score", 0.5)
        assert ended.code == 2
        assert "--undo takes no" in ended.err


def written_keywords() -> list[tuple[list[str], list[str]]]:
    """Return the flat and the hierarchical keywords of each photo, in the order of PHOTOS."""
    sidecars = [Path(f"{photo}.xmp") for photo in PHOTOS]
    found = [keywords(sidecar) if sidecar.exists() else {} for sidecar in sidecars]
    return [(each.get("dc:subject", []), each.get("lr:hierarchicalSubject", [])) for each in found]


def test_keywords_have_the_nodes_above_them(file: Path, inception: Inception) -> None:
    assert inception("tag", file, "--rollup", 0.7).code == 0

    dog = (["dog"], ["animal|dog"])
    husky, tabby = (["husky"], ["animal|dog|husky"]), (["tabby"], ["animal|cat|tabby"])
    assert written_keywords() == [husky, dog, dog, (["animal"], []), ([], []), (["animal"], []), tabby]
    assert inception("tag", file).code == 0  # with the decisions of the run all are unknown
    assert written_keywords() == [([], [])] * 7


def test_hidden_nodes_of_imagenet_are_no_keywords(inception: Inception, tmp_path: Path) -> None:
    photo = make_photo(tmp_path / "dog.jpg")
    row = Prediction(str(photo), "ok", (250,), ("Siberian husky",), (0.9,))
    file = tmp_path / "rows.csv"
    file.write_bytes(csv_header(1) + to_csv([row], 1))

    assert inception("tag", file, "--min-score", 0.5).code == 0

    (hierarchical,) = keywords(tmp_path / "dog.jpg.xmp")["lr:hierarchicalSubject"]
    assert hierarchical.split("|")[-3:] == ["working dog", "sled dog", "Siberian husky"]
    assert not {"entity", "physical entity", "object", "whole"} & {*hierarchical.split("|")}


def test_a_copy_of_decided_rows_has_their_decisions(file: Path, inception: Inception) -> None:
    Path("labels.csv").write_text("path,label\n" + "".join(f"{photo},husky\n" for photo in PHOTOS))

    assert (
        inception("evaluate", "--predictions", file, "--labels", "labels.csv", "--rows-with-labels", "l.csv", "-q").code
        == 0
    )

    copied = Path("l.csv").read_bytes().splitlines()
    for line, row in zip(copied, file.read_bytes().splitlines(), strict=True):
        assert line.startswith(row + b",")  # the row itself to the byte
    assert [line.split(b",")[-1] for line in copied[1:]] == [b"true"] * 3 + [b"false", b"false", b"false", b"false"]


def test_a_copy_with_labels_is_not_taken_for_predictions(file: Path, inception: Inception) -> None:
    words = ("evaluate", "--predictions", file, "--val-dir", "in")
    assert inception(*words, "--rows-with-labels", "copy.csv").code == 0

    for command in (
        ("sort", "copy.csv", "--into", "out"),
        ("evaluate", "--predictions", "copy.csv", "--val-dir", "in"),
    ):
        ended = inception(*command)
        assert (ended.code, ended.err.count("\n")) == (1, 1)
        assert "copy.csv: is a copy with labels (--rows-with-labels); give the predictions without them" in ended.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("sort", "rows.csv", "--into", "out"),
            "restore the file and, beside it, its manifest (FILE.json), which holds",
        ),
        (("tag", "rows.csv"), "restore the file and, beside it, its manifest (FILE.json), which holds"),
        (("evaluate", "--predictions", "rows.csv", "--val-dir", "in"), "restore rows.csv.json beside it"),
    ],
)
def test_rollup_without_the_manifest_says_what_is_missing(
    file: Path, words: tuple[str, ...], message: str, inception: Inception
) -> None:
    Path("rows.csv.json").unlink()

    ended = inception(*words, "--rollup", 0.7)

    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert message in ended.err
