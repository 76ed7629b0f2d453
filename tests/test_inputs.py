"""What was named gives the list that DESIGN promises: every image once, in one order, under the name that was typed."""

import io
import os
import pickle
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inception_cli.errors import ExitCode, InceptionError
from inception_cli.images.inputs import Inputs, PathList, encode, no_images


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make(*paths: str) -> None:
    """Empty files, and the folders that they lie in."""
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()


def listed(*named: str) -> list[str]:
    return list(Inputs(named))


# --- What is an image.


def test_suffixes_of_any_case_are_images_and_the_rest_is_counted() -> None:
    make("p/a.jpg", "p/b.JPEG", "p/c.PnG", "p/d.heic", "p/e.NEF", "p/notes.txt", "p/more.txt", "p/film.mp4", "p/README")
    inputs = Inputs(["p"])
    assert list(inputs) == ["p/a.jpg", "p/b.JPEG", "p/c.PnG", "p/d.heic", "p/e.NEF"]
    assert inputs.skipped == {".txt": 2, ".mp4": 1, "without a suffix": 1}


def test_what_is_no_suffix_is_counted_together() -> None:
    make("p/1.of many", "p/a.verylongsuffix", "p/dot.", "p/x.2024-01-01")
    inputs = Inputs(["p"])
    assert list(inputs) == []
    assert inputs.skipped == {"without a suffix": 4}


def test_hidden_files_and_shadow_folders_are_no_images() -> None:
    make("p/.a.jpg", "p/.b/c.jpg", "p/@eaDir/d.jpg", "p/__MACOSX/e.jpg", "p/f/._g.jpg", "p/@other/h.jpg", "p/i.jpg")
    inputs = Inputs(["p"])
    assert list(inputs) == ["p/@other/h.jpg", "p/i.jpg"]
    assert inputs.skipped == {}


def test_a_hidden_folder_named_outright_is_walked() -> None:
    make(".p/a.jpg", ".p/.b.jpg", "p/@eaDir/a.jpg")
    assert listed(".p", "p/@eaDir") == [".p/a.jpg", "p/@eaDir/a.jpg"]


def test_what_is_no_regular_file_gets_a_row_by_its_suffix() -> None:
    make("p/a.jpg")
    os.mkfifo("p/b.jpg")
    Path("p/c.jpg").symlink_to("nowhere")
    Path("p/d.jpg").symlink_to("d.jpg")
    os.mkfifo("p/pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("p/e.jpg")
        inputs = Inputs(["p"])
        assert list(inputs) == ["p/a.jpg", "p/b.jpg", "p/c.jpg", "p/d.jpg", "p/e.jpg"]
    assert inputs.skipped == {"without a suffix": 1}


def test_a_folder_named_like_a_photo_is_a_folder() -> None:
    make("p/x.jpg/a.jpg", "p/x.jpg/b.txt")
    assert listed("p") == listed("p/x.jpg") == ["p/x.jpg/a.jpg"]


# --- Names and order.


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("photos/a", "photos/a/b.jpg"),
        ("photos/a/", "photos/a/b.jpg"),
        ("./photos", "./photos/a/b.jpg"),
        ("./photos/", "./photos/a/b.jpg"),
        ("photos/../photos", "photos/../photos/a/b.jpg"),
        (".", "./photos/a/b.jpg"),
        ("photos/*", "photos/a/b.jpg"),
        ("./photos/**", "./photos/a/b.jpg"),
        ("*/a/*.jpg", "photos/a/b.jpg"),
        ("**/b.jpg", "photos/a/b.jpg"),
    ],
)
def test_a_path_is_as_it_could_be_typed(named: str, expected: str) -> None:
    make("photos/a/b.jpg")
    assert listed(named) == [expected]


def test_an_absolute_path_stays_absolute(tmp_path: Path) -> None:
    make("p/a.jpg")
    assert listed(f"{tmp_path}/p", f"{tmp_path}/*/a.jpg") == [f"{tmp_path}/p/a.jpg"] * 2


def test_the_order_is_that_of_the_command_line() -> None:
    make("b/1.jpg", "a/2.jpg", "c.jpg")
    assert listed("c.jpg", "b", "a") == ["c.jpg", "b/1.jpg", "a/2.jpg"]


def test_within_a_folder_the_order_is_that_of_bytes_split_at_slashes() -> None:
    """A folder `a` comes before `a b.jpg`, though a space comes before a slash."""
    make("p/a/z.jpg", "p/a b.jpg", "p/a.jpg", "p/B.jpg", "p/ä.jpg", "p/10.jpg", "p/9.jpg")
    assert listed("p") == [f"p/{name}" for name in ("10.jpg", "9.jpg", "B.jpg", "a/z.jpg", "a b.jpg", "a.jpg", "ä.jpg")]


names = st.text(st.sampled_from("aB-. /é\n,\udcff"), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=st.lists(names, max_size=12))
def test_any_tree_is_listed_in_that_order(paths: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("tree")
    expected = set()
    for path in paths:
        parts = [part for part in path.split("/") if part and not part.startswith(".")]
        try:
            (root / "/".join(parts)).mkdir(parents=True, exist_ok=True)
            photo = root / "/".join([*parts, "a.jpg"])
            photo.touch()
            expected.add(tuple(os.fsencode(part) for part in (*parts, "a.jpg")))
        except FileExistsError:
            continue
    actual = [tuple(os.fsencode(path).split(b"/")) for path in listed(f"{root}")]
    depth = len(root.parts) - 1
    assert [path[depth + 1 :] for path in actual] == sorted(expected)


def test_the_same_name_in_two_folders_is_two_photos() -> None:
    make("a/x.jpg", "b/x.jpg")
    assert listed("a", "b") == ["a/x.jpg", "b/x.jpg"]


def test_a_path_named_twice_is_listed_twice() -> None:
    make("a.jpg", "p/b.jpg")
    assert listed("a.jpg", "a.jpg", "p", "p") == ["a.jpg", "a.jpg", "p/b.jpg", "p/b.jpg"]


def test_names_of_any_bytes_survive() -> None:
    raw = [
        b"\xff.jpg",
        b"a\nb.jpg",
        b'"q",.jpg',
        b"=1.jpg",
        b" x.jpg",
        b"\x1b[31m.jpg",
        "😀.jpg".encode(),
        b"x" * 251 + b".jpg",
    ]
    Path("p").mkdir()
    for name in raw:
        Path(os.fsdecode(b"p/" + name)).touch()
    assert [os.fsencode(path) for path in listed("p")] == [b"p/" + name for name in sorted(raw)]


def test_folders_nest_deeper_than_python_calls(tmp_path: Path) -> None:
    for _ in range(1100):
        Path("d").mkdir()
        os.chdir("d")
    Path("a.jpg").touch()
    os.chdir(tmp_path)
    assert listed("d") == ["d/" * 1100 + "a.jpg"]
    os.chdir("d/" * 1100)
    Path("a.jpg").unlink()
    for _ in range(1100):  # what clears temporary folders recurses, and could not
        os.chdir("..")
        Path("d").rmdir()


# --- Links.


def test_links_are_followed_and_a_folder_walked_once() -> None:
    make("p/real/a.jpg", "elsewhere/b.jpg")
    Path("p/again").symlink_to("real")
    Path("p/loop").symlink_to("..")
    Path("p/out").symlink_to("../elsewhere")
    Path("p/z.jpg").symlink_to("real/a.jpg")
    # `loop` is the whole again: its own `elsewhere` comes first, so `out` is known; `p` itself was walked.
    assert listed("p") == ["p/again/a.jpg", "p/loop/elsewhere/b.jpg", "p/z.jpg"]


def test_a_linked_folder_is_walked_again_under_another_name_on_the_command_line() -> None:
    make("p/a.jpg")
    Path("q").symlink_to("p")
    assert listed("p", "q") == ["p/a.jpg", "q/a.jpg"]


def test_a_glob_ends_in_a_ring_of_links() -> None:
    make("p/a/b.jpg")
    Path("p/a/up").symlink_to("..")
    assert listed("p/**/*.jpg") == ["p/a/b.jpg"]


# --- Paths named outright, globs, standard input.


def test_a_path_named_outright_is_listed_whatever_it_is() -> None:
    make("notes.txt", "here.jpg")
    assert listed("notes.txt", "gone.jpg", "here.jpg", ".hidden") == ["notes.txt", "gone.jpg", "here.jpg", ".hidden"]


def test_nothing_named_exists_is_an_error_that_names_it() -> None:
    with pytest.raises(InceptionError, match=r"^photso: no such file or folder; check the name$") as caught:
        listed("photso", "gone.jpg")
    assert caught.value.exit_code == ExitCode.ERROR


def test_a_link_that_leads_nowhere_is_named_and_gets_its_row() -> None:
    Path("dangling.jpg").symlink_to("nowhere")
    assert listed("dangling.jpg") == ["dangling.jpg"]


def test_a_path_that_exists_is_no_glob() -> None:
    make("a[1].jpg", "a1.jpg", "p[x]/b.jpg", "px/c.jpg")
    assert listed("a[1].jpg", "p[x]") == ["a[1].jpg", "p[x]/b.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("p/*.jpg", ["p/a.jpg", "p/b.jpg"]),
        ("p/[ab].jpg", ["p/a.jpg", "p/b.jpg"]),
        ("p/?/*.jpg", ["p/q/c.jpg"]),
        ("p/**/*.jpg", ["p/a.jpg", "p/b.jpg", "p/q/c.jpg", "p/q/r/d.jpg"]),
        ("p/**", ["p/a.jpg", "p/b.jpg", "p/q/c.jpg", "p/q/r/d.jpg", "p/q/r/e.png"]),
        ("p/**/r/*", ["p/q/r/d.jpg", "p/q/r/e.png"]),
        ("**/r", ["p/q/r/d.jpg", "p/q/r/e.png"]),
        ("p/q*", ["p/q/c.jpg", "p/q/r/d.jpg", "p/q/r/e.png"]),
        ("p/*/", ["p/q/c.jpg", "p/q/r/d.jpg", "p/q/r/e.png"]),
        ("p/.*/*.jpg", ["p/.s/f.jpg"]),
        ("**/**/c.jpg", ["p/q/c.jpg"]),
    ],
)
def test_globs(pattern: str, expected: list[str]) -> None:
    make("p/a.jpg", "p/b.jpg", "p/q/c.jpg", "p/q/r/d.jpg", "p/q/r/e.png", "p/.s/f.jpg", "p/@eaDir/a.jpg", "p/n.txt")
    assert listed(pattern) == expected


def test_a_glob_without_an_image_is_counted_not_lost() -> None:
    make("p/a.txt", "b.jpg")
    inputs = Inputs(["p/*", "*.png", "b.jpg"])
    assert list(inputs) == ["b.jpg"]
    assert inputs.skipped == {
        ".txt": 1,
        "pattern without an image: p/*": 1,
        "pattern without an image: *.png": 1,
    }


def test_standard_input_is_a_path_a_line() -> None:
    make("p/b.jpg", "x[1].jpg")
    lines = b"a.jpg\r\n\np\n\r\nx[1].jpg\ngone*.jpg\n-\n\xff.jpg\nnul.jpg\0ends.jpg\0\nlast.jpg"
    expected = ["a.jpg", "p/b.jpg", "x[1].jpg", "gone*.jpg", "-", "\udcff.jpg", "nul.jpg", "ends.jpg", "last.jpg"]
    assert list(Inputs(["-"], io.BytesIO(lines))) == expected


def test_standard_input_is_read_as_it_comes() -> None:
    def endless() -> Iterator[bytes]:
        yield b"first.jpg\n"
        raise AssertionError("read ahead")

    class Stream(io.BytesIO):
        def __iter__(self) -> "Stream":
            self.lines = endless()
            return self

        def __next__(self) -> bytes:
            return next(self.lines)

    assert next(iter(Inputs(["-"], Stream()))) == "first.jpg"


# --- What cannot be read.


def test_a_folder_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised here, for root is denied nothing."""
    make("p/a.jpg", "p/private/b.jpg", "p/z.jpg")
    scandir = os.scandir

    def refuse(path: bytes) -> object:
        if b"private" in path:
            raise PermissionError
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    inputs = Inputs(["p"])
    assert list(inputs) == ["p/a.jpg", "p/z.jpg"]
    assert inputs.skipped == {"unreadable folder p/private": 1}


def test_no_image_says_what_was_skipped() -> None:
    make("p/a.txt", "p/b.txt", "p/c.mp4")
    inputs = Inputs(["p"])
    assert list(inputs) == []
    error = no_images(inputs)
    assert (str(error), error.exit_code) == (
        "no image in p: skipped 2 .txt, 1 .mp4; name photos (.jpg, .png, .webp, …) or a folder with some",
        ExitCode.NO_IMAGES,
    )
    Path("empty").mkdir()
    inputs = Inputs(["empty"])
    assert list(inputs) == []
    assert str(no_images(inputs)) == "no image in empty: nothing there; name photos, or a folder with some"


# --- The list in few bytes.

PATHS = ["a.jpg", "", "p/\udcff.jpg", "new\nline.jpg", "é.jpg"]


def test_a_path_list_is_the_paths(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_bytes(b"".join(map(encode, PATHS)))
    for paths in (PathList.of(PATHS), PathList.open(file), pickle.loads(pickle.dumps(PathList.open(file)))):
        assert list(paths) == PATHS
        assert (len(paths), paths[-1], paths[1:3]) == (5, "é.jpg", ["", "p/\udcff.jpg"])
        with pytest.raises(IndexError):
            paths[5]


def test_an_empty_path_list_is_empty(tmp_path: Path) -> None:
    (tmp_path / "list").touch()
    assert list(PathList.open(tmp_path / "list")) == list(PathList.of([])) == []


def test_a_path_list_of_a_file_pickles_as_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("list").write_bytes(encode("photo.jpg") * 10_000)
    pickled = pickle.dumps(PathList.open(Path("list")))
    assert len(pickled) < 1000
    monkeypatch.chdir("/")  # a worker may start elsewhere
    assert len(pickle.loads(pickled)) == 10_000


def test_a_path_with_a_nul_is_refused() -> None:
    with pytest.raises(InceptionError, match="NUL"):
        PathList.of(["a\0b.jpg"])


def test_listing_does_not_touch_the_files() -> None:
    make("p/a.jpg")
    before = Path("p/a.jpg").stat()
    Path("p/a.jpg").chmod(0)
    assert listed("p") == ["p/a.jpg"]
    assert stat.S_IMODE(Path("p/a.jpg").stat().st_mode) == 0
    assert Path("p/a.jpg").stat().st_mtime_ns == before.st_mtime_ns
