"""Downloads from a local server: complete, wrong, truncated, stalled, two at once; and files in the caches."""

import errno
import fcntl
import gc
import hashlib
import json
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any, ClassVar
from unittest import mock

import huggingface_hub.constants
import pytest
import torch
from lively import lively
from running import Inception

from inception_cli.errors import InceptionError
from inception_cli.files import cache
from inception_cli.files.hashing import sha256
from inception_cli.weights import download
from inception_cli.weights.download import cached_path, fetch, find_cached, ignore_progress
from inception_cli.weights.registry import PUBLISHED, TORCHVISION, Published, demo_file

BODY = bytes(range(256)) * 4000  # a million bytes
SHA256 = hashlib.sha256(BODY).hexdigest()
COMMIT = "0123456789" * 4


class Publisher(BaseHTTPRequestHandler):
    """The server of a publisher; the first part of the path says how it responds."""

    requests: ClassVar[Counter[str]] = Counter()

    def do_HEAD(self) -> None:
        self.respond(body=False)

    def do_GET(self) -> None:
        Publisher.requests[self.path] += 1
        self.respond(body=True)

    def respond(self, body: bool) -> None:
        kind = self.path.split("/")[1]
        if kind == "missing":
            self.send_error(404)
        elif kind == "redirected":
            self.send_response(302)
            self.send_header("Location", "/complete/file.pth")
            self.end_headers()
        elif kind == "dropped":
            self.connection.close()
        else:
            self.send_file(kind, body)

    def send_file(self, kind: str, body: bool) -> None:
        if kind == "stalled":
            time.sleep(1.5)
        content = {"wrong": b"<html>login</html>", "truncated": BODY[:300_000], "hub-wrong": b"x" * len(BODY)}.get(
            kind, BODY
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY if kind == "truncated" else content)))
        if kind.startswith("hub"):  # the headers of the Hugging Face hub for a large file
            etag = SHA256[:40] if kind == "hub-git" else SHA256  # files outside of LFS have git's SHA-1
            self.send_header("ETag", f'"{etag}"')
            self.send_header("X-Linked-Etag", f'"{etag}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-HF-Warning", "Authentication; please log in")
        self.end_headers()
        if body:
            self.wfile.write(content)
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create empty caches of torch, of the hub and of this program; return the folder that holds them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path


@pytest.fixture(scope="module", autouse=True)
def _collect_quickly() -> Iterator[None]:
    """Exempt what is there from the garbage collections of the tests, which would take 0.5 s each."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def host() -> Iterator[str]:
    """Start a publisher's server; return its URL."""
    Publisher.requests.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Publisher) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def entry(host: str, kind: str, sha256: str = SHA256[:8]) -> Published:
    return replace(TORCHVISION, url=f"{host}/{kind}/file.pth", filename="file.pth", sha256=sha256)


def files_in(folder: Path) -> list[str]:
    """Return the names of all files below a folder, except lock files and recorded hashes."""
    return sorted(
        file.name for file in folder.rglob("*") if file.is_file() and not file.name.endswith((".lock", "hashes.json"))
    )


@pytest.mark.parametrize("kind", ["complete", "redirected"])
def test_file_is_downloaded_once_and_cached(kind: str, host: str, caches: Path) -> None:
    file = fetch(entry(host, kind), offline=False, progress=ignore_progress)

    assert file == caches / "torch/hub/checkpoints/file.pth"
    assert file.read_bytes() == BODY
    assert files_in(caches) == ["file.pth"]
    assert fetch(entry(host, kind), offline=True, progress=ignore_progress) == file
    assert Publisher.requests["/complete/file.pth"] == 1


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("wrong", "wrong hash"),
        ("truncated", "wrong hash"),
        ("missing", "404"),
        ("dropped", "download failed"),
        ("stalled", "no data for"),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_failed_download_leaves_no_file(
    kind: str, reason: str, host: str, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.4)

    with pytest.raises(InceptionError) as raised:
        fetch(entry(host, kind), offline=False, progress=ignore_progress)

    message = str(raised.value)
    del raised
    gc.collect()  # urllib leaves the socket of a dropped connection to the garbage collector, which warns
    assert reason in message
    assert f"put {host}/{kind}/file.pth at {caches}/torch/hub/checkpoints/file.pth" in message
    assert "\n" not in message
    assert files_in(caches) == []


def test_unreachable_server_is_one_line_with_the_remedy(caches: Path) -> None:
    with pytest.raises(
        InceptionError,
        match=r"download failed \(\[Errno \d+\] Connection refused\); put http://127\.0\.0\.1:9/complete/file\.pth at",
    ):
        fetch(entry("http://127.0.0.1:9", "complete"), offline=False, progress=ignore_progress)


def test_offline_downloads_nothing(host: str) -> None:
    with pytest.raises(InceptionError, match="not on this machine, and offline is set"):
        fetch(entry(host, "complete"), offline=True, progress=ignore_progress)

    assert not Publisher.requests


def test_cached_file_with_another_hash_is_refused(host: str, caches: Path) -> None:
    file = caches / "torch/hub/checkpoints/file.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(BODY[:-1])

    with pytest.raises(InceptionError, match="delete it to download it again"):
        fetch(entry(host, "complete"), offline=False, progress=ignore_progress)


def test_partial_file_of_a_killed_download_is_removed(host: str, caches: Path) -> None:
    file = caches / "torch/hub/checkpoints/file.pth.0123.partial"
    file.parent.mkdir(parents=True)
    file.write_bytes(BODY[:1000])

    fetch(entry(host, "complete"), offline=False, progress=ignore_progress)

    assert files_in(caches) == ["file.pth"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_two_processes_download_a_file_once(host: str, caches: Path) -> None:
    children = []
    for _ in range(2):
        if not (child := os.fork()):
            file = fetch(entry(host, "complete"), offline=False, progress=ignore_progress)
            os._exit(0 if file.read_bytes() == BODY else 1)
        children.append(child)

    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert Publisher.requests == {"/complete/file.pth": 1}
    assert files_in(caches) == ["file.pth"]


def test_progress_callback_gets_the_downloaded_bytes(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []
    monkeypatch.setenv("HF_ENDPOINT", f"{host}/hub")

    fetch(PUBLISHED["timm-tf"], offline=False, progress=lambda name, done, total: calls.append((name, done)))

    assert calls[-1] == ("timm-tf", len(BODY))


# The Hugging Face hub: the etag of a file is its sha256.


def test_file_of_the_hub_is_checked_against_its_etag(host: str, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{host}/hub")

    file = fetch(PUBLISHED["timm-tf"], offline=False, progress=ignore_progress)

    assert file.read_bytes() == BODY
    assert file.resolve().name == SHA256
    assert cached_path(PUBLISHED["timm-tf"]) == file
    assert fetch(PUBLISHED["timm-tf"], offline=True, progress=ignore_progress) == file


def test_file_that_does_not_match_the_hubs_etag_is_refused(
    host: str, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{host}/hub-wrong")

    with pytest.raises(InceptionError):
        fetch(PUBLISHED["timm-gluon"], offline=False, progress=ignore_progress)

    assert find_cached(PUBLISHED["timm-gluon"]) is None


def test_published_sha256_is_checked_instead_of_the_etag(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{host}/hub")

    with pytest.raises(InceptionError, match=r"but 9c452c63… is published"):
        fetch(PUBLISHED["timm-tv"], offline=False, progress=ignore_progress)


def put_into_hub_cache(caches: Path, content: bytes, name: str = "timm-tf", blob: str | None = None) -> Path:
    """Put a file into the hub's cache, under the names that it would have as a download."""
    folder = caches / "hub" / f"models--{PUBLISHED[name].repo.replace('/', '--')}"
    for part in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "refs/main").write_text(COMMIT)
    stored = folder / "blobs" / (blob or hashlib.sha256(content).hexdigest())
    stored.write_bytes(content)
    link = folder / "snapshots" / COMMIT / PUBLISHED[name].filename
    link.unlink(missing_ok=True)
    link.symlink_to(stored)
    return link


def use_hub(monkeypatch: pytest.MonkeyPatch, host: str, kind: str = "hub") -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{host}/{kind}")


def recorded(caches: Path) -> dict[str, str]:
    """Return the hashes in the program's own cache folder."""
    hashes: dict[str, str] = json.loads((caches / "own/inception-cli/hashes.json").read_text())
    return hashes


def fetch_tf(offline: bool) -> Path:
    return fetch(PUBLISHED["timm-tf"], offline, ignore_progress)


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("blob", [None, SHA256])
def test_planted_file_is_refused(
    blob: str | None, offline: bool, host: str, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, host)
    file = put_into_hub_cache(caches, b"planted", blob=blob)

    with pytest.raises(InceptionError) as error:
        fetch_tf(offline)

    if offline:
        assert str(error.value) == (
            f"{file}: no hash is known for this file, so it is not accepted offline; run once without offline to get "
            "the hash from the hub, or give the file itself as weights, with preset timm"
        )
    else:
        actual = hashlib.sha256(b"planted").hexdigest()[:8]
        assert str(error.value) == (
            f"{file.resolve()}: its sha256 is {actual}…, but {SHA256[:8]}… is published; delete it to download it again"
        )


def test_file_that_is_planted_after_the_download_is_refused(
    host: str, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, host)
    fetch_tf(offline=False)
    put_into_hub_cache(caches, b"planted")

    for offline in (True, False):
        with pytest.raises(InceptionError, match=rf"but {SHA256[:8]}… is published"):
            fetch_tf(offline)


def test_following_the_remedy_downloads_the_file_again(
    host: str, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, host)
    put_into_hub_cache(caches, b"planted", blob=SHA256)
    with pytest.raises(InceptionError) as error:
        fetch_tf(offline=False)

    Path(str(error.value).partition(": its sha256")[0]).unlink()

    assert fetch_tf(offline=False).read_bytes() == BODY


def test_file_of_an_earlier_download_is_accepted_once_the_hub_gives_its_hash(
    host: str, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, host)
    file = put_into_hub_cache(caches, BODY)

    assert fetch_tf(offline=False) == file
    assert not Publisher.requests  # of the file; the hash is in the response to a HEAD
    assert recorded(caches) == {PUBLISHED["timm-tf"].source: SHA256}
    assert fetch_tf(offline=True) == file


def test_hashes_are_recorded_by_url_beside_each_other(host: str, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, host)

    for name in ("timm-tf", "timm-adv"):
        fetch(PUBLISHED[name], offline=False, progress=ignore_progress)

    assert recorded(caches) == {PUBLISHED[name].source: SHA256 for name in ("timm-tf", "timm-adv")}
    use_hub(monkeypatch, host, "hub-other")  # whose hashes may be others
    with pytest.raises(InceptionError, match="no hash is known"):
        fetch_tf(offline=True)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_hashes_are_locked_from_reading_to_writing(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, read_cache, held = caches / "own/inception-cli/hashes.json", cache.read_cache, []

    def try_lock(file: Path) -> dict[str, Any]:
        child = os.fork()
        if not child:
            with file.with_name("hashes.json.lock").open("r+") as lock:
                try:
                    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os._exit(7)
            os._exit(0)
        held.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7)
        return read_cache(file)

    monkeypatch.setattr(cache, "read_cache", try_lock)
    for url in ("one", "two"):
        cache.add_to_cache(file, url, SHA256)

    assert held == [True, True]
    assert recorded(caches) == {"one": SHA256, "two": SHA256}


def test_hashes_are_recorded_where_files_cannot_be_locked(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "lockf", mock.Mock(side_effect=OSError(errno.ENOLCK, "No locks available")))

    cache.add_to_cache(caches / "own/inception-cli/hashes.json", "url", SHA256)

    assert recorded(caches) == {"url": SHA256}


def test_a_download_that_ends_while_its_size_is_read_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, failures, seen = list[str](), list[object](), Event()

    def glob(folder: Path, pattern: str) -> Iterator[Path]:
        listed.append(pattern)
        if len(listed) == 2:
            seen.set()
        return iter([folder / "file.pth.1.partial"])  # renamed to file.pth since

    def fail(arguments: object) -> None:
        failures.append(arguments)
        seen.set()

    monkeypatch.setattr(Path, "glob", glob)
    monkeypatch.setattr(threading, "excepthook", fail)

    with download._report_partial_size(tmp_path / "file.pth", ignore_progress):
        assert seen.wait(10)

    assert failures == []


def test_newer_file_of_the_hub_is_accepted(host: str, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, host)
    file = caches / "own/inception-cli/hashes.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({PUBLISHED["timm-tf"].source: "0" * 64}))
    put_into_hub_cache(caches, BODY)

    with pytest.raises(InceptionError, match=r"but 00000000… is published"):
        fetch_tf(offline=True)
    fetch_tf(offline=False)

    assert recorded(caches)[PUBLISHED["timm-tf"].source] == SHA256


@pytest.mark.parametrize("hashes", ["", "[]", "null", "{", '{"URL": ""}', '{"URL": "e"}', '{"URL": 7}', "[" * 100_000])
def test_damaged_hashes_accept_nothing(hashes: str, host: str, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, host)
    file = caches / "own/inception-cli/hashes.json"
    file.parent.mkdir(parents=True)
    file.write_text(hashes.replace("URL", PUBLISHED["timm-tf"].source))
    put_into_hub_cache(caches, b"planted")

    with pytest.raises(InceptionError, match="no hash is known"):
        fetch_tf(offline=True)


def test_cache_folder_that_is_not_writable_is_no_error(
    host: str, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, host)
    (caches / "own").touch()  # a file in place of the folder

    assert fetch_tf(offline=False).read_bytes() == BODY
    assert fetch_tf(offline=False).read_bytes() == BODY
    with pytest.raises(InceptionError, match="no hash is known"):
        fetch_tf(offline=True)


def test_hash_that_did_not_come_over_https_is_not_accepted(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.invalid")

    with pytest.raises(InceptionError, match=r"HF_ENDPOINT http://mirror\.invalid is not https"):
        fetch_tf(offline=False)
    put_into_hub_cache(caches, BODY)
    with pytest.raises(InceptionError, match=r"HF_ENDPOINT http://mirror\.invalid is not https"):
        fetch_tf(offline=False)


def test_warnings_of_the_hub_are_not_shown(host: str, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, host)
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", records.append)
    logger = logging.getLogger("huggingface_hub")
    logger.addHandler(handler)
    try:
        fetch_tf(offline=False)
    finally:
        logger.removeHandler(handler)

    assert [record.getMessage() for record in records] == []


def test_hub_that_gives_no_sha256_is_not_accepted(host: str, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub(monkeypatch, host, "hub-git")

    with pytest.raises(InceptionError, match="gives no SHA-256"):
        fetch_tf(offline=False)

    assert files_in(caches) == []


def test_published_hash_needs_no_record(caches: Path) -> None:
    put_into_hub_cache(caches, b"planted", name="timm-tv")

    with pytest.raises(InceptionError, match=r"but 9c452c63… is published"):
        fetch(PUBLISHED["timm-tv"], offline=True, progress=ignore_progress)


def test_file_that_was_put_by_hand_needs_a_known_hash(caches: Path) -> None:
    file = cached_path(PUBLISHED["timm-adv"])
    file.parent.mkdir(parents=True)
    file.write_bytes(BODY)

    with pytest.raises(InceptionError, match="no hash is known for this file"):
        fetch(PUBLISHED["timm-adv"], offline=True, progress=ignore_progress)


def test_info_lists_a_file_without_a_known_hash_and_asks_nobody(
    host: str, caches: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    put_into_hub_cache(caches, b"planted")

    ended = inception("info", "--json")

    assert ended.code == 0
    cached_files = [each["name"] for each in json.loads(ended.out)["weights"] if each["cached"]]
    assert cached_files == ["demo"]


@pytest.mark.usefixtures("caches")
def test_info_shows_the_preset_that_was_given_also_for_weights_that_are_not_here(inception: Inception) -> None:
    ended = inception("info", "--weights", "timm-tv", "--preset", "mmpretrain", "--json")

    (weights,) = json.loads(ended.out)["weights"]
    assert (weights["cached"], weights["preset"]) == (False, "mmpretrain")
    assert (weights["preset_resolved"]["resize"], weights["preset_resolved"]["antialias"]) == (342, False)


@pytest.mark.parametrize("planted", [True, False])
def test_unreachable_hub_is_one_line(
    planted: bool, caches: Path, photos: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    if planted:
        put_into_hub_cache(caches, b"planted")

    ended = inception("classify", photos, "-w", "timm-gluon" if not planted else "timm-tf", "-o", "-")

    assert ended.code == 1
    assert len(ended.err.strip().splitlines()) == 1
    assert "as weights" in ended.err
    assert len(ended.err) <= 300 + len(str(caches))


# The command, with a file in torchvision's cache.


@pytest.fixture
def cached(caches: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a made-up file into torchvision's cache, and its hash into the registry."""
    file = caches / "torch/hub/checkpoints" / TORCHVISION.filename
    file.parent.mkdir(parents=True)
    torch.save(lively().state_dict(), file)
    for name in ("torchvision", "mmpretrain"):
        monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], sha256=sha256(file)[:8]))
    return file


def test_cached_file_is_used_offline_without_notes(cached: Path, photos: Path, inception: Inception) -> None:
    description = json.loads(inception("info", "--json").out)
    cached_files = {each["name"]: each["path"] for each in description["weights"] if each["cached"]}
    ended = inception("classify", photos / "a/00.jpg", "--offline", "-j", 0, "-o", "-", "--precision", "fp32")

    assert cached_files == {"torchvision": str(cached), "mmpretrain": str(cached), "demo": str(demo_file())}
    assert ended.code == 0
    assert len(ended.out.splitlines()) == 2
    assert "used" not in ended.err  # no note on a preset or class names


def test_torchvision_and_mmpretrain_share_a_file_and_differ_in_preset(cached: Path, inception: Inception) -> None:
    description = json.loads(inception("info", "-w", "torchvision", "-w", "mmpretrain", "--json").out)

    first, second = description["weights"]
    assert (first["sha256"], first["top1"], second["top1"]) == (second["sha256"], 77.294, 77.57)
    assert (first["preset"], second["preset"]) == ("torchvision", "mmpretrain")


def test_missing_file_is_one_line_when_offline(
    photos: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCEPTION_OFFLINE", "1")

    ended = inception("classify", photos, "-o", "-")

    assert ended.code == 1
    assert len(ended.err.strip().splitlines()) == 1
    assert TORCHVISION.url in ended.err
