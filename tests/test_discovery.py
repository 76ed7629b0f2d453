"""Discovery lists every image of the inputs once, in a fixed order, under the path that the user could type."""

import codecs
import errno
import io
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inception_cli.errors import ExitCode, InceptionError, UsageError
from inception_cli.files.text_list import BLOCK
from inception_cli.images.discovery import MAX_UNREADABLE_NAMES, SYSTEM_FOLDERS, Discovery, no_images


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make(*paths: str) -> None:
    """Create empty files, and their folders."""
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()


def listed(*inputs: str) -> list[str]:
    return list(Discovery(inputs))


# --- Which files are images.


def test_image_suffixes_of_any_case_are_listed_and_other_files_counted() -> None:
    make("p/a.jpg", "p/b.JPEG", "p/c.PnG", "p/d.heic", "p/e.NEF", "p/notes.txt", "p/more.txt", "p/film.mp4", "p/README")
    discovery = Discovery(["p"])
    assert list(discovery) == ["p/a.jpg", "p/b.JPEG", "p/c.PnG", "p/d.heic", "p/e.NEF"]
    assert discovery.skipped == {".txt": 2, ".mp4": 1, "without a suffix": 1}


def test_names_without_a_real_suffix_are_counted_together() -> None:
    make("p/1.of many", "p/a.verylongsuffix", "p/dot.", "p/x.2024-01-01")
    discovery = Discovery(["p"])
    assert list(discovery) == []
    assert discovery.skipped == {"without a suffix": 4}


def test_hidden_files_and_system_folders_are_left_out() -> None:
    make("p/.a.jpg", "p/.b/c.jpg", "p/@eaDir/d.jpg", "p/__MACOSX/e.jpg", "p/f/._g.jpg", "p/@other/h.jpg", "p/i.jpg")
    discovery = Discovery(["p"])
    assert list(discovery) == ["p/@other/h.jpg", "p/i.jpg"]
    assert discovery.skipped == {}


def test_a_hidden_folder_given_as_input_is_listed() -> None:
    make(".p/a.jpg", ".p/.b.jpg", "p/@eaDir/a.jpg")
    assert listed(".p", "p/@eaDir") == [".p/a.jpg", "p/@eaDir/a.jpg"]


RECYCLE_BINS_AND_SYSTEM_FOLDERS = [
    *("@eaDir", "__MACOSX", "$RECYCLE.BIN", "$Recycle.Bin", "#recycle", "@Recycle"),
    *("System Volume Information", "lost+found"),
]


@pytest.mark.parametrize("name", RECYCLE_BINS_AND_SYSTEM_FOLDERS)
def test_a_recycle_bin_or_system_folder_is_left_out_unless_it_is_given(name: str) -> None:
    make(f"p/{name}/S-1-5-18/a.jpg", f"p/q/{name}/b.jpg", "p/c.jpg")
    assert name in SYSTEM_FOLDERS
    for pattern in ("p", "p/**", "p/*", f"p/{name[0]}*", "p/?*"):
        discovery = Discovery([pattern, "p/c.jpg"])
        assert {path for path in discovery if name in path} == set()
        assert discovery.unreadable.count == 0
    assert listed(f"p/{name}") == listed(f"p/{name}/*") == listed(f"*/{name}") == [f"p/{name}/S-1-5-18/a.jpg"]


def test_folders_with_similar_names_are_listed() -> None:
    similar = ["#recycled", "@Recently", "RECYCLE.BIN", "Recycle", "System", "found", "lost", "recycled"]
    make(*(f"p/{name}/a.jpg" for name in similar))
    assert listed("p") == [f"p/{name}/a.jpg" for name in similar]


def test_files_that_are_not_regular_are_listed_by_their_suffix() -> None:
    make("p/a.jpg")
    os.mkfifo("p/b.jpg")
    Path("p/c.jpg").symlink_to("nowhere")
    Path("p/d.jpg").symlink_to("d.jpg")
    os.mkfifo("p/pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("p/e.jpg")
        discovery = Discovery(["p"])
        assert list(discovery) == ["p/a.jpg", "p/b.jpg", "p/c.jpg", "p/d.jpg", "p/e.jpg"]
    assert discovery.skipped == {"without a suffix": 1}


def test_a_folder_with_an_image_suffix_is_a_folder() -> None:
    make("p/x.jpg/a.jpg", "p/x.jpg/b.txt")
    assert listed("p") == listed("p/x.jpg") == ["p/x.jpg/a.jpg"]


# --- Paths and order.


@pytest.mark.parametrize(
    ("given", "expected"),
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
def test_a_path_is_as_the_user_could_type_it(given: str, expected: str) -> None:
    make("photos/a/b.jpg")
    assert listed(given) == [expected]


def test_an_absolute_path_stays_absolute(tmp_path: Path) -> None:
    make("p/a.jpg")
    assert listed(f"{tmp_path}/p", f"{tmp_path}/*/a.jpg") == [f"{tmp_path}/p/a.jpg"] * 2


def test_inputs_are_listed_in_the_order_given() -> None:
    make("b/1.jpg", "a/2.jpg", "c.jpg")
    assert listed("c.jpg", "b", "a") == ["c.jpg", "b/1.jpg", "a/2.jpg"]


def test_a_folder_is_sorted_by_the_bytes_of_its_path_components() -> None:
    """A folder `a` comes before `a b.jpg`, although a space sorts before a slash."""
    make("p/a/z.jpg", "p/a b.jpg", "p/a.jpg", "p/B.jpg", "p/ä.jpg", "p/10.jpg", "p/9.jpg")
    assert listed("p") == [f"p/{name}" for name in ("10.jpg", "9.jpg", "B.jpg", "a/z.jpg", "a b.jpg", "a.jpg", "ä.jpg")]


names = st.text(st.sampled_from("aB-. /é\n,\udcff"), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=st.lists(names, max_size=12))
def test_any_tree_is_sorted_by_the_bytes_of_its_path_components(
    paths: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
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


def test_the_same_name_in_two_folders_is_listed_twice() -> None:
    make("a/x.jpg", "b/x.jpg")
    assert listed("a", "b") == ["a/x.jpg", "b/x.jpg"]


def test_a_path_given_twice_is_listed_twice() -> None:
    make("a.jpg", "p/b.jpg")
    assert listed("a.jpg", "a.jpg", "p", "p") == ["a.jpg", "a.jpg", "p/b.jpg", "p/b.jpg"]


def test_names_of_any_bytes_are_kept() -> None:
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


def test_folders_may_be_nested_deeper_than_the_recursion_limit(tmp_path: Path) -> None:
    for _ in range(1100):
        Path("d").mkdir()
        os.chdir("d")
    Path("a.jpg").touch()
    os.chdir(tmp_path)
    assert listed("d") == ["d/" * 1100 + "a.jpg"]
    os.chdir("d/" * 1100)
    Path("a.jpg").unlink()
    for _ in range(1100):  # pytest deletes temporary folders by recursion, which would fail
        os.chdir("..")
        Path("d").rmdir()


# --- Links.


def test_links_are_followed_and_each_folder_is_visited_once() -> None:
    make("p/real/a.jpg", "elsewhere/b.jpg")
    Path("p/again").symlink_to("real")
    Path("p/loop").symlink_to("..")
    Path("p/out").symlink_to("../elsewhere")
    Path("p/z.jpg").symlink_to("real/a.jpg")
    # `loop` is the parent folder: its `elsewhere` comes first, so `out` is visited already, and so is `p`.
    assert listed("p") == ["p/again/a.jpg", "p/loop/elsewhere/b.jpg", "p/z.jpg"]


def test_a_linked_folder_given_as_another_input_is_listed_again() -> None:
    make("p/a.jpg")
    Path("q").symlink_to("p")
    assert listed("p", "q") == ["p/a.jpg", "q/a.jpg"]


def test_a_glob_ends_despite_circular_links() -> None:
    make("p/a/b.jpg")
    Path("p/a/up").symlink_to("..")
    assert listed("p/**/*.jpg") == ["p/a/b.jpg"]


@pytest.mark.parametrize(
    ("pattern", "links", "expected"),
    [
        ("p/**/b/*.jpg", {"p/a": "b"}, ["p/b/x.jpg"]),
        ("p/*/c/*.jpg", {"p/a": "b/c"}, ["p/b/c/y.jpg"]),
        ("p/s*/b/*.jpg", {"p/self": "../p"}, ["p/self/b/x.jpg"]),
        ("p/**/c", {"p/a": "b", "p/b/c/up": "../.."}, ["p/a/c/up/a/x.jpg", "p/a/c/y.jpg"]),
        ("p/**/*.jpg", {"p/a": "b"}, ["p/a/c/y.jpg", "p/a/x.jpg"]),
        ("p/**/[bx]*", {"p/a": "b"}, ["p/a/x.jpg", "p/b/c/y.jpg"]),
    ],
)
def test_a_link_does_not_hide_the_folder_that_matches_a_glob(
    pattern: str, links: dict[str, str], expected: list[str]
) -> None:
    """The link is visited first, when less of the pattern is matched. No image is listed twice."""
    make("p/b/x.jpg", "p/b/c/y.jpg")
    for link, target in links.items():
        Path(link).symlink_to(target)
    assert listed(pattern) == expected


# --- Files, glob patterns, standard input.


def test_a_file_given_as_input_is_listed_whatever_it_is() -> None:
    make("notes.txt", "here.jpg")
    assert listed("notes.txt", "gone.jpg", "here.jpg", ".hidden") == ["notes.txt", "gone.jpg", "here.jpg", ".hidden"]


def test_no_existing_input_is_an_error_that_names_the_first() -> None:
    with pytest.raises(InceptionError, match=r"^photso: no such file or folder; check the name$") as caught:
        listed("photso", "gone.jpg")
    assert caught.value.exit_code == ExitCode.ERROR


def test_a_dangling_link_given_as_input_is_listed() -> None:
    Path("dangling.jpg").symlink_to("nowhere")
    assert listed("dangling.jpg") == ["dangling.jpg"]


def test_an_existing_path_is_not_taken_as_a_glob() -> None:
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


def test_a_glob_without_images_is_counted_as_skipped_and_one_without_a_match_as_unreadable() -> None:
    make("p/a.txt", "b.jpg")
    Path("empty").mkdir()
    discovery = Discovery(["p/*", "*.png", "b.jpg", "empty*/"])
    assert list(discovery) == ["b.jpg"]
    assert discovery.skipped == {
        ".txt": 1,
        "pattern without an image: p/*": 1,
        "pattern without an image: empty*/": 1,
    }
    assert str(discovery.unreadable) == "1 folder or pattern cannot be read (*.png: no match)"


@pytest.mark.parametrize("inputs", [[""], ["a.jpg", ""], ["", "-"]])
def test_an_empty_name_is_refused(inputs: list[str]) -> None:
    """It would be taken for `/`: the command line has one if a variable is not set (`inception classify "$DIR"`)."""
    make("a.jpg")
    with pytest.raises(UsageError, match=rf"^input {inputs.index('') + 1} is an empty name; give a file or folder"):
        Discovery(inputs)


def test_standard_input_has_one_path_per_line() -> None:
    make("p/b.jpg", "x[1].jpg")
    lines = b"a.jpg\r\n\np\n\r\nx[1].jpg\ngone*.jpg\n-\n\xff.jpg\n \nlast.jpg"
    expected = ["a.jpg", "p/b.jpg", "x[1].jpg", "gone*.jpg", "-", "\udcff.jpg", " ", "last.jpg"]
    assert list(Discovery(["-"], io.BytesIO(lines))) == expected


@pytest.mark.parametrize(
    ("bom", "encoding"),
    [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")],
)
def test_a_list_with_a_byte_order_mark_names_files_in_utf8(bom: bytes, encoding: str) -> None:
    make("p/ä照😀.jpg")
    data = bom + "p\r\np/ä照😀.jpg\r\n".encode(encoding)
    paths = list(Discovery(["-"], io.BytesIO(data)))
    assert [os.fsencode(path) for path in paths] == ["p/ä照😀.jpg".encode()] * 2
    assert all(Path(path).exists() for path in paths)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-32"])
@pytest.mark.parametrize("text", ["/a", "/a\n", "/\r\na.jpg\r\n", "a\nb\n", "/照片\n", "/photos/a.jpg\n"])
def test_a_list_in_another_encoding_is_refused_before_any_folder_is_searched(
    text: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "scandir", lambda path: pytest.fail(f"{path!r} is searched"))
    with pytest.raises(InceptionError, match=r"^standard input: [^\n]*save it as UTF-8[^\n]*$"):
        list(Discovery(["-"], io.BytesIO(text.encode(encoding))))


def test_the_output_of_find_print0_is_read() -> None:
    make("p/a\nb.jpg", "p/c\r.jpg", "p/d\n", "p/-", "p/q/\udcff.jpg", "p/q/e")
    found = subprocess.run(["find", "p", "-type", "f", "-print0"], capture_output=True, check=True).stdout
    assert sorted(Discovery(["-"], io.BytesIO(found))) == [
        *("p/-", "p/a\nb.jpg", "p/c\r.jpg", "p/d\n", "p/q/e", "p/q/\udcff.jpg")
    ]


def test_standard_input_may_be_a_pipe_and_is_read_in_blocks() -> None:
    class Stream(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert self.tell() < BLOCK, "read ahead"
            return super().read(size)

    assert next(iter(Discovery(["-"], Stream(b"first.jpg\n" * BLOCK)))) == "first.jpg"
    reading, writing = os.pipe()
    os.write(writing, b"a.jpg\nb.jpg\n")
    os.close(writing)
    with os.fdopen(reading, "rb") as stdin:
        assert list(Discovery(["-"], stdin)) == ["a.jpg", "b.jpg"]


def test_closed_standard_input_is_an_error_only_where_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    make("a.jpg")
    monkeypatch.setattr("sys.stdin", None)
    assert listed("a.jpg") == ["a.jpg"]
    with pytest.raises(InceptionError, match=r"^standard input is closed; give "):
        listed("-")


# --- Unreadable and empty folders.


@contextmanager
def _as_an_ordinary_user() -> Iterator[None]:
    """Give up the rights of root, who may read everything, for the block."""
    user = os.geteuid()
    if user == 0:
        Path.cwd().chmod(0o755)
        os.seteuid(65534)  # nobody
    try:
        yield
    finally:
        os.seteuid(user)
        for folder, names, _ in os.walk("."):  # pytest must be able to remove them
            for name in names:
                if not (path := Path(folder, name)).is_symlink():
                    path.chmod(0o755)


def test_unreadable_folders_are_counted_and_named_with_the_reason() -> None:
    make("p/a.jpg", "p/private/b.jpg", "p/private/q/c.jpg", "p/x/y/d.jpg", "p/z.jpg")
    Path("p/private").chmod(0)
    Path("p/x/y").chmod(0o111)
    discovery = Discovery(["p"])
    with _as_an_ordinary_user():
        assert list(discovery) == ["p/a.jpg", "p/z.jpg"]
    assert discovery.skipped == {}
    assert discovery.unreadable.count == 2
    assert discovery.unreadable.examples == ["p/private: permission denied", "p/x/y: permission denied"]
    assert str(discovery.unreadable) == (
        "2 folders cannot be read (p/private: permission denied, p/x/y: permission denied)"
    )


def test_every_folder_in_a_folder_without_access_is_counted() -> None:
    """Its entries can be listed, but not opened: images get rows `denied`, folders and links to folders are counted."""
    make("p/q/1/a.jpg", "p/q/2/b.jpg", "p/q/3/c.jpg", "p/q/d.jpg", "p/q/notes.txt")
    Path("p/q/link.d").symlink_to("1")
    Path("p/q/e.jpg").symlink_to("d.jpg")
    Path("p/q").chmod(0o444)
    discovery = Discovery(["p"])
    with _as_an_ordinary_user():
        assert list(discovery) == ["p/q/d.jpg", "p/q/e.jpg"]
    assert discovery.unreadable.examples == [f"p/q/{name}: permission denied" for name in ("1", "2", "3", "link.d")]
    assert discovery.skipped == {".txt": 1}


def test_links_into_a_folder_without_access_are_counted() -> None:
    make("private/q/a.jpg", "p/b.jpg")
    Path("p/away").symlink_to("../private/q")
    Path("p/itself").symlink_to("itself")
    Path("p/dangling").symlink_to("nowhere")
    Path("private").chmod(0)
    discovery = Discovery(["p"])
    with _as_an_ordinary_user():
        assert list(discovery) == ["p/b.jpg"]
    assert discovery.unreadable.examples == ["p/away: permission denied"]
    assert discovery.skipped == {"without a suffix": 2}


@pytest.mark.parametrize("given", ["private", "private/", "private/*.jpg", "private/**", "*", "pri*/*"])
def test_an_unreadable_folder_given_as_input_is_counted(given: str) -> None:
    make("private/a.jpg")
    Path("private").chmod(0o311)
    discovery = Discovery([given])
    with _as_an_ordinary_user():
        assert list(discovery) == []
    assert discovery.unreadable.examples == ["private: permission denied"]
    assert str(no_images(discovery)).startswith(
        f"no image in {given}: 1 folder cannot be read (private: permission denied); "
    )


def test_a_folder_that_fails_while_it_is_listed_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a broken disk; simulated."""
    make("p/a.jpg", "p/q/b.jpg", "p/z.jpg")
    scandir = os.scandir

    @contextmanager
    def fail_after_the_first(path: bytes) -> Iterator[Iterator[os.DirEntry[bytes]]]:
        def entries() -> Iterator[os.DirEntry[bytes]]:
            with scandir(path) as all_entries:
                yield next(all_entries)
            if path.endswith(b"q/"):
                raise OSError(errno.EIO, "Input/output error")
            with scandir(path) as all_entries:
                next(all_entries)
                yield from all_entries

        yield entries()

    monkeypatch.setattr(os, "scandir", fail_after_the_first)
    discovery = Discovery(["p"])
    assert list(discovery) == ["p/a.jpg", "p/q/b.jpg", "p/z.jpg"]
    assert discovery.unreadable.examples == ["p/q: input/output error"]


def test_only_the_first_unreadable_folders_are_kept_by_name() -> None:
    make(*(f"p/{number:04}/a.jpg" for number in range(1500)))
    for folder in Path("p").iterdir():
        folder.chmod(0)
    discovery = Discovery(["p"])
    with _as_an_ordinary_user():
        assert list(discovery) == []
    assert (discovery.unreadable.count, len(discovery.unreadable.examples)) == (1500, MAX_UNREADABLE_NAMES)
    assert str(discovery.unreadable) == (
        "1,500 folders cannot be read "
        "(p/0000: permission denied, p/0001: permission denied, p/0002: permission denied, …)"
    )


@pytest.mark.parametrize("pattern", ["nowhere/*.jpg", "a.jpg/*", "nowhere/**"])
def test_a_pattern_in_a_folder_that_does_not_exist_matches_nothing(pattern: str) -> None:
    make("a.jpg")
    discovery = Discovery([pattern])
    assert list(discovery) == []
    assert discovery.unreadable.examples == [f"{pattern}: no match"]
    assert discovery.skipped == {}


def test_a_name_with_brackets_that_matches_nothing_is_that_of_a_file() -> None:
    make("a.jpg")
    discovery = Discovery(["gone[1].jpg", "a.jpg"])
    assert list(discovery) == ["gone[1].jpg", "a.jpg"]
    assert discovery.unreadable.count == 0


def test_the_error_for_no_images_says_what_was_skipped() -> None:
    make("p/a.txt", "p/b.txt", "p/c.mp4")
    discovery = Discovery(["p"])
    assert list(discovery) == []
    error = no_images(discovery)
    assert (str(error), error.exit_code) == (
        "no image in p: skipped 2 .txt, 1 .mp4; "
        "give image files (.jpg, .png, .webp, …), or a folder that contains some",
        ExitCode.NO_IMAGES,
    )
    Path("empty").mkdir()
    discovery = Discovery(["empty"])
    assert list(discovery) == []
    assert (
        str(no_images(discovery))
        == "no image in empty: no files there; give image files, or a folder that contains some"
    )
    discovery = Discovery(["-", "empty", "empty", "empty", "empty"], io.BytesIO())
    assert list(discovery) == []
    assert str(no_images(discovery)).startswith("no image in standard input, empty, empty and 2 more: no files there; ")


def test_listing_does_not_touch_the_files() -> None:
    make("p/a.jpg")
    before = Path("p/a.jpg").stat()
    Path("p/a.jpg").chmod(0)
    assert listed("p") == ["p/a.jpg"]
    assert stat.S_IMODE(Path("p/a.jpg").stat().st_mode) == 0
    assert Path("p/a.jpg").stat().st_mtime_ns == before.st_mtime_ns
