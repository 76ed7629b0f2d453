"""Escape the names of files and classes: for display, in a terminal and in HTML, for commands, and for predictions."""

import os
import re
import shlex
import unicodedata

#: Unicode categories of characters that a terminal interprets or that are invisible.
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})

_NOT_TEXT = re.compile("[\0\udc80-\udcff]")
_ESCAPED_BYTE = re.compile(r"\\x([89a-f][0-9a-f])")


def harmless(name: str) -> str:
    r"""Return the name with every character that a terminal would interpret escaped, as `\x1b`."""
    if name.isprintable():
        return name
    return "".join(_escape(char) if unicodedata.category(char) in HIDDEN else char for char in name)


def _escape(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte of a file name that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape", "backslashreplace").decode()


def shell_path(path: str) -> str:
    """Return a path as an argument of a shell command; `./` goes before a leading dash, which would start an option."""
    return shlex.quote(f"./{path}" if path.startswith("-") else path)


def escape_bytes(text: str) -> str:
    r"""Return `text` as a file of predictions holds it: bytes that are not UTF-8, and NUL, escaped as `\xNN`."""
    if text.isascii() and "\0" not in text:
        return text
    escaped = _NOT_TEXT.sub(lambda match: f"\\x{ord(match[0]) & 0xFF:02x}", text)
    return escaped.encode("utf-8", "backslashreplace").decode()


def unescape_bytes(text: str) -> str:
    r"""Return a file name with the bytes that `\xNN` stands for; see escape_bytes."""
    return _ESCAPED_BYTE.sub(lambda byte: chr(0xDC00 + int(byte[1], 16)), text)


def existing_path(path: str) -> str:
    r"""Return the path of a row as its file has it: with the bytes that `\xNN` stands for, if only that file exists."""
    raw = unescape_bytes(path)
    return raw if raw != path and os.path.lexists(raw) and not os.path.lexists(path) else path
