"""Lists of names and labels are read in the encodings that can be recognised, and refused in all others."""

import codecs
import io
import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from inception_cli.errors import InceptionError
from inception_cli.files.text_list import BLOCK, read_lines, read_names

#: Lists as people save them, with the names in each.
LISTS = {
    "/a": ["/a"],
    "/a\n": ["/a"],
    "/": ["/"],
    "a\nb\nc\n": ["a", "b", "c"],
    "/photos/a.jpg\n/photos/b.jpg\n": ["/photos/a.jpg", "/photos/b.jpg"],
    "C:\\photos\\a.jpg\r\nC:\\photos\\b.jpg\r\n": ["C:\\photos\\a.jpg", "C:\\photos\\b.jpg"],
    "/照片/a.jpg\n/照片/Ā一.jpg\n": ["/照片/a.jpg", "/照片/Ā一.jpg"],
    "/照片\n": ["/照片"],
    "/照片/a": ["/照片/a"],
    "/照一/a.jpg": ["/照一/a.jpg"],
    "/фото/ё.jpg\r\n": ["/фото/ё.jpg"],
    "/😀/a.jpg\n": ["/😀/a.jpg"],
    "a.jpg\rb.jpg\r": ["a.jpg", "b.jpg"],
    "": [],
}
BOMS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


def names(data: bytes) -> list[str]:
    return [name.decode("utf-8", "surrogateescape") for name in read_names(io.BytesIO(data), "standard input")]


READ_A_MILLION = """
import codecs, resource, sys
from inception_cli.files.text_list import read_names

class Lines:
    def __init__(self, encoding):
        self.left = 1_000_000
        self.encoding = encoding
        self.block = codecs.BOM_UTF16_LE if encoding == "utf-16-le" else b""

    def read(self, size):
        if not self.block and self.left:
            self.left -= 1000
            names = "/data/imagenet/val/n01440764/ILSVRC2012_val_00000001.JPEG\\n" * 1000
            self.block = names.encode(self.encoding)
        block, self.block = self.block[:size], self.block[size:]
        return block

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(sum(1 for _ in read_names(Lines(sys.argv[1]), "list")))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


# --- Encodings.


@pytest.mark.parametrize("text", LISTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_a_list_with_a_byte_order_mark_is_read(text: str, encoding: str) -> None:
    data = BOMS[encoding] + text.encode(encoding)
    assert names(data) == LISTS[text]
    assert read_lines(data, "labels.txt") == LISTS[text]


@pytest.mark.parametrize("text", LISTS)
def test_a_list_in_utf8_without_a_byte_order_mark_is_read(text: str) -> None:
    assert names(text.encode()) == LISTS[text]
    assert read_lines(text.encode(), "labels.txt") == LISTS[text]


@pytest.mark.parametrize("text", [text for text in LISTS if text])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_list_in_utf16_or_utf32_without_a_byte_order_mark_is_refused(text: str, encoding: str) -> None:
    """Read as NUL-terminated names it would begin with `/`, and the whole disk would be classified."""
    with pytest.raises(InceptionError, match=r"^standard input: [^\n]*save [^\n]* as UTF-8[^\n]*$"):
        names(text.encode(encoding))
    with pytest.raises(InceptionError, match=r"^labels\.txt: line 1 [^\n]*save the (list|file) as UTF-8$"):
        read_lines(text.encode(encoding), "labels.txt")


@pytest.mark.parametrize("text", LISTS)
@pytest.mark.parametrize("encoding", ["utf-32-le", "utf-32-be"])
def test_a_list_in_utf32_with_a_byte_order_mark_is_refused(text: str, encoding: str) -> None:
    data = BOMS[encoding] + text.encode(encoding)
    with pytest.raises(InceptionError, match=r"^standard input: the list is in UTF-32; save it as UTF-8$"):
        names(data)
    with pytest.raises(InceptionError, match=r"^labels\.txt: the list is in UTF-32; save it as UTF-8$"):
        read_lines(data, "labels.txt")


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (codecs.BOM_UTF16_LE + "a\nb".encode("utf-16-le") + b"\x00\xd8" + "\n".encode("utf-16-le"), 2),
        (codecs.BOM_UTF16_LE + "a\nb\nc".encode("utf-16-le")[:-1], 3),
        (codecs.BOM_UTF16_BE + "a\nb\n".encode("utf-16-be") * BLOCK + b"\xdc\x00", 2 * BLOCK + 1),
    ],
    ids=["half a surrogate pair", "an odd number of bytes", "far into the list"],
)
def test_invalid_utf16_is_refused_with_its_line(data: bytes, line: int) -> None:
    for read in (names, lambda data: read_lines(data, "standard input")):
        with pytest.raises(InceptionError, match=f"^standard input: line {line} is not valid UTF-16; save the list as"):
            read(data)


def test_lines_that_are_not_utf8_are_refused_with_their_number() -> None:
    with pytest.raises(InceptionError, match=r"^labels\.txt: line 2 is not UTF-8; save the file as UTF-8$"):
        read_lines("a.jpg 1\nÄpfel.jpg 2\n".encode("cp1252"), "labels.txt")


def test_names_that_are_not_utf8_are_kept() -> None:
    """They are names of files on Linux, as `find` prints them."""
    assert [*read_names(io.BytesIO(b"\xff.jpg\n\xe4.jpg"), "list")] == [b"\xff.jpg", b"\xe4.jpg"]
    assert [*read_names(io.BytesIO(b"\xff.jpg\0\xe4\n.jpg\0"), "list")] == [b"\xff.jpg", b"\xe4\n.jpg"]


@given(st.lists(st.text(st.characters(exclude_characters="\0\r\n", codec="utf-8"), min_size=1), min_size=1))
def test_any_names_are_read_from_every_encoding(listed: list[str]) -> None:
    assume(not listed[0].startswith("\ufeff"))
    for end in ("\n", "\r\n", "\r"):
        text = "".join(f"{name}{end}" for name in listed)
        assert names(text.encode()) == listed
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            assume(encoding != "utf-16-le" or not text.startswith("\0"))
            assert names(BOMS[encoding] + text.encode(encoding)) == listed
            assert read_lines(BOMS[encoding] + text.encode(encoding), "labels.txt") == listed


@given(st.lists(st.text("/abc照一Ā😀.\n", min_size=1), min_size=1))
def test_utf16_without_a_byte_order_mark_never_gives_the_name_of_the_whole_disk(listed: list[str]) -> None:
    text = "".join(f"/{name}\n" for name in listed)
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        with pytest.raises(InceptionError, match=r"^standard input: "):
            names(text.encode(encoding))


# --- Line ends.


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\nb\nc", ["a", "b", "c"]),
        (b"a\r\nb\nc\r\n", ["a", "b", "c"]),
        (b"a\rb\rc", ["a", "b", "c"]),
        (b"a\r", ["a"]),
        (b"a", ["a"]),
        (b" a \n", [" a "]),
        (b"a\rb.jpg\nc\n", ["a\rb.jpg", "c"]),
        (b"a\r\r\n", ["a\r"]),
        ("a\x0b\x0c\x1c\x85\u2028b\n".encode(), ["a\x0b\x0c\x1c\x85\u2028b"]),
    ],
)
def test_lines_end_in_lf_or_crlf_and_in_cr_where_there_is_no_lf(data: bytes, expected: list[str]) -> None:
    assert names(data) == expected
    assert read_lines(data, "labels.txt") == expected
    assert read_lines(codecs.BOM_UTF16_LE + data.decode().encode("utf-16-le"), "labels.txt") == expected


def test_blank_lines_are_kept_in_lines_and_skipped_in_names() -> None:
    """In a list of classes, a line's number is the number of its class."""
    for data in (b"\na\n\n\r\nb\n", b"\ra\r\r\rb\r"):
        assert read_lines(data, "classes.txt") == ["", "a", "", "", "b"]
        assert names(data) == ["a", "b"]
    assert names(b"\n\r\n") == names(b"\r") == []


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("length", [1, 2, 3, 4095, BLOCK - 1, BLOCK, 3 * BLOCK])
def test_lines_longer_and_shorter_than_a_block_are_read(length: int, encoding: str, end: str) -> None:
    listed = ["é😀" * length, "b", "é" * length, "c"] * (2 * BLOCK // length // 8 + 1)
    assert names(BOMS[encoding] + "".join(f"{name}{end}" for name in listed).encode(encoding)) == listed


def test_a_nul_in_a_line_is_refused_with_its_line() -> None:
    for data in (
        b"\xef\xbb\xbfa\nb\0",
        codecs.BOM_UTF16_LE + "a\nb\0".encode("utf-16-le"),
        b"a.jpg\n" * BLOCK + b"b\0",
    ):
        line = BLOCK + 1 if len(data) > BLOCK else 2
        for read in (names, lambda data: read_lines(data, "standard input")):
            with pytest.raises(InceptionError, match=f"^standard input: line {line} contains a NUL character"):
                read(data)


# --- NUL-terminated names.


@pytest.mark.parametrize(
    "listed",
    [
        ["a.jpg"],
        ["p/a.jpg", "p/b.jpg"],
        [".", "./a", "./a/b.jpg"],
        ["a\nb.jpg", "c\r.jpg"],
        ["a.jpg\n", "\nb.jpg"],
        ["0", "0/a.jpg", "1", "1/b.jpg"],
        ["a", "b", "c", "d.jpg"],
        ["cats/", "dogs/"],
        ["/", "/bin", "/photos/a.jpg"],
        ["照片.jpg", "Ā.jpg"],
        ["ab", "cd"],
        ["a" * 255, "b" * 4095],
        ["photos/a.jpg"] * BLOCK,
    ],
    ids=lambda listed: repr(listed[0][:20]),
)
def test_nul_terminated_names_are_read_whole(listed: list[str]) -> None:
    assert names("".join(f"{name}\0" for name in listed).encode()) == listed


@pytest.mark.parametrize(
    "data",
    [
        b"a.jpg\0b.jpg",
        b"a.jpg\0b.jpg\0\n",
        b"a.jpg\nb.jpg\0c.jpg\n",
        b"\0",
        b"\0a.jpg\0",
        b"a.jpg\0\0b.jpg\0",
        b"a.jpg\0\0",
        b"/\0a\0",
        b"a\0",
        b"a\0b\0c\0",
    ],
)
def test_a_list_with_nul_that_is_not_certainly_nul_terminated_is_refused(data: bytes) -> None:
    with pytest.raises(InceptionError, match=r"^list: the list contains NUL characters, but [^\n]*find -print0"):
        [*read_names(io.BytesIO(data), "list")]


# --- Streams.


def test_only_the_first_block_is_read_before_the_first_name() -> None:
    stream = io.BytesIO(b"a.jpg\n" * BLOCK)
    assert next(read_names(stream, "list")) == b"a.jpg"
    assert stream.tell() == BLOCK


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_a_pipe_that_delivers_byte_by_byte_is_read(encoding: str) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(1, -1 if size is None else size))

    data = BOMS[encoding] + "/照片/a.jpg\r\n/b.jpg".encode(encoding)
    assert [*read_names(Slow(data), "list")] == ["/照片/a.jpg".encode(), b"/b.jpg"]


def test_a_stream_that_cannot_be_read_is_an_error_in_one_line() -> None:
    class Folder(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise IsADirectoryError(21, "Is a directory")

    with pytest.raises(InceptionError, match=r"^standard input: is a directory; give a text file, or a pipe"):
        [*read_names(Folder(), "standard input")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_a_million_names_are_not_held_in_memory(encoding: str) -> None:
    """Together they are 60 MB in UTF-8; the process grows by less than 10."""
    ended = subprocess.run([sys.executable, "-c", READ_A_MILLION, encoding], capture_output=True, text=True, check=True)
    number, kib = map(int, ended.stdout.split())
    assert number == 1_000_000
    assert kib < 10_000
