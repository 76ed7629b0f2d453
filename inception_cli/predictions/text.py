"""Escape the names of files and classes for display, in a terminal and in HTML alike."""

import unicodedata

#: Unicode categories of characters that a terminal interprets or that are invisible.
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def harmless(name: str) -> str:
    r"""Return the name with every character that a terminal would interpret escaped, as `\x1b`."""
    if name.isprintable():
        return name
    return "".join(_escape(char) if unicodedata.category(char) in HIDDEN else char for char in name)


def _escape(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte of a file name that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape", "backslashreplace").decode()
