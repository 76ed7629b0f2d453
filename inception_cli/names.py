"""Names of files and classes as they can be shown, on a terminal and in a page alike."""

import unicodedata

#: Unicode's categories of what a terminal could obey or a reader would not see.
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def harmless(name: str) -> str:
    r"""A name as it can be shown: whatever a terminal would obey becomes `\x1b` and the like."""
    if name.isprintable():
        return name
    return "".join(_escape(char) if unicodedata.category(char) in HIDDEN else char for char in name)


def _escape(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte of a file name that is no UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape", "backslashreplace").decode()
