"""Read lists of names or labels: UTF-8 with or without BOM, or UTF-16 with BOM; lines end in LF, CRLF or CR.

CR is the line end only of a list without any LF; otherwise a CR inside a line belongs to the line. Other encodings
are refused, because they cannot be recognised reliably.
"""

import codecs
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from inception_cli.errors import InceptionError, os_errors

#: Bytes that are read at once, and from which the kind of a list is recognised: several paths of maximal length.
BLOCK = 64 * 1024

#: UTF-32 first: its mark for little-endian begins with that of UTF-16.
_ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    codecs.BOM_UTF8: "utf-8",
}
#: Text in UTF-16 that looks like a list of NUL-terminated names with a name `/`, or several names of one character.
_UTF16_SIGNS = {
    "utf-16-le": re.compile(r"^/|[\0-\xff]/|[\0-\x7f]{3}"),
    "utf-16-be": re.compile(r"/[\0-\xff]|[\0-\x7f]{3}"),
}
#: So many characters beyond Latin-1 whose bytes in UTF-16 are valid UTF-8, too, are no coincidence: it is UTF-8.
_TOO_MANY_BY_CHANCE = 5


def read_lines(data: bytes, source: Path | str) -> list[str]:
    """Return the lines of a list, blank ones included, without line ends.

    `source` is the file's name, for the InceptionError that a list in another encoding raises.
    """
    bom, encoding = _encoding(data, source)
    blocks = iter((data[len(bom) :],))
    if encoding != "utf-8":
        blocks = _to_utf8(blocks, encoding, source)
    return [_decode(line, number, source) for number, line in enumerate(_split_lines(blocks, source), start=1)]


def read_text_file(file: Path, max_bytes: int, max_lines: int, remedy: str) -> list[str]:
    """Return the lines of a list in a file; InceptionError if it cannot be read, or is too long to take memory for."""
    with os_errors(file, remedy), file.open("rb") as stream:
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise InceptionError(f"{file}: over {max_bytes / 1e6:,.0f} MB, too many for such a list; {remedy}")
    if max(data.count(b"\n"), data.count(b"\r")) > max_lines:
        raise InceptionError(f"{file}: over {max_lines:,} lines, too many for such a list; {remedy}")
    return read_lines(data, file)


def read_names(stream: BinaryIO, source: Path | str) -> Iterator[bytes]:
    """Yield the names of a list, one per line or NUL-terminated (`find -print0`); skip blank lines.

    Names are bytes, as file names on Linux are: those of a list in UTF-16 come in UTF-8, all others unchanged. A list
    is NUL-terminated if it contains NUL, has no BOM, ends in NUL, has no empty name and is not likely to be UTF-16.
    The list is read block by block, except one that is NUL-terminated or has CR as its line end.
    """
    blocks = iter(lambda: _read_block(stream, source), b"")
    head = next(blocks, b"")
    bom, encoding = _encoding(head, source)
    blocks = chain((head[len(bom) :],), blocks)
    if encoding == "utf-8" and not bom and b"\0" in head:
        yield from _split_nul_terminated(b"".join(blocks), source)
        return
    if encoding != "utf-8":
        blocks = _to_utf8(blocks, encoding, source)
    yield from filter(None, _split_lines(blocks, source))


def _read_block(stream: BinaryIO, source: Path | str) -> bytes:
    """Return the next BLOCK bytes; fewer only at the end of the stream, although a pipe may deliver less at a time."""
    block = b""
    with os_errors(source, "give a text file, or a pipe from a program that lists names"):
        while len(block) < BLOCK and (more := stream.read(BLOCK - len(block))):
            block += more
    return block


def _encoding(head: bytes, source: Path | str) -> tuple[bytes, str]:
    """Return the byte order mark at the beginning of a list, and the encoding that it stands for."""
    bom = next(filter(head.startswith, _ENCODINGS), b"")
    encoding = _ENCODINGS[bom] if bom else "utf-8"
    if encoding == "utf-32":
        raise InceptionError(f"{source}: the list is in UTF-32; save it as UTF-8")
    return bom, encoding


def _to_utf8(blocks: Iterable[bytes], encoding: str, source: Path | str) -> Iterator[bytes]:
    """Yield blocks of UTF-16 in UTF-8."""
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    for block in chain(blocks, (b"",)):
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].decode(encoding).count("\n")
            raise InceptionError(f"{source}: line {line} is not valid UTF-16; save the list as UTF-8") from error
        line += text.count("\n")
        yield text.encode()


def _decode(line: bytes, number: int, source: Path | str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise InceptionError(f"{source}: line {number} is not UTF-8; save the file as UTF-8") from error


def _split_lines(blocks: Iterator[bytes], source: Path | str) -> Iterator[bytes]:
    """Yield the lines of text in UTF-8 that comes in blocks."""
    head = next(blocks, b"")
    if b"\n" not in head:  # one line, or lines that end in CR
        head = b"".join((head, *blocks))
    line_end = b"\r" if b"\r" in head and b"\n" not in head else b"\n"
    for number, line in enumerate(_split(chain((head,), blocks), line_end), start=1):
        if b"\0" in line:
            raise InceptionError(
                f"{source}: line {number} contains a NUL character, as in UTF-16 or UTF-32 without a byte order mark; "
                "save the list as UTF-8"
            )
        yield line.removesuffix(b"\r")


def _split_nul_terminated(data: bytes, source: Path | str) -> Iterator[bytes]:
    """Yield the names of a NUL-terminated list."""
    problem = ""
    if not data.endswith(b"\0"):
        problem = "does not end in one"
    elif data.startswith(b"\0") or b"\0\0" in data:
        problem = "has an empty name"
    elif _is_like_utf16(data):
        problem = "looks like UTF-16 without a byte order mark"
    if problem:
        raise InceptionError(
            f"{source}: the list contains NUL characters, but {problem}; save it as UTF-8 with one name per line, "
            "or end each name in NUL (find -print0; names of one letter as ./a)"
        )
    stream = io.BytesIO(data)
    yield from _split(iter(lambda: stream.read(BLOCK), b""), b"\0")


def _is_like_utf16(data: bytes) -> bool:
    """Return whether a list that ends in NUL may be UTF-16 without BOM: `/`, NUL, `a`, NUL are two names, or a path."""
    start = data[:64]
    if not any(start[::2]) or not any(start[1::2]):  # all in ASCII or Latin-1
        return True
    return len(data) % 2 == 0 and any(_is_utf16_text(data[:BLOCK], encoding) for encoding in _UTF16_SIGNS)


def _is_utf16_text(data: bytes, encoding: str) -> bool:
    """Return whether bytes are text in UTF-16, rather than names in UTF-8 that can be read as UTF-16 by chance."""
    text = _decode_head(data, encoding)
    if any(unicodedata.category(each) == "Cn" for each in set(text)):  # Cn: not assigned to a character
        return False
    if _UTF16_SIGNS[encoding].search(text):
        return True
    # A line of UTF-16-LE looks like a name that ends in a newline; there are such names.
    foreign = sum(each > "\xff" for each in text)
    return (
        encoding == "utf-16-le" and "\n" in text and (foreign < _TOO_MANY_BY_CHANCE or not _decode_head(data, "utf-8"))
    )


def _decode_head(data: bytes, encoding: str) -> str:
    """Return the text of bytes whose last character may be cut; empty if they are invalid."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(data)
    except UnicodeDecodeError:
        return ""


def _split(blocks: Iterable[bytes], separator: bytes) -> Iterator[bytes]:
    """Yield the pieces between separators of one byte; none after a separator at the end."""
    pieces: list[bytes] = []
    for block in blocks:
        first, *others = block.split(separator)
        pieces.append(first)
        if others:
            yield b"".join(pieces)
            yield from others[:-1]
            pieces = [others[-1]]
    if last := b"".join(pieces):
        yield last
