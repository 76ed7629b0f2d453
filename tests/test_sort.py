"""`inception sort`: which photo goes where, what is never done, and undo."""

import errno
import fcntl
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mortal import Killed, Mortal
from running import Inception
from sorting import TIME, content, hashes, make_photo, write_rows

from inception_cli.actions import file_steps, places, sort_plan
from inception_cli.actions import sort as actions
from inception_cli.actions.folder_names import folder_name, name_key, numbered
from inception_cli.actions.sort_plan import PLAN, Method, Planner, Tally
from inception_cli.errors import ExitCode
from inception_cli.predictions.decision import Decision
from inception_cli.predictions.formats import convert, read_predictions
from inception_cli.predictions.prediction import Prediction

METHODS: tuple[Method, ...] = ("copy", "link", "move")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, empty; syncing all disks would wait for other programs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "sync", lambda: None)
    return tmp_path


@pytest.fixture
def across(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every folder a file system of its own."""
    for name in ("link", "rename"):
        monkeypatch.setattr(os, name, _within_folders(getattr(os, name)))


def _within_folders(function: Callable[..., None]) -> Callable[..., None]:
    def call(*names: str, src_dir_fd: int, dst_dir_fd: int, **options: Any) -> None:
        if src_dir_fd != dst_dir_fd:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        function(*names, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, **options)

    return call


def plan(labels: dict[str, str], method: Method = "copy") -> tuple[dict[str, str], Tally]:
    """Return the targets by source of a plan into `out`, relative to the working directory, and its counts."""
    rows = write_rows(Path("rows.csv"), labels)
    planner = Planner(Path("out").absolute(), method, Path.cwd())
    steps = list(planner.steps(read_predictions(rows)))
    return {
        str(Path(step.source).relative_to(Path.cwd())): f"{step.folder}/{step.name}" for step in steps
    }, planner.tally


# ── Which photo goes where ───────────────────────────────────────────────────────────────────────────────────────────


def test_photos_are_copied_into_a_folder_per_label(place: Path, inception: Inception) -> None:
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        make_photo(place / "in" / name)
    before = content(place / "in")
    rows = write_rows(
        place / "rows.csv", {"in/1.jpg": "apple", "in/2.jpg": "pear", "in/3.jpg": "apple"}, ["in/bad.jpg"]
    )

    ended = inception("sort", rows, "--into", "out")

    assert ended.code == 0, ended.err
    assert content(place / "in") == before
    after = content(place / "out")
    del after[PLAN]
    assert after == {
        "apple/1.jpg": before["1.jpg"],
        "pear/2.jpg": before["2.jpg"],
        "apple/3.jpg": before["3.jpg"],
    }
    assert "3 files copied into 2 folders of out" in ended.err
    assert "1 row without a prediction: 1 corrupt" in ended.err
    assert ended.out == ""


def test_extended_attributes_are_kept(place: Path, inception: Inception) -> None:
    photo = make_photo(place / "1.jpg")
    try:
        os.setxattr(photo, "user.rating", b"5")
    except OSError as error:
        pytest.skip(f"the file system has none: {error}")

    assert inception("sort", write_rows(place / "rows.csv", {"1.jpg": "apple"}), "--into", "out").code == 0

    assert os.getxattr("out/apple/1.jpg", "user.rating") == b"5"


def test_links_lead_to_the_photos(place: Path, inception: Inception) -> None:
    make_photo(place / "in" / "1.jpg")

    assert inception("sort", write_rows(place / "rows.csv", {"in/1.jpg": "apple"}), "--into", "out", "--link").code == 0

    assert Path("out/apple/1.jpg").readlink() == Path(os.path.realpath(place / "in" / "1.jpg"))


@pytest.mark.parametrize("across_file_systems", [False, True])
def test_moved_photos_leave_their_place(place: Path, across_file_systems: bool, request: pytest.FixtureRequest) -> None:
    if across_file_systems:
        request.getfixturevalue("across")
    make_photo(place / "in" / "1.jpg")
    before = content(place / "in")

    result = actions.sort(write_rows(place / "r.csv", {"in/1.jpg": "apple"}), "r.csv", Path("out"), "move", place)

    assert result.done == 1
    assert content(place / "in") == {}
    assert content(place / "out" / "apple") == before


def test_paths_are_relative_to_the_folder_in_the_manifest(place: Path, inception: Inception) -> None:
    make_photo(place / "in" / "1.jpg")
    (place / "elsewhere").mkdir()
    rows = write_rows(place / "elsewhere" / "rows.csv", {"in/1.jpg": "apple"}, directory=place)
    os.chdir("elsewhere")

    assert inception("sort", rows, "--into", "out").code == 0

    assert Path("out/apple/1.jpg").exists()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", "folder"])
def test_every_format_of_predictions_can_be_sorted(place: Path, suffix: str, inception: Inception) -> None:
    make_photo(place / "in" / "ü\udcff.jpg")
    rows = write_rows(place / "rows.csv", {"in/ü\udcff.jpg": "Äpfel"})
    other = Path("shards/part-0.parquet" if suffix == "folder" else f"rows{suffix}")
    other.parent.mkdir(exist_ok=True)
    with other.open("wb") as stream:
        convert(read_predictions(rows), 1, stream, other.suffix)

    assert inception("sort", "shards" if suffix == "folder" else other, "--into", "out").code == 0

    assert Path("out/Äpfel/ü\udcff.jpg").exists()


def test_the_decision_of_a_row_comes_before_its_best_class(place: Path) -> None:
    make_photo(place / "1.jpg")
    make_photo(place / "2.jpg")
    rows = [Prediction(f"{number}.jpg", "ok", (0,), ("Pembroke",), (0.6,)) for number in (1, 2)]
    decisions = (Decision("dog", 0.9, "rollup"), Decision("unknown", 0.6, "low_score"))
    decided = [replace(row, decision=decision) for row, decision in zip(rows, decisions, strict=True)]
    planner = Planner(place / "out", "copy", place)

    steps = list(planner.steps(decided))

    assert [(step.folder, step.name) for step in steps] == [("dog", "1.jpg"), ("unknown", "2.jpg")]


def test_a_name_that_exists_gets_a_number(place: Path) -> None:
    make_photo(place / "a" / "x.jpg", "a")
    make_photo(place / "b" / "x.jpg", "b")
    make_photo(place / "c" / "X.JPG", "c")  # on macOS, Windows and USB sticks it is the same name
    make_photo(place / "out" / "apple" / "x.jpg", "before")
    make_photo(place / "out" / "apple" / "x (3).jpg", "before")

    targets, tally = plan({"a/x.jpg": "apple", "b/x.jpg": "apple", "c/X.JPG": "apple"})

    assert targets == {
        "a/x.jpg": "apple/x (2).jpg",
        "b/x.jpg": "apple/x (4).jpg",
        "c/X.JPG": "apple/X (5).JPG",
    }
    assert tally.renamed == 3


def test_names_with_composed_and_decomposed_letters_are_one_name(place: Path) -> None:
    make_photo(place / "a" / "\u00fc.jpg", "a")
    make_photo(place / "b" / "u\u0308.jpg", "b")

    targets, _ = plan({"a/\u00fc.jpg": "apple", "b/u\u0308.jpg": "apple"})

    assert targets["b/u\u0308.jpg"] == "apple/u\u0308 (2).jpg"


def test_the_same_photo_is_sorted_once(place: Path, inception: Inception) -> None:
    labels = {}
    for folder, text in {"a": "same", "b": "same", "c": "size", "d": "size", "e": "longer"}.items():
        make_photo(place / folder / "x.jpg", text)
        labels[f"{folder}/x.jpg"] = "apple"

    targets, tally = plan(labels)
    ended = inception("sort", "rows.csv", "--into", "out", "--move")

    assert targets == {"a/x.jpg": "apple/x.jpg", "c/x.jpg": "apple/x (2).jpg", "e/x.jpg": "apple/x (3).jpg"}
    assert tally.same_examples == [(f"{place}/b/x.jpg", f"{place}/a/x.jpg"), (f"{place}/d/x.jpg", f"{place}/c/x.jpg")]
    assert "2 photos left in place, the same as another of that name and class:" in ended.err
    assert f"  {place}/b/x.jpg is {place}/a/x.jpg" in ended.err
    assert sorted(content(place)) == [
        *("b/x.jpg", "d/x.jpg"),
        *(f"out/{name}" for name in (PLAN, "apple/x (2).jpg", "apple/x (3).jpg", "apple/x.jpg")),
        "rows.csv",
    ]


def test_many_photos_of_one_name(place: Path) -> None:
    labels = {f"{number}/x.jpg": "apple" for number in range(300)}
    for path in labels:
        make_photo(place / path, f"{path:>9}")

    targets, _ = plan(labels)

    assert len(set(targets.values())) == 300


def test_a_photo_that_is_given_twice_is_sorted_once(place: Path) -> None:
    make_photo(place / "in" / "x.jpg")
    (place / "other").symlink_to("in")

    targets, tally = plan({"in/x.jpg": "apple", "in/../in/x.jpg": "apple", "other/x.jpg": "pear"})

    assert targets == {"in/x.jpg": "apple/x.jpg"}
    assert tally.twice == 2


def test_a_photo_that_is_in_its_folder_stays_there(place: Path, inception: Inception) -> None:
    make_photo(place / "in" / "apple" / "1.jpg")
    make_photo(place / "in" / "apple" / "2.jpg")
    rows = write_rows(place / "rows.csv", {"in/apple/1.jpg": "apple", "in/apple/2.jpg": "pear"})

    ended = inception("sort", rows, "--into", "in", "--move")

    assert "1 photo already in place" in ended.err
    assert sorted(content(place / "in")) == [PLAN, "apple/1.jpg", "pear/2.jpg"]
    assert inception("sort", "--undo", "in").code == 0
    assert sorted(content(place / "in")) == ["apple/1.jpg", "apple/2.jpg"]


# ── Sidecars ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", METHODS)
def test_sidecars_travel_with_their_photo(place: Path, method: Method) -> None:
    for name in ("1.jpg", "1.xmp", "1.jpg.XMP", "2.jpg", "other.xmp"):
        make_photo(place / "in" / name)
    rows = write_rows(place / "r.csv", {"in/1.jpg": "apple", "in/2.jpg": "apple"})

    actions.sort(rows, "r.csv", Path("out"), method, place)

    assert sorted(content(place / "out")) == [
        PLAN,
        *(f"apple/{name}" for name in ("1.jpg", "1.jpg.XMP", "1.xmp", "2.jpg")),
    ]
    assert sorted(content(place / "in")) == (
        ["other.xmp"] if method == "move" else ["1.jpg", "1.jpg.XMP", "1.xmp", "2.jpg", "other.xmp"]
    )


def test_a_sidecar_of_two_photos_is_copied(place: Path) -> None:
    for name in ("1.jpg", "1.cr2", "1.xmp", "2.jpg", "2.png", "2.xmp", "3.jpg", "3.txt", "3.xmp"):
        make_photo(place / "in" / name)
    rows = write_rows(
        place / "r.csv", {"in/1.jpg": "apple", "in/2.jpg": "apple", "in/2.png": "pear", "in/3.jpg": "apple"}
    )

    actions.sort(rows, "r.csv", Path("out"), "move", place)

    assert sorted(content(place / "in")) == ["1.cr2", "1.xmp", "2.xmp", "3.txt"]
    assert sorted(content(place / "out")) == [
        PLAN,
        *(f"apple/{name}" for name in ("1.jpg", "1.xmp", "2.jpg", "2.xmp", "3.jpg", "3.xmp")),
        *("pear/2.png", "pear/2.xmp"),
    ]


def test_two_photos_in_one_folder_share_their_sidecar_there_as_well(place: Path) -> None:
    for name in ("1.jpg", "1.png", "1.xmp"):
        make_photo(place / "in" / name)

    targets, tally = plan({"in/1.jpg": "apple", "in/1.png": "apple"})

    assert targets == {f"in/{name}": f"apple/{name}" for name in ("1.jpg", "1.png", "1.xmp")}
    assert tally.sidecars == 1


def test_a_sidecar_gets_the_number_of_its_photo_and_never_another_photo(place: Path) -> None:
    for name in ("a/x.jpg", "a/x.xmp", "b/x.png", "c/x.gif", "c/x.gif.xmp", "c/x.xmp", "d/y.jpg", "e/y.png", "e/y.xmp"):
        make_photo(place / name)

    targets, _ = plan(dict.fromkeys(("a/x.jpg", "b/x.png", "c/x.gif", "d/y.jpg", "e/y.png"), "apple"))

    assert targets == {
        "a/x.jpg": "apple/x.jpg",
        "a/x.xmp": "apple/x.xmp",
        "b/x.png": "apple/x (2).png",  # beside x.xmp it would get the metadata of a/x.jpg
        "c/x.gif": "apple/x (3).gif",
        "c/x.gif.xmp": "apple/x (3).gif.xmp",
        "c/x.xmp": "apple/x (3).xmp",
        "d/y.jpg": "apple/y.jpg",
        "e/y.png": "apple/y (2).png",  # y.xmp would become the sidecar of d/y.jpg
        "e/y.xmp": "apple/y (2).xmp",
    }


# ── Names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Granny Smith", "Granny Smith"),
        ("Äpfel 🍎", "Äpfel 🍎"),
        ("A\u0308pfel", "Äpfel"),
        ("a/b", "a_b"),
        ("../../etc", "__.._etc"),
        ("..", "_"),
        (".", "_"),
        (" . ", "_"),
        ("", "_"),
        (".hidden", "_hidden"),
        ("end. ", "end_"),
        ("new\nline\0\x1b[31m", "new_line__[31m"),
        ("\u202egpj", "_gpj"),
        ('<a>:"b"|c?*\\d', "_a___b__c___d"),
        ("\udcff", "_"),
        ("CON", "_CON"),
        ("com1.txt", "_com1.txt"),
        ("lpt²", "_lpt²"),
        ("console", "console"),
        ("ä" * 200, "ä" * 127),
        ("a" + "🍎" * 100, "a" + "🍎" * 63),
        ("a" * 254 + ". b", "a" * 254 + "_"),
    ],
)
def test_a_label_becomes_a_safe_folder_name(label: str, name: str) -> None:
    assert folder_name(label) == name
    assert len(folder_name(label).encode()) <= 255


def test_different_labels_have_different_folders(place: Path) -> None:
    labels = ("a/b", "a_b", "A:B", "Apple", "apple")
    paths = {make_photo(place / f"{number}.jpg").name: label for number, label in enumerate(labels)}

    targets, _ = plan(paths)

    assert list(targets.values()) == ["a_b/0.jpg", "a_b (2)/1.jpg", "A_B (3)/2.jpg", "Apple/3.jpg", "apple (2)/4.jpg"]


def test_numbers_keep_a_name_within_255_bytes() -> None:
    assert numbered("x", ".jpg", 1) == "x.jpg"
    assert numbered("x", ".jpg", 2) == "x (2).jpg"
    assert numbered("a" * 251, ".jpg", 2, room=4) == "a" * 243 + " (2).jpg"
    assert len(numbered("\udcff" * 251, ".jpg", 10).encode(errors="surrogateescape")) == 255
    assert name_key("STRASSE") == name_key("straße")


@pytest.mark.parametrize("stem", ["x", "ü", "1234"])
@pytest.mark.parametrize("letter", ["a", "ü", "🍏"])
def test_photos_with_a_suffix_that_fills_their_name_get_a_number(place: Path, stem: str, letter: str) -> None:
    name = f"{stem}.{letter * ((254 - len(stem.encode())) // len(letter.encode()))}"
    for folder in "abc":
        make_photo(place / folder / name, folder)
        make_photo(place / folder / f"{stem}.xmp", folder)

    targets, _ = plan({f"{folder}/{name}": "apple" for folder in "abc"})

    names = [target.removeprefix("apple/") for target in targets.values()]
    assert names[:2] == [name, f"{stem}.xmp"]
    assert [each[: len(stem) + 6] for each in names[2:]] == [
        f"{stem} ({number}){suffix}" for number in (2, 3) for suffix in (f".{letter}", ".x")
    ]
    assert max(len(f"{each}.xmp".encode()) for each in names[2:]) <= 255
    assert [name.startswith(each[len(stem) + 4 :], len(stem)) for each in names[2::2]] == [True, True]


def test_hostile_names_of_photos_are_kept(place: Path, inception: Inception) -> None:
    names = ["new\nline.jpg", "\udcff\udc80.jpg", "[bold red]x.jpg", " .jpg", "-rf.jpg", "a" * 251 + ".jpg", "con.jpg"]
    for name in names:
        make_photo(place / "in" / name)
    before = content(place / "in")
    rows = write_rows(place / "rows.csv", {f"in/{name}": "apple" for name in names})

    assert inception("sort", rows, "--into", "out", "--move").code == 0
    assert content(place / "out" / "apple") == before
    assert inception("sort", "--undo", "out").code == 0
    assert content(place / "in") == before


# ── What is left as it is ────────────────────────────────────────────────────────────────────────────────────────────


def test_what_cannot_be_sorted_is_left_and_counted(place: Path, inception: Inception) -> None:
    make_photo(place / "1.jpg")
    os.mkfifo("fifo.jpg")
    Path("link.jpg").symlink_to("1.jpg")
    Path("dangling.jpg").symlink_to("nothing")
    names = ["1.jpg", "fifo.jpg", "link.jpg", "dangling.jpg", "gone.jpg", "nul\0.jpg", "s3://bucket/1.jpg"]
    rows = write_rows(place / "rows.csv", dict.fromkeys(names, "apple"))

    ended = inception("sort", rows, "--into", "out", "--move")

    assert ended.code == ExitCode.SOME_FAILED
    assert sorted(content(place / "out")) == [PLAN, "apple/1.jpg"]
    assert "2 photos left in place: it is a symbolic link, which --move leaves in its place" in ended.err
    assert "2 photos left in place: no such file or directory" in ended.err
    assert "1 photo left in place: it is not a regular file" in ended.err
    assert "1 photo left in place: it is in a remote store" in ended.err


def test_the_photo_behind_a_link_is_copied(place: Path, inception: Inception) -> None:
    photo = make_photo(place / "in" / "1.jpg")
    (place / "link.jpg").symlink_to("in/1.jpg")

    assert inception("sort", write_rows(place / "rows.csv", {"link.jpg": "apple"}), "--into", "out").code == 0

    assert content(place / "out" / "apple") == {"link.jpg": content(photo.parent)["1.jpg"]}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "no row has a prediction: there is nothing to sort"),
        (
            {"a.jpg": "x", "b.jpg": "x"},
            "a.jpg: no such file or directory; none of 2 photos can be sorted; run it where",
        ),
    ],
)
def test_nothing_to_sort_is_an_error(place: Path, labels: dict[str, str], message: str, inception: Inception) -> None:
    ended = inception("sort", write_rows(place / "rows.csv", labels, ["c.jpg"]), "--into", "out")

    assert ended.code == ExitCode.ERROR
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not Path("out").exists()


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_written_through_a_link_out_of_the_target(place: Path, method: Method, inception: Inception) -> None:
    make_photo(place / "1.jpg")
    (place / "out").mkdir()
    (place / "elsewhere").mkdir()
    (place / "out" / "apple").symlink_to("../elsewhere")
    rows = write_rows(place / "rows.csv", {"1.jpg": "apple"})

    ended = inception("sort", rows, "--into", "out", f"--{method}")

    assert ended.code == ExitCode.ERROR
    assert "out/apple: is a symbolic link, not a folder; move it away" in ended.err
    assert content(place / "elsewhere") == {}
    assert Path("1.jpg").exists()


@pytest.mark.parametrize("method", METHODS)
def test_a_folder_that_becomes_a_link_during_the_sort_is_not_followed(
    place: Path, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photo(place / "1.jpg")
    (place / "elsewhere").mkdir()
    monkeypatch.setattr(actions, "read_steps", after_planning(lambda: Path("out/apple").symlink_to("../elsewhere")))

    result = actions.sort(write_rows(place / "r.csv", {"1.jpg": "apple"}), "r.csv", Path("out"), method, place)

    assert [reason for _, reason in result.left_files] == ["not a directory"]
    assert content(place / "elsewhere") == {}
    assert Path("1.jpg").exists()


def after_planning(change: Callable[[], object]) -> Callable[[Path], Any]:
    """Return `read_steps` that first makes a change, when the plan is on the disk."""

    def read(file: Path) -> Any:
        change()
        return sort_plan.read_steps(file)

    return read


@pytest.mark.parametrize("method", METHODS)
def test_a_target_that_appears_during_the_sort_is_not_overwritten(
    place: Path, method: Method, monkeypatch: pytest.MonkeyPatch, inception: Inception
) -> None:
    make_photo(place / "1.jpg")
    monkeypatch.setattr(actions, "read_steps", after_planning(lambda: make_photo(Path("out/apple/1.jpg"), "another")))

    ended = inception("sort", write_rows(place / "rows.csv", {"1.jpg": "apple"}), "--into", "out", f"--{method}")

    assert ended.code == ExitCode.SOME_FAILED
    assert f"left as it is: {place}/1.jpg: another file has the name of its target" in ended.err
    assert Path("out/apple/1.jpg").read_text().startswith("another")
    assert Path("1.jpg").exists()
    Path("out/apple/1.jpg").unlink()
    monkeypatch.setattr(actions, "read_steps", sort_plan.read_steps)
    assert inception("sort", "rows.csv", "--into", "out", f"--{method}").code == 0


@pytest.mark.usefixtures("across")
@pytest.mark.parametrize("method", ["copy", "move"])
def test_a_target_that_appears_during_the_copying_is_not_overwritten(
    place: Path, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photo(place / "1.jpg")
    appears_before_the_copy(Path("out/apple/1.jpg"), monkeypatch)

    result = actions.sort(write_rows(place / "r.csv", {"1.jpg": "apple"}), "r.csv", Path("out"), method, place)

    assert result.left_files == [(f"{place}/1.jpg", file_steps.TAKEN if method == "copy" else "file exists")]
    assert Path("out/apple/1.jpg").read_text().startswith("another")
    assert sorted(content(place / "out")) == [PLAN, "apple/1.jpg"]
    assert Path("1.jpg").exists()


def appears_before_the_copy(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let another file get the name of a target after the sort has looked for it, before the file for the copy."""
    create = places.Place.create

    def create_after_another(self: places.Place, mode: int) -> int:
        make_photo(target, "another")
        return create(self, mode)

    monkeypatch.setattr(places.Place, "create", create_after_another)


@pytest.fixture
def fat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a file system without hard links, in which all new files have the same permissions."""

    def link(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def open_(name: str, flags: int, mode: int = 0o777, **options: Any) -> int:
        return real_open(name, flags, 0o755 if mode == file_steps.UNFINISHED else mode, **options)

    real_open = os.open
    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(os, "open", open_)


@pytest.mark.parametrize("method", ["copy", "move"])
def test_a_file_system_without_hard_links_and_permissions(
    library: Path, method: Method, fat: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rows = content(library), library.parent / "rows.csv"

    assert actions.sort(rows, "rows.csv", Path("out"), method, library.parent).done == 10
    assert not actions.undo(Path("out")).incomplete
    assert content(library) == before
    copy = file_steps._copy_bytes
    monkeypatch.setattr(
        file_steps, "_copy_bytes", lambda *files: make_photo(Path("out/apple/1.jpg"), "another") and copy(*files)
    )
    if method == "copy":
        assert actions.sort(rows, "rows.csv", Path("out"), method, library.parent).left == 1
        assert Path("out/apple/1.jpg").read_text().startswith("another")


def test_one_name_seen_through_two_mounts_is_not_two_links(place: Path) -> None:
    make_photo(place / "1.jpg")
    (step,) = Planner(place / "out", "move", place).steps([Prediction("1.jpg", "ok", (0,), ("apple",), (0.5,))])
    folder = os.open(place, os.O_RDONLY)
    first, second = places.Place(folder, "1.jpg"), places.Place(folder, "2.jpg")

    assert not file_steps._are_copies(step, first, first)
    os.link("1.jpg", "2.jpg")
    assert file_steps._are_copies(step, first, second)
    os.close(folder)


@pytest.mark.parametrize("across_file_systems", [False, True])
def test_another_file_with_the_size_and_time_of_a_photo_is_no_copy_of_it(
    place: Path, across_file_systems: bool, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if across_file_systems:
        request.getfixturevalue("across")
    make_photo(place / "1.jpg", "photo")
    monkeypatch.setattr(actions, "read_steps", after_planning(lambda: make_photo(Path("out/apple/1.jpg"), "other")))

    result = actions.sort(write_rows(place / "r.csv", {"1.jpg": "apple"}), "r.csv", Path("out"), "move", place)

    assert result.left_files == [(f"{place}/1.jpg", file_steps.TAKEN)]
    assert Path("1.jpg").read_text().startswith("photo")


@pytest.mark.parametrize(("method", "across_file_systems"), [("copy", False), ("move", False), ("move", True)])
def test_more_folders_than_are_open_at_once(
    place: Path,
    method: Method,
    across_file_systems: bool,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    if across_file_systems:
        request.getfixturevalue("across")
    monkeypatch.setattr(places, "MAX_OPEN", 3)
    labels = {f"in/{number // 10}/{number}.jpg": f"class {number % 11}" for number in range(50)}
    for path in labels:
        make_photo(place / path)
    before, descriptors = content(place / "in"), len([*Path("/dev/fd").iterdir()])
    rows = write_rows(place / "rows.csv", labels)

    assert not actions.sort(rows, "rows.csv", Path("out"), method, place).incomplete
    expected = {f"{label}/{Path(path).name}": before[path.removeprefix("in/")] for path, label in labels.items()}
    after = content(place / "out")
    del after[PLAN]
    assert after == expected
    assert not actions.undo(Path("out")).incomplete
    assert content(place / "in") == before
    assert len([*Path("/dev/fd").iterdir()]) == descriptors


@pytest.mark.parametrize("method", ["copy", "move"])
@pytest.mark.usefixtures("across")
def test_a_photo_that_changes_after_the_planning_is_left(
    place: Path, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = make_photo(place / "1.jpg")
    monkeypatch.setattr(actions, "read_steps", after_planning(lambda: photo.write_text("edited")))

    result = actions.sort(write_rows(place / "r.csv", {"1.jpg": "apple"}), "r.csv", Path("out"), method, place)

    assert result.left_files == [(str(photo), "it has changed since the plan was made")]
    assert photo.read_text() == "edited"
    assert sorted(content(place / "out")) == [PLAN]


def test_an_unreadable_photo_does_not_stop_the_others(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_photo(place / "1.jpg")
    make_photo(place / "2.jpg")
    copy = file_steps._copy_bytes
    fail_once = iter([True])

    def copy_bytes(old: int, new: int, size: int) -> None:
        if next(fail_once, False):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        copy(old, new, size)

    monkeypatch.setattr(file_steps, "_copy_bytes", copy_bytes)
    rows = write_rows(place / "r.csv", {"1.jpg": "apple", "2.jpg": "apple"})

    result = actions.sort(rows, "r.csv", Path("out"), "copy", place)

    assert result.left_files == [(f"{place}/1.jpg", "input/output error")]
    assert sorted(content(place / "out")) == [PLAN, "apple/2.jpg"]


# ── Undo ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def library(place: Path) -> Path:
    """A folder of photos with sidecars, equal names, a sub-folder, different permissions."""
    folder = place / "in"
    for number, name in enumerate(
        ("1.jpg", "1.xmp", "a/1.jpg", "a/2.jpg", "a/2.jpg.xmp", "b/1.JPG", "b/2.jpg", "b/2.png")
    ):
        make_photo(folder / name, name, 0o600 + 0o11 * (number % 5))
    make_photo(folder / "b" / "2.xmp", "shared")
    make_photo(folder / "c" / "1.jpg", "a/1.jpg")  # the same photo as a/1.jpg
    apples, pears = ("1.jpg", "a/1.jpg", "b/1.JPG", "c/1.jpg"), ("a/2.jpg", "b/2.jpg")
    labels = dict.fromkeys(apples, "apple") | dict.fromkeys(pears, "pear") | {"b/2.png": "a/b"}
    write_rows(place / "rows.csv", {f"in/{name}": label for name, label in labels.items()}, ["in/bad.jpg"])
    return folder


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("across_file_systems", [False, True])
@pytest.mark.parametrize("into", ["out", "in", "in/sorted"])
def test_undo_restores_names_bytes_times_and_permissions(
    library: Path, method: Method, across_file_systems: bool, into: str, request: pytest.FixtureRequest
) -> None:
    if across_file_systems:
        request.getfixturevalue("across")
    before = content(library)
    rows = library.parent / "rows.csv"

    result = actions.sort(rows, "rows.csv", library.parent / into, method, library.parent)
    assert not result.incomplete
    assert result.done == 10
    assert content(library) != before or into == "out"
    assert not actions.undo(library.parent / into).incomplete

    assert content(library) == before
    assert sorted(path.name for path in library.parent.iterdir()) == ["in", "rows.csv"]
    assert sorted(path.name for path in library.iterdir()) == ["1.jpg", "1.xmp", "a", "b", "c"]


def test_undo_restores_what_the_target_file_system_cannot_store(
    library: Path, across: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(library)
    utime, chmod = os.utime, os.fchmod
    monkeypatch.setattr(os, "utime", lambda file, ns: utime(file, ns=tuple(each - each % 2_000_000_000 for each in ns)))
    monkeypatch.setattr(os, "fchmod", lambda file, mode: chmod(file, 0o755))
    actions.sort(library.parent / "rows.csv", "rows.csv", Path("out"), "move", library.parent)
    assert Path("out/apple/1.jpg").stat().st_mtime_ns == 1_577_836_800_000_000_000
    monkeypatch.setattr(os, "utime", utime)
    monkeypatch.setattr(os, "fchmod", chmod)

    assert not actions.undo(Path("out")).incomplete

    assert content(library) == before


@pytest.mark.parametrize("method", METHODS)
def test_changed_targets_stay_and_are_listed(library: Path, method: Method, inception: Inception) -> None:
    assert inception("sort", "rows.csv", "--into", "out", f"--{method}").code == 0
    for name in ("apple/1.jpg", "pear/2.jpg"):
        target = Path("out", name)
        target.unlink()
        target.write_text("edited")
    Path("out/apple/new.jpg").write_text("new")

    ended = inception("sort", "--undo", "out")

    assert ended.code == ExitCode.SOME_FAILED
    assert sorted(content(Path("out"))) == [PLAN, "apple/1.jpg", "apple/new.jpg", "pear/2.jpg"]
    listed = [line for line in ended.err.splitlines() if line.startswith("left as it is: ")]
    assert listed == [
        f"left as it is: {library.parent}/out/{name}: it has changed since it was sorted"
        for name in ("apple/1.jpg", "pear/2.jpg")
    ]
    Path("out/apple/1.jpg").unlink()
    Path("out/pear/2.jpg").unlink()
    assert inception("sort", "--undo", "out").code == (ExitCode.SOME_FAILED if method == "move" else 0)


def test_a_target_that_only_got_another_time_is_a_changed_one(library: Path) -> None:
    actions.sort(library.parent / "rows.csv", "rows.csv", Path("out"), "copy", library.parent)
    os.utime("out/apple/1.jpg", ns=(TIME, TIME))

    assert actions.undo(Path("out")).left == 1

    assert Path("out/apple/1.jpg").exists()


def test_the_only_copy_of_a_photo_stays(library: Path) -> None:
    actions.sort(library.parent / "rows.csv", "rows.csv", Path("out"), "copy", library.parent)
    (library / "1.jpg").unlink()

    result = actions.undo(Path("out"))

    assert result.left_files == [(f"{library.parent}/out/apple/1.jpg", file_steps.ONLY_COPY)]
    assert Path("out/apple/1.jpg").exists()


def empty(photo: Path, copy: Path) -> None:
    os.truncate(photo, 0)


def edit(photo: Path, copy: Path) -> None:
    photo.write_bytes(copy.read_bytes()[::-1])


def link_to_the_copy(photo: Path, copy: Path) -> None:
    photo.unlink()
    photo.symlink_to(copy.resolve())


def link_to_the_folder(photo: Path, copy: Path) -> None:
    shutil.rmtree(photo.parent)
    photo.parent.symlink_to(copy.parent.resolve())


def link_to_the_folder_of_a_file_with_another_name(photo: Path, copy: Path) -> None:
    link_to_the_folder(photo, copy)
    Path("backup.jpg").hardlink_to(copy)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (empty, file_steps.ONLY_VERSION),
        (edit, file_steps.ONLY_VERSION),
        (link_to_the_copy, file_steps.ONLY_FILE),
        (link_to_the_folder, file_steps.ONLY_FILE),
        (link_to_the_folder_of_a_file_with_another_name, file_steps.ONLY_FILE),
    ],
)
@pytest.mark.parametrize("through_link", [False, True])
def test_a_copy_stays_unless_its_original_is_as_it_was(
    place: Path, change: Callable[[Path, Path], None], reason: str, through_link: bool
) -> None:
    photo, copy = make_photo(place / "in" / "1.jpg"), place / "out" / "apple" / "1.jpg"
    if through_link:
        (place / "links").mkdir()
        (place / "links" / "1.jpg").symlink_to("../in/1.jpg")
    rows = write_rows(place / "rows.csv", {"links/1.jpg" if through_link else "in/1.jpg": "apple"})
    actions.sort(rows, "rows.csv", Path("out"), "copy", place)
    before = content(place / "out" / "apple")

    change(photo, copy)
    result = actions.undo(Path("out"))

    assert [left for _, left in result.left_files] == [reason]
    assert content(place / "out" / "apple") == before
    assert (place / "out" / PLAN).exists()


def touch(photo: Path, copy: Path) -> None:
    os.utime(photo, ns=(TIME, TIME))


def share_one_file(photo: Path, copy: Path) -> None:
    photo.unlink()
    photo.hardlink_to(copy)


@pytest.mark.parametrize("change", [touch, share_one_file])
def test_a_copy_is_removed_where_its_original_has_the_same_bytes(
    place: Path, change: Callable[[Path, Path], None]
) -> None:
    photo = make_photo(place / "in" / "1.jpg")
    data = photo.read_bytes()
    actions.sort(write_rows(place / "rows.csv", {"in/1.jpg": "apple"}), "rows.csv", Path("out"), "copy", place)

    change(photo, place / "out" / "apple" / "1.jpg")

    assert not actions.undo(Path("out")).incomplete
    assert not Path("out").exists()
    assert photo.read_bytes() == data


def test_an_unfinished_copy_stays_when_its_photo_has_changed(place: Path) -> None:
    photo, copy = make_photo(place / "in" / "1.jpg"), place / "out" / "apple" / "1.jpg"
    rows, data = write_rows(place / "rows.csv", {"in/1.jpg": "apple"}), photo.read_bytes()
    actions.sort(rows, "rows.csv", Path("out"), "copy", place)
    copy.chmod(file_steps.UNFINISHED)
    os.truncate(photo, 0)

    again = actions.sort(rows, "rows.csv", Path("out"), "copy", place)

    assert again.left_files == [(str(photo), file_steps.CHANGED_SOURCE)]
    assert [left for _, left in actions.undo(Path("out")).left_files] == [file_steps.ONLY_VERSION]
    copy.chmod(0o600)
    assert copy.read_bytes() == data


def test_a_moved_photo_stays_where_a_link_leads_back_to_it(place: Path) -> None:
    """Both names are one: removing that of the target folder would remove the photo."""
    photo = make_photo(place / "in" / "apple" / "1.jpg")
    actions.sort(write_rows(place / "rows.csv", {"in/apple/1.jpg": "apple"}), "rows.csv", Path("out"), "move", place)
    shutil.rmtree(place / "in")
    (place / "in").symlink_to("out")
    Path("backup.jpg").hardlink_to(photo)

    assert actions.undo(Path("out")).left_files == [(f"{place}/out/apple/1.jpg", file_steps.PLACE_TAKEN)]

    assert photo.exists()


def test_an_undo_ends_without_moved_photos_that_are_gone(library: Path, inception: Inception) -> None:
    before = content(library)
    assert inception("sort", "rows.csv", "--into", "out", "--move").code == 0
    Path("out/apple/1.jpg").rename("elsewhere.jpg")
    gone = f"gone: {library.parent}/out/apple/1.jpg, which came from {library}/1.jpg"

    first = inception("sort", "--undo", "out")
    again = inception("sort", "--undo", "out")

    assert (first.code, again.code) == (ExitCode.SOME_FAILED, ExitCode.SOME_FAILED)
    assert first.err.splitlines() == [
        "9 files of out moved back",
        gone,
        "move what is gone back there and undo again; if it is deleted, the next undo ends without it",
    ]
    assert again.err.splitlines() == [
        "no file of out moved back",
        gone,
        "nothing is left to undo, except 1 file that is gone",
    ]
    assert {**content(library), "1.jpg": before["1.jpg"]} == before
    assert not Path("out").exists()
    assert inception("sort", "--undo", "out").code == ExitCode.ERROR


def test_moved_photos_that_are_brought_back_can_be_undone(library: Path) -> None:
    before = content(library)
    actions.sort(library.parent / "rows.csv", "rows.csv", Path("out"), "move", library.parent)
    Path("out/apple").rename("elsewhere")

    assert actions.undo(Path("out")).gone == 4
    Path("elsewhere").rename("out/apple")
    assert not actions.undo(Path("out")).incomplete

    assert content(library) == before


def test_an_undo_that_finds_no_photo_at_all_keeps_the_plan(library: Path, inception: Inception) -> None:
    assert inception("sort", "rows.csv", "--into", "out", "--move").code == 0
    for photo in Path("out").glob("*/*"):
        photo.unlink()

    for _ in range(2):
        ended = inception("sort", "--undo", "out")
        assert ended.code == ExitCode.ERROR
        assert "out/apple/1.jpg: is gone, like all moved files (8); move them back there and undo again" in ended.err
        assert f"or delete {PLAN} in out" in ended.err
        assert ended.err.count("\n") == 1
        assert Path("out", PLAN).exists()


def test_messages_count_what_was_sorted(place: Path, monkeypatch: pytest.MonkeyPatch, inception: Inception) -> None:
    photos = {name: make_photo(place / name) for name in ("1.jpg", "2.jpg")}
    rows = write_rows(place / "rows.csv", dict(zip(photos, ("apple", "pear"), strict=True)))
    monkeypatch.setattr(actions, "read_steps", after_planning(lambda: photos["1.jpg"].write_text("edited")))

    assert "1 file moved into 1 folder of out" in inception("sort", rows, "--into", "out", "--move").err
    monkeypatch.setattr(actions, "read_steps", after_planning(lambda: photos["2.jpg"].write_text("edited")))
    assert inception("sort", "--undo", "out").code == 3
    ended = inception("sort", write_rows(place / "r.csv", {"2.jpg": "pear"}), "--into", "other", "--move")
    assert "no file moved into other" in ended.err


@pytest.mark.parametrize("across_file_systems", [False, True])
def test_a_moved_photo_replaces_no_file_that_has_its_name_now(
    library: Path, across_file_systems: bool, request: pytest.FixtureRequest
) -> None:
    if across_file_systems:
        request.getfixturevalue("across")
    rows = library.parent / "rows.csv"
    actions.sort(rows, "rows.csv", Path("out"), "move", library.parent)
    (library / "1.jpg").write_text("another")

    assert actions.sort(rows, "rows.csv", Path("out"), "move", library.parent).found == 10
    assert actions.undo(Path("out")).left_files == [(f"{library.parent}/out/apple/1.jpg", file_steps.PLACE_TAKEN)]

    assert (library / "1.jpg").read_text() == "another"
    assert Path("out/apple/1.jpg").exists()


def test_moved_photos_return_into_folders_that_were_deleted(library: Path) -> None:
    before = content(library / "a")
    actions.sort(library.parent / "rows.csv", "rows.csv", Path("out"), "move", library.parent)
    (library / "a").rmdir()

    assert not actions.undo(Path("out")).incomplete

    assert content(library / "a") == before


def test_a_moved_photo_that_was_edited_counts_as_moved(library: Path) -> None:
    rows = library.parent / "rows.csv"
    actions.sort(rows, "rows.csv", Path("out"), "move", library.parent)
    with Path("out/apple/1.jpg").open("ab") as file:
        file.write(b"edited")

    result = actions.sort(rows, "rows.csv", Path("out"), "move", library.parent)

    assert (result.found, result.left) == (10, 0)


def test_a_copy_that_a_power_cut_has_torn_is_made_again(library: Path) -> None:
    rows = library.parent / "rows.csv"
    actions.sort(rows, "rows.csv", Path("out"), "copy", library.parent)
    whole = content(Path("out"))
    for name, size in {"apple/1.jpg": 0, "pear/2.jpg": 1000}.items():
        mtime = Path("out", name).stat().st_mtime_ns
        os.truncate(f"out/{name}", size)
        os.utime(f"out/{name}", ns=(mtime, mtime))

    assert actions.sort(rows, "rows.csv", Path("out"), "copy", library.parent).done == 2

    assert content(Path("out")) == whole


@pytest.mark.parametrize("size", [0, 1000, None])
def test_a_copy_that_a_kill_left_unfinished_is_made_again_or_removed(library: Path, size: int | None) -> None:
    rows, target = library.parent / "rows.csv", Path("out/apple/1.jpg")
    actions.sort(rows, "rows.csv", Path("out"), "copy", library.parent)
    whole = content(Path("out"))

    for again in (True, False):
        os.truncate(target, target.stat().st_size if size is None else size)
        target.chmod(file_steps.UNFINISHED)
        if again:
            assert actions.sort(rows, "rows.csv", Path("out"), "copy", library.parent).done == 1
            assert content(Path("out")) == whole
        else:
            assert not actions.undo(Path("out")).incomplete
            assert not target.exists()


@pytest.mark.parametrize("method", ["copy", "move"])
def test_a_photo_with_the_permissions_of_an_unfinished_copy(place: Path, method: Method) -> None:
    make_photo(place / "in" / "1.jpg", mode=file_steps.UNFINISHED)
    if not os.access("in/1.jpg", os.R_OK):
        pytest.skip("only root can read it")
    rows, before = write_rows(place / "rows.csv", {"in/1.jpg": "apple"}), content(place / "in")

    for found in (0, 1):
        assert actions.sort(rows, "rows.csv", Path("out"), method, place).found == found
        assert content(place / "out" / "apple") == before
    assert not actions.undo(Path("out")).incomplete
    assert content(place / "in") == before


# ── Kills, full disks, locks ─────────────────────────────────────────────────────────────────────────────────────────

#: How to sort, and the file systems: `across`, every folder is one of its own; `fat`, without links and permissions.
KILLED = [("copy", ""), ("copy", "fat"), ("link", ""), ("move", ""), ("move", "across")]


def kill(action: Callable[[], object], moment: int | None) -> tuple[bool, int]:
    """Do something that dies before a change of the disk; return whether it did, and the number of changes."""
    with pytest.MonkeyPatch.context() as patch:
        mortal = Mortal(patch, moment)
        try:
            action()
        except Killed:
            return True, mortal.changes
    return False, mortal.changes


def kill_sorts(library: Path, method: Method, moments: int) -> None:
    """Kill so many sorts, continue them or undo them, with a killed undo between; nothing is ever lost."""
    place, rng = library.parent, random.Random(0)
    rows, out = place / "rows.csv", place / "out"
    before, contents = content(library), hashes(library)

    def sort() -> None:
        assert not actions.sort(rows, "rows.csv", out, method, place).incomplete

    def undo() -> None:
        assert not actions.undo(out).incomplete

    def sorted_content() -> dict[str, tuple[object, ...]]:
        return {name: each for name, each in content(place).items() if name != f"out/{PLAN}"}

    _, changes = kill(sort, None)
    after = sorted_content()
    _, undo_changes = kill(undo, None)
    for _ in range(moments):
        died, _ = kill(sort, rng.randint(1, changes))
        assert died
        assert hashes(place) >= contents
        if rng.random() < 0.5:
            sort()
            assert sorted_content() == after
        if out.exists() and (out / PLAN).exists():
            kill(undo, rng.randint(1, undo_changes))
            assert hashes(place) >= contents
        if (out / PLAN).exists() and rng.random() < 0.3:
            sort()
            assert sorted_content() == after
        if (out / PLAN).exists():
            undo()
        assert content(library) == before
        for file in out.glob(".*"):  # killed before there was a plan, or after the undo
            assert file.name == actions.LOCK or file.suffix == ".tmp"
            file.unlink()
        if out.exists():
            out.rmdir()  # it is empty


@pytest.mark.parametrize(("method", "file_system"), KILLED)
def test_a_sort_that_is_killed_continues_and_can_be_undone(
    library: Path, method: Method, file_system: str, request: pytest.FixtureRequest, short_copies: None
) -> None:
    if file_system:
        request.getfixturevalue(file_system)
    kill_sorts(library, method, 10)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "file_system"), KILLED)
def test_a_sort_that_is_killed_at_a_hundred_moments(
    library: Path, method: Method, file_system: str, request: pytest.FixtureRequest, short_copies: None
) -> None:
    if file_system:
        request.getfixturevalue(file_system)
    kill_sorts(library, method, 100)


@pytest.fixture
def short_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy 500 bytes at once, sync after three steps, and keep a single folder open."""
    copy = os.copy_file_range
    monkeypatch.setattr(os, "copy_file_range", lambda old, new, count: copy(old, new, 500))
    monkeypatch.setattr(actions, "STEPS_PER_SYNC", 3)
    monkeypatch.setattr(places, "MAX_OPEN", 1)


@pytest.mark.parametrize(("method", "across_file_systems"), [("copy", False), ("move", True)])
def test_a_full_disk_is_one_line_and_the_same_command_continues(
    library: Path,
    method: Method,
    across_file_systems: bool,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    inception: Inception,
) -> None:
    if across_file_systems:
        request.getfixturevalue("across")
    before, copies = content(library), iter(range(100))

    def full(old: int, new: int, count: int) -> int:
        if next(copies) >= 5:
            os.write(new, b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return copy(old, new, count)

    copy = os.copy_file_range
    monkeypatch.setattr(os, "copy_file_range", full)
    ended = inception("sort", "rows.csv", "--into", "out", f"--{method}")
    assert ended.code == ExitCode.ERROR
    assert "no space left on device; free some disk space and run the same command again" in ended.err
    assert ended.err.count("\n") == 1
    assert all(name.lower().endswith((PLAN, ".jpg", ".xmp")) for name in content(Path("out")))
    assert all(file.stat().st_mode & 0o777 != file_steps.UNFINISHED for file in Path("out").rglob("*.*"))

    monkeypatch.setattr(os, "copy_file_range", copy)
    assert inception("sort", "rows.csv", "--into", "out", f"--{method}").code == 0
    assert len(content(Path("out"))) == 11
    assert inception("sort", "--undo", "out").code == 0
    assert content(library) == before


def test_the_original_goes_only_after_the_synced_copy(
    library: Path, across: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "STEPS_PER_SYNC", 4)
    events: list[str] = []

    def recorded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if name != "unlink" or not str(arguments[0]).endswith((".part", ".lock", ".tmp")):
                events.append(name)
            return function(*arguments, **options)

        return call

    for name in ("copy_file_range", "sync", "fsync", "unlink"):
        monkeypatch.setattr(os, name, recorded(name, getattr(os, name)))

    actions.sort(library.parent / "rows.csv", "rows.csv", Path("out"), "move", library.parent)

    for number, event in enumerate(events):
        if event == "unlink":  # a sync began after the copy, and the copy itself was flushed
            assert "sync" in events[events.index("copy_file_range") : number]
            assert events[number - 2 : number] == ["fsync", "fsync"]
    assert events.count("sync") == 4  # three batches and the end
    assert events.count("unlink") == 8  # the sidecar of two photos, copied twice, stays


def test_what_a_killed_planning_left_is_removed(library: Path, inception: Inception) -> None:
    Path("out").mkdir()
    for words, code in ((("--undo", "out"), ExitCode.ERROR), (("rows.csv", "--into", "out"), ExitCode.OK)):
        left = Path("out", f".{PLAN}.0123abcd.tmp")
        left.write_text("half a plan")
        Path("out", actions.LOCK).touch()
        assert inception("sort", *words).code == code
        assert not left.exists()
        assert not Path("out", actions.LOCK).exists()


def test_a_second_sort_into_the_same_folder_waits_or_is_refused(
    library: Path, monkeypatch: pytest.MonkeyPatch, inception: Inception
) -> None:
    def locked(*_: object) -> None:
        raise BlockingIOError

    monkeypatch.setattr(fcntl, "lockf", locked)
    Path("out").mkdir()

    for words in (("rows.csv", "--into", "out"), ("--undo", "out")):
        ended = inception("sort", *words)
        assert ended.code == ExitCode.ERROR
        assert f"{actions.LOCK}: another run is writing it; wait until it ends, or choose another folder" in ended.err
    assert sorted(content(Path("out"))) == [actions.LOCK]


def test_a_folder_with_another_sort_is_refused(library: Path, inception: Inception) -> None:
    assert inception("sort", "rows.csv", "--into", "out").code == 0
    write_rows(Path("other.csv"), {"in/1.jpg": "pear"})

    for words in (("other.csv",), ("rows.csv", "--move"), ("other.csv", "--dry-run")):
        ended = inception("sort", *words, "--into", "out")
        assert ended.code == ExitCode.ERROR
        assert "holds a sort of rows.csv (--copy); undo it (inception sort --undo" in ended.err
    assert inception("sort", "rows.csv", "--into", "out").code == 0


def test_an_interrupted_sort_says_that_the_same_command_resumes(
    library: Path, monkeypatch: pytest.MonkeyPatch, inception: Inception
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(file_steps, "_copy_bytes", interrupt)

    ended = inception("sort", "rows.csv", "--into", "out")

    assert ended.code == ExitCode.INTERRUPTED
    assert ended.err == "interrupted; the same command resumes the run\n"
    assert sorted(content(Path("out"))) == [PLAN]


# ── The plan ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_dry_run_prints_the_plan_and_changes_nothing(library: Path, inception: Inception) -> None:
    before = content(library.parent)

    ended = inception("sort", "rows.csv", "--into", "out", "--dry-run")

    assert ended.code == 0
    assert content(library.parent) == before
    assert not Path("out").exists()
    lines = ended.out.splitlines()
    assert lines[:3] == ["1  a_b  (new)", "3  apple  (new)", "2  pear  (new)"]
    assert lines[3] == f"copy 10 files, 4 XMP sidecars of them into 3 folders of {library.parent}/out"
    size = sum(file.stat().st_size for file in library.rglob("*") if file.is_file() and file.parent.name != "c")
    size += (library / "b" / "2.xmp").stat().st_size  # in two folders
    assert lines[4].startswith(f"needs {size / 1e6:,.1f} MB; ")
    assert lines[5] == "1 row without a prediction: 1 corrupt"
    assert f"  {library}/a/1.jpg → apple/1 (2).jpg" in lines
    assert f"  {library}/c/1.jpg is {library}/a/1.jpg" in lines
    assert ended.err == ""


def test_a_dry_run_of_a_killed_sort_shows_its_plan(library: Path, inception: Inception) -> None:
    planned = inception("sort", "rows.csv", "--into", "out", "--move", "--dry-run").out
    assert inception("sort", "rows.csv", "--into", "out", "--move").code == 0

    again = inception("sort", "rows.csv", "--into", "out", "--move", "--dry-run").out

    assert [line for line in again.splitlines() if "free" not in line] == [
        line for line in planned.splitlines() if "free" not in line
    ]


def test_links_and_renamings_need_no_space(library: Path) -> None:
    rows = library.parent / "rows.csv"

    assert actions.dry_run(rows, Path("out"), "link", library.parent).tally.bytes == 0
    shared = (library / "b" / "2.xmp").stat().st_size
    assert actions.dry_run(rows, Path("out"), "move", library.parent).tally.bytes == 2 * shared


def test_the_plan_has_everything_that_identifies_a_file(library: Path, inception: Inception) -> None:
    assert inception("sort", "rows.csv", "--into", "out").code == 0
    status = (library / "1.jpg").stat()

    step = json.loads(Path("out", PLAN).read_text().splitlines()[1])

    assert step == [
        *("copy", str(library / "1.jpg"), "apple", "1.jpg"),
        *(status.st_size, status.st_mtime_ns, status.st_ino, 0o600),
    ]


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        (2, "..", "'..' is no name of a file or folder"),
        (2, "a/b", "'a/b' is no name of a file or folder"),
        (3, "../1.jpg", "'../1.jpg' is no name of a file or folder"),
        (3, "nul\0", "is no name of a file or folder"),
        (1, "in/1.jpg", "the source in/1.jpg is no absolute path"),
        (0, "delete", "it is no step of a sort"),
        (4, "12", "it is no step of a sort"),
        (1, None, "has no attribute"),
    ],
)
def test_a_damaged_plan_is_refused(
    library: Path, field: int, value: object, problem: str, inception: Inception
) -> None:
    assert inception("sort", "rows.csv", "--into", "out", "--move").code == 0
    lines = Path("out", PLAN).read_text().splitlines()
    step = json.loads(lines[1])
    step[field] = value
    lines[1] = json.dumps(step)
    Path("out", PLAN).write_text("\n".join(lines) + "\n")
    before = content(library.parent)

    ended = inception("sort", "--undo", "out")

    assert ended.code == ExitCode.ERROR
    assert f"{PLAN}, line 2: damaged (" in ended.err
    assert problem in ended.err
    assert content(library.parent) == before


@pytest.mark.parametrize("text", ["", "[]\n", "{}\n", "not JSON\n", "[" * 100_000 + "\n"])
def test_a_file_that_is_no_plan_is_refused(library: Path, text: str, inception: Inception) -> None:
    Path("out").mkdir()
    Path("out", PLAN).write_text(text)

    for words in (("--undo", "out"), ("rows.csv", "--into", "out"), ("rows.csv", "--into", "out", "--dry-run")):
        ended = inception("sort", *words)
        assert ended.code == ExitCode.ERROR
        assert f"{PLAN}: damaged (" in ended.err
        assert ended.err.count("\n") == 1


def test_the_plan_of_another_folder_is_refused(library: Path, inception: Inception) -> None:
    assert inception("sort", "rows.csv", "--into", "out", "--move").code == 0
    Path("other").mkdir()
    Path("other", PLAN).write_bytes(Path("out", PLAN).read_bytes())

    ended = inception("sort", "--undo", "other")

    assert ended.code == ExitCode.ERROR
    assert f"is of the folder {library.parent}/out" in ended.err
    Path("out").rename("renamed")
    assert inception("sort", "--undo", "renamed").code == 0


def test_a_plan_removes_nothing_outside_its_folder(library: Path, inception: Inception) -> None:
    assert inception("sort", "rows.csv", "--into", "out").code == 0
    Path("empty").mkdir()
    header, *steps, tally = Path("out", PLAN).read_text().splitlines()
    hostile = json.loads(tally) | {"new_folders": ["../empty", "nul\0", "apple"]}
    Path("out", PLAN).write_text("\n".join([header, *steps, json.dumps(hostile), ""]))

    assert inception("sort", "--undo", "out").code == 0

    assert Path("empty").is_dir()
    header = json.dumps(json.loads(header) | {"id": "/../../x"})
    Path("out", PLAN).write_text("\n".join([header, *steps, tally, ""]))
    assert "damaged (id is '/../../x')" in inception("sort", "--undo", "out").err


def test_a_plan_of_a_newer_version_is_refused(library: Path, inception: Inception) -> None:
    assert inception("sort", "rows.csv", "--into", "out").code == 0
    text = Path("out", PLAN).read_text()
    Path("out", PLAN).write_text(text.replace('"format_version":1', '"format_version":2'))

    assert "was written by another version of inception" in inception("sort", "--undo", "out").err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "FILE is missing: inception sort preds.csv --into ./sorted"),
        (("rows.csv",), "--into DIR is missing"),
        (("rows.csv", "--into", "out", "--link", "--move"), "--copy, --link and --move exclude each other"),
        (("rows.csv", "--undo", "out"), "--undo takes no other argument: inception sort --undo out"),
        (("--undo", "out", "--dry-run"), "--undo takes no other argument"),
        (("rows.csv", "--into", "s3://bucket/out"), "give a folder on this machine"),
    ],
)
def test_wrong_usage(library: Path, words: tuple[str, ...], message: str, inception: Inception) -> None:
    ended = inception("sort", *words)

    assert ended.code == ExitCode.USAGE
    assert message in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rows.csv", "--into", "rows.csv"), "rows.csv: file exists; choose another folder"),
        (("rows.csv", "--into", "none/out"), "none/out: no such file or directory; choose another folder"),
        (("rows.csv", "--into", "none/out", "--dry-run"), "none/out: no such file or directory; choose another folder"),
        (("in/1.jpg", "--into", "out"), "in/1.jpg is an image; first classify it"),
        (("--undo", "in"), "in: holds no sort that can be undone"),
        (("--undo", "none"), "none: holds no sort that can be undone"),
    ],
)
def test_other_errors_are_one_line(library: Path, words: tuple[str, ...], message: str, inception: Inception) -> None:
    before = content(library.parent)

    ended = inception("sort", *words)

    assert ended.code == ExitCode.ERROR
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert content(library.parent) == before


@pytest.mark.parametrize("name", [actions.LOCK, PLAN])
def test_the_files_of_a_sort_are_never_written_through_a_link(library: Path, name: str, inception: Inception) -> None:
    Path("out").mkdir()
    Path("out", name).symlink_to("../elsewhere")

    inception("sort", "rows.csv", "--into", "out")

    assert not Path("elsewhere").exists()


def test_quiet_prints_only_what_is_left(library: Path, inception: Inception) -> None:
    assert inception("sort", "rows.csv", "--into", "out", "-q").err == ""
    assert inception("sort", "--undo", "out", "-q").err == ""


def test_a_plan_takes_little_memory(place: Path) -> None:
    import tracemalloc

    photo = make_photo(place / "in" / "0.jpg")
    for number in range(1, 500):
        os.link(photo, place / "in" / f"{number}.jpg")
    rows = [Prediction(f"in/{number}.jpg", "ok", (0,), ("apple",), (0.5,)) for number in range(500)]
    planner = Planner(place / "out", "copy", place)
    steps = planner.steps(rows)
    next(steps)
    tracemalloc.start()

    assert sum(1 for _ in steps) == 499

    assert tracemalloc.get_traced_memory()[1] / 500 < 800, "bytes per photo"
    tracemalloc.stop()
