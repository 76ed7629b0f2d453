"""Weights that somebody published: what they score, where they are, and how they get here, once and whole."""

import fcntl
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from inception_cli.errors import InceptionError

#: Seconds that a connection may be silent: torch's function has no bound of its own.
TIMEOUT = 30.0

#: What is told while a file comes: its name, bytes so far, bytes in all (0: not known).
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Published:
    """One entry: accuracies are the publisher's own, in percent, on ImageNet's 50,000 validation images, one crop."""

    name: str
    preset: str
    top1: float
    top5: float
    licence: str
    filename: str
    url: str = ""  # of the file, or
    repo: str = ""  # a repository of the Hugging Face hub, where the file's own sha256 is its etag
    revision: str = "main"
    sha256: str = ""  # as published: whole, or a prefix; of the hub's files also none

    @property
    def source(self) -> str:
        """Where the file is, for people."""
        return self.url or f"{hub_endpoint()}/{self.repo}/resolve/{self.revision}/{self.filename}"


TORCHVISION = Published(
    name="torchvision",
    preset="torchvision",
    top1=77.294,
    top5=93.450,
    licence="BSD-3-Clause",
    filename="inception_v3_google-0cc3c7bd.pth",
    url="https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",
    sha256="0cc3c7bd",
)


def _timm(name: str, tag: str, top1: float, top5: float, preset: str = "timm", sha256: str = "") -> Published:
    repo = f"timm/inception_v3.{tag}"
    return Published(name, preset, top1, top5, "Apache-2.0", "model.safetensors", repo=repo, sha256=sha256)


TIMM_TV_SHA256 = "9c452c63a67fd03a38a78c401ba12d4be0e926df63c93403de3a29f6df20fefb"

#: mmpretrain's row is torchvision's file seen through mmpretrain's pixels: openmmlab converted it, name by name.
PUBLISHED: dict[str, Published] = {
    entry.name: entry
    for entry in (
        TORCHVISION,
        replace(TORCHVISION, name="mmpretrain", preset="mmpretrain", top1=77.57, top5=93.58),
        _timm("timm-tv", "tv_in1k", 77.472, 93.468, sha256=TIMM_TV_SHA256),
        _timm("timm-tf", "tf_in1k", 77.866, 93.644),
        _timm("timm-adv", "tf_adv_in1k", 77.598, 93.726),
        _timm("timm-gluon", "gluon_in1k", 78.806, 94.372, preset="timm-gluon"),
    )
}


#: The weights that come with this package: ten classes of groceries, for a first try without any download.
DEMO = "demo"


def demo() -> Path:
    """The file of the bundled weights."""
    return Path(str(files("inception_cli"))) / DEMO / "demo.safetensors"


def hub_endpoint() -> str:
    """The Hugging Face hub, or the mirror that `HF_ENDPOINT` names."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def local(entry: Published) -> Path | None:
    """The file on this machine, in torchvision's cache (`TORCH_HOME`) or the hub's (`HF_HOME`); None: not here."""
    if not entry.repo:
        file = _torch_cache() / entry.filename
        return file if file.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(entry.repo, entry.filename, revision=entry.revision)
    return Path(found) if isinstance(found, str) else None


def place(entry: Published) -> Path:
    """Where the file lies on this machine, or where it can be put by hand."""
    return local(entry) or _torch_cache() / (entry.filename if entry.url else f"{entry.name}.safetensors")


def fetch(entry: Published, offline: bool, report: Report) -> Path:
    """The file, from this machine or, once, from its publisher; nothing stays that is not whole and of the right hash.

    InceptionError that names the place and the cure for no network, another file, a broken connection.
    """
    file = place(entry)
    if file.is_file():
        _check(entry, file)
        return file
    if offline:
        raise _cannot(entry, "--offline, and it is not on this machine")
    try:
        _download(entry, file, report) if entry.url else _download_from_hub(entry, report)
    except Exception as error:  # urllib, http, socket, ssl, the hub's own: each means that it did not come
        raise _cannot(entry, _reason(error)) from error
    file = place(entry)
    try:
        _check(entry, file)
    except InceptionError:
        file.resolve().unlink()
        file.unlink(missing_ok=True)  # the hub's cache names the file by a link
        raise
    return file


def _download(entry: Published, file: Path, report: Report) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with _alone(file):
        if file.is_file():  # another process was first
            return
        for left in file.parent.glob(f"{file.name}.*.partial"):  # by a download that was killed: this one has the lock
            left.unlink()
        with _timeout(), _reporting(file, report):
            torch.hub.download_url_to_file(entry.url, str(file), entry.sha256, progress=False)


def _download_from_hub(entry: Published, report: Report) -> None:
    from huggingface_hub import hf_hub_download
    from tqdm import tqdm

    class Reporting(tqdm):  # type: ignore[misc]
        """The hub's progress, told instead of drawn."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})
            self.total, self.n = kwargs.get("total"), kwargs.get("initial", 0)

        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0
            report(entry.name, int(self.n), int(self.total or 0))
            return None

    hf_hub_download(
        entry.repo,
        entry.filename,
        revision=entry.revision,
        endpoint=hub_endpoint(),
        etag_timeout=TIMEOUT,
        tqdm_class=Reporting,
    )


def _check(entry: Published, file: Path) -> None:
    """The published hash, whole or its prefix; without one that of the hub, whose caches name a file by its sha256."""
    blob = file.resolve().name
    expected = entry.sha256 or (blob if len(blob) == 64 else "")
    if not expected:
        raise InceptionError(f"{file}: nothing is accepted without a hash, and none is known; use --weights {file}")
    found = sha256(file)
    if not found.startswith(expected):
        raise InceptionError(
            f"{file}: sha256 is {found[:8]}…, not {expected[:8]}… as published: delete it, and it is fetched again"
        )


def sha256(file: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _cannot(entry: Published, reason: str) -> InceptionError:
    return InceptionError(
        f"{entry.name}: {reason}: put {entry.source} at {place(entry)}, or use --weights FILE (or demo)"
    )


def _reason(error: Exception) -> str:
    """What went wrong with a download, in a few words."""
    text = " ".join(str(error).split())
    if isinstance(error, TimeoutError) or "timed out" in text:
        return f"no answer for {TIMEOUT:.0f} s"
    if "invalid hash value" in text:
        return "what came is not the published file (wrong hash; a proxy, or cut short)"
    return f"it cannot be fetched ({text[:120] or type(error).__name__})"


def _torch_cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """One process at a time makes `file`; the others wait."""
    lock = file.with_name(file.name + ".lock")
    with lock.open("w") as stream:
        fcntl.lockf(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def _timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _reporting(file: Path, report: Report) -> Iterator[None]:
    """Tell how much of `file` has come: torch's function tells nobody, so look at what it writes beside it."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.2):
            for partial in file.parent.glob(f"{file.name}.*.partial"):
                report(file.name, partial.stat().st_size, 0)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
