"""Hashes of a file: SHA-256, and the one that Git gives it."""

import hashlib
from pathlib import Path


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def git_sha1(file: Path) -> str:
    """Return the SHA-1 of a file as a Git blob, 40 hex digits: of its length in a header, then of its bytes."""
    data = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
