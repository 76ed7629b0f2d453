"""Download published weights once, completely, and check their hash."""

import fcntl
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from inception_cli.errors import InceptionError, one_line
from inception_cli.files.hashing import sha256
from inception_cli.weights import hub
from inception_cli.weights.registry import Published

#: Seconds without data after which a download is given up: torch's function has no timeout of its own.
TIMEOUT = 30.0

#: Called during a download with the name, the bytes so far and the total bytes (0: unknown).
DownloadProgress = Callable[[str, int, int], None]


def ignore_progress(name: str, done: int, total: int) -> None:
    """Show no download progress."""


class UnknownHash(InceptionError):
    """A file of the hub is in the cache, but its hash is not known, so it is not accepted."""


def find_cached(entry: Published) -> Path | None:
    """Return the file in torchvision's cache (`TORCH_HOME`) or the hub's (`HF_HOME`); None when it is not there."""
    if entry.repo:
        return hub.find_in_cache(entry.hub_file)
    file = _torch_cache() / entry.filename
    return file if file.is_file() else None


def cached_path(entry: Published) -> Path:
    """Return the path of the file in the cache; when it is not there, the path to put it at by hand."""
    return find_cached(entry) or _torch_cache() / (entry.filename if entry.url else f"{entry.name}.safetensors")


def fetch(entry: Published, offline: bool, progress: DownloadProgress) -> Path:
    """Return the file of published weights, downloaded unless it is in the cache; its hash is checked either way.

    A failed download leaves no file. InceptionError names the file and the remedy: no network, a wrong hash, `offline`.
    """
    file = cached_path(entry)
    if file.is_file():
        actual = sha256(file)
        require_hash(file, actual, _expected_hash(entry, file, actual, offline))
        return file
    if offline:
        raise _unavailable(entry, "not on this machine, and offline is set")
    try:
        expected = _download(entry, file, progress)
    except Exception as error:  # urllib, http, socket, ssl and the hub each have their own
        raise _unavailable(entry, download_failure(error)) from error
    file = cached_path(entry)
    try:
        require_hash(file, sha256(file), expected)
    except InceptionError:
        file.resolve().unlink()
        file.unlink(missing_ok=True)  # in the hub's cache a link to the file
        raise
    return file


def _download(entry: Published, file: Path, progress: DownloadProgress) -> str:
    """Download a file into torchvision's cache or the hub's, and return the hash that it must have."""
    if entry.url:
        _download_from_url(entry, file, progress)
        return entry.sha256
    expected = entry.sha256 or hub.request_sha256(entry.hub_file, TIMEOUT)
    hub.download(entry.hub_file, entry.name, TIMEOUT, progress)
    return expected


def _download_from_url(entry: Published, file: Path, progress: DownloadProgress) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive(file):
        if file.is_file():  # downloaded by another process in the meantime
            return
        for partial in file.parent.glob(f"{file.name}.*.partial"):  # of a killed download: this process has the lock
            partial.unlink()
        with _socket_timeout(), _report_partial_size(file, progress):
            torch.hub.download_url_to_file(entry.url, str(file), entry.sha256, progress=False)


def _expected_hash(entry: Published, file: Path, actual: str, offline: bool) -> str:
    """Return the hash that a cached file must have: as published, else recorded before, else requested from the hub.

    `actual` is the file's own. When it is not the recorded one, the hub may have a newer file, and is asked again.
    """
    expected = entry.sha256 or hub.recorded_sha256(entry.hub_file)
    if entry.sha256 or actual == expected or (expected and offline):
        return expected
    refusal = f"{file}: no hash is known for this file, so it is not accepted"
    remedy = f"or give the file itself as weights, with preset {entry.preset}"
    if offline:
        raise UnknownHash(f"{refusal} offline; run once without offline to get the hash from the hub, {remedy}")
    try:
        return hub.request_sha256(entry.hub_file, TIMEOUT)
    except Exception as error:  # the hub has many, and they have no common class
        if expected:
            return expected
        raise UnknownHash(f"{refusal} ({one_line(error, limit=60)}); connect to the hub once, {remedy}") from error


def require_hash(file: Path, actual: str, expected: str) -> None:
    """Raise InceptionError unless a hash is the expected one, or begins with it."""
    if not (expected and actual.startswith(expected)):
        # In the hub's cache the file is a link, and deleting the link would not delete the file.
        raise InceptionError(
            f"{file.resolve()}: its sha256 is {actual[:8]}…, but {expected[:8]}… is published; "
            "delete it to download it again"
        )


def _unavailable(entry: Published, reason: str) -> InceptionError:
    if entry.sha256:
        remedy = f"put {entry.source} at {cached_path(entry)}, or give a file (or demo) as weights"
    else:  # put there by hand, it would have no known hash
        remedy = f"connect once, or download {entry.source} and give the file as weights, with preset {entry.preset}"
    return InceptionError(f"{entry.name}: {reason}; {remedy}")


def download_failure(error: Exception) -> str:
    """Return in a few words why a download failed."""
    text = one_line(error, limit=80)
    if isinstance(error, TimeoutError) or "timed out" in text:
        return f"download failed: no data for {TIMEOUT:.0f} s"
    if "invalid hash value" in text:
        return "download failed: wrong hash (replaced by a proxy, or cut short)"
    reason = text.removeprefix("<urlopen error ").removesuffix(">")
    return f"download failed ({reason})"


def _torch_cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


@contextmanager
def _exclusive(file: Path) -> Iterator[None]:
    """Let one process at a time download `file`; the others wait."""
    lock = file.with_name(file.name + ".lock")
    with lock.open("w") as stream:
        fcntl.lockf(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def _socket_timeout() -> Iterator[None]:
    """Set TIMEOUT for new connections."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _report_partial_size(file: Path, progress: DownloadProgress) -> Iterator[None]:
    """Report the size of the unfinished download: torch's function has no callback, but writes `FILE.*.partial`."""
    done = threading.Event()

    def poll() -> None:
        while not done.wait(0.2):
            for partial in file.parent.glob(f"{file.name}.*.partial"):
                with suppress(FileNotFoundError):  # renamed since, for it is complete
                    progress(file.name, partial.stat().st_size, 0)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
