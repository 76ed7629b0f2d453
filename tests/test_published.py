"""Downloads from a loopback server: right, wrong, cut short, stalled, twice at once; and what lies in the caches."""

import gc
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import huggingface_hub.constants
import pytest
import torch
from lively import lively
from running import Inception

from inception_cli import published
from inception_cli.errors import InceptionError
from inception_cli.published import PUBLISHED, TORCHVISION, Published, fetch

BODY = bytes(range(256)) * 4000  # a million bytes
SHA256 = hashlib.sha256(BODY).hexdigest()
COMMIT = "0123456789" * 4


class Publisher(BaseHTTPRequestHandler):
    """A publisher's host: what it does stands in the path."""

    seen: ClassVar[Counter[str]] = Counter()

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        Publisher.seen[self.path] += 1
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        kind = self.path.split("/")[1]
        if kind == "missing":
            self.send_error(404)
        elif kind == "moved":
            self.send_response(302)
            self.send_header("Location", "/right/file.pth")
            self.end_headers()
        elif kind == "dropped":
            self.connection.close()
        else:
            self.send_file(kind, body)

    def send_file(self, kind: str, body: bool) -> None:
        if kind == "stalled":
            time.sleep(1.5)
        content = {"wrong": b"<html>login</html>", "cut": BODY[:300_000], "hub-wrong": b"x" * len(BODY)}.get(kind, BODY)
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY if kind == "cut" else content)))
        if kind.startswith("hub"):  # what the Hugging Face hub says of a large file
            self.send_header("ETag", f'"{SHA256}"')
            self.send_header("X-Linked-Etag", f'"{SHA256}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of torch and of the hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path


@pytest.fixture
def host() -> Iterator[str]:
    Publisher.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Publisher) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def entry(host: str, kind: str, sha256: str = SHA256[:8]) -> Published:
    return replace(TORCHVISION, url=f"{host}/{kind}/file.pth", filename="file.pth", sha256=sha256)


def quiet(name: str, done: int, total: int) -> None:
    pass


def left(folder: Path) -> list[str]:
    """Files that stayed, but for locks."""
    return sorted(file.name for file in folder.rglob("*") if file.is_file() and not file.name.endswith(".lock"))


@pytest.mark.parametrize("kind", ["right", "moved"])
def test_a_file_comes_whole_and_stays(kind: str, host: str, caches: Path) -> None:
    file = fetch(entry(host, kind), offline=False, report=quiet)

    assert file == caches / "torch/hub/checkpoints/file.pth"
    assert file.read_bytes() == BODY
    assert left(caches) == ["file.pth"]
    assert fetch(entry(host, kind), offline=True, report=quiet) == file
    assert Publisher.seen["/right/file.pth"] == 1


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("wrong", "wrong hash"),
        ("cut", "wrong hash"),
        ("missing", "404"),
        ("dropped", "cannot be fetched"),
        ("stalled", "no answer for"),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_does_not_come_whole_leaves_nothing(
    kind: str, said: str, host: str, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "TIMEOUT", 0.4)

    with pytest.raises(InceptionError) as refused:
        fetch(entry(host, kind), offline=False, report=quiet)

    message = str(refused.value)
    del refused
    gc.collect()  # urllib leaves the socket of a dropped connection to the collector, which warns
    assert said in message
    assert f"put {host}/{kind}/file.pth at {caches}/torch/hub/checkpoints/file.pth" in message
    assert "\n" not in message
    assert left(caches) == []


def test_a_host_that_is_not_there_is_one_line_with_the_cure(caches: Path) -> None:
    with pytest.raises(InceptionError, match=r"cannot be fetched .* put http://127\.0\.0\.1:9/right/file\.pth at"):
        fetch(entry("http://127.0.0.1:9", "right"), offline=False, report=quiet)


def test_offline_fetches_nothing(host: str) -> None:
    with pytest.raises(InceptionError, match="--offline"):
        fetch(entry(host, "right"), offline=True, report=quiet)

    assert not Publisher.seen


def test_a_cached_file_of_another_hash_is_refused(host: str, caches: Path) -> None:
    file = caches / "torch/hub/checkpoints/file.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(BODY[:-1])

    with pytest.raises(InceptionError, match="delete it, and it is fetched again"):
        fetch(entry(host, "right"), offline=False, report=quiet)


def test_what_a_killed_download_left_is_cleared(host: str, caches: Path) -> None:
    file = caches / "torch/hub/checkpoints/file.pth.0123.partial"
    file.parent.mkdir(parents=True)
    file.write_bytes(BODY[:1000])

    fetch(entry(host, "right"), offline=False, report=quiet)

    assert left(caches) == ["file.pth"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_two_processes_at_once_download_once(host: str, caches: Path) -> None:
    children = []
    for _ in range(2):
        if not (child := os.fork()):
            file = fetch(entry(host, "right"), offline=False, report=quiet)
            os._exit(0 if file.read_bytes() == BODY else 1)
        children.append(child)

    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert Publisher.seen == {"/right/file.pth": 1}
    assert left(caches) == ["file.pth"]


def test_progress_is_told(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int]] = []
    monkeypatch.setenv("HF_ENDPOINT", f"{host}/hub")

    fetch(PUBLISHED["timm-tf"], offline=False, report=lambda name, done, total: told.append((name, done)))

    assert told[-1] == ("timm-tf", len(BODY))


# The Hugging Face hub: a file's own sha256 is its etag.


def test_a_file_of_the_hub_is_checked_by_its_etag(host: str, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{host}/hub")

    file = fetch(PUBLISHED["timm-tf"], offline=False, report=quiet)

    assert file.read_bytes() == BODY
    assert file.resolve().name == SHA256
    assert published.place(PUBLISHED["timm-tf"]) == file
    assert fetch(PUBLISHED["timm-tf"], offline=True, report=quiet) == file


def test_another_file_than_the_hub_announced_is_refused(
    host: str, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{host}/hub-wrong")

    with pytest.raises(InceptionError):
        fetch(PUBLISHED["timm-gluon"], offline=False, report=quiet)

    assert published.local(PUBLISHED["timm-gluon"]) is None


def test_a_published_sha256_wins_over_the_hubs_word(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{host}/hub")

    with pytest.raises(InceptionError, match=r"not 9c452c63… as published"):
        fetch(PUBLISHED["timm-tv"], offline=False, report=quiet)


def test_a_file_put_there_by_hand_needs_a_hash(caches: Path) -> None:
    file = published.place(PUBLISHED["timm-adv"])
    file.parent.mkdir(parents=True)
    file.write_bytes(BODY)

    with pytest.raises(InceptionError, match="nothing is accepted without a hash"):
        fetch(PUBLISHED["timm-adv"], offline=True, report=quiet)


# The command, with torchvision's cached file.


@pytest.fixture
def cached(caches: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up file in torchvision's cache, and an entry that knows its hash."""
    file = caches / "torch/hub/checkpoints" / TORCHVISION.filename
    file.parent.mkdir(parents=True)
    torch.save(lively().state_dict(), file)
    for name in ("torchvision", "mmpretrain"):
        monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], sha256=published.sha256(file)[:8]))
    return file


def test_a_cached_file_is_found_and_used_offline(cached: Path, photos: Path, inception: Inception) -> None:
    facts = json.loads(inception("info", "--json").out)
    here = {each["name"]: each["path"] for each in facts["weights"] if each["cached"]}
    ended = inception("classify", photos / "a", "--offline", "-j", 0, "-o", "-", "--precision", "fp32")

    assert here == {"torchvision": str(cached), "mmpretrain": str(cached), "demo": str(published.demo())}
    assert ended.code == 0
    assert len(ended.out.splitlines()) == 9
    assert "taken" not in ended.err  # nothing was taken for granted


def test_two_names_share_one_file_and_differ_in_pixels(cached: Path, inception: Inception) -> None:
    facts = json.loads(inception("info", "-w", "torchvision", "-w", "mmpretrain", "--json").out)

    one, other = facts["weights"]
    assert (one["sha256"], one["top1"], other["top1"]) == (other["sha256"], 77.294, 77.57)
    assert (one["preset"], other["preset"]) == ("torchvision", "mmpretrain")


def test_without_the_file_and_offline_there_is_one_line(
    photos: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCEPTION_OFFLINE", "1")

    ended = inception("classify", photos, "-o", "-")

    assert ended.code == 1
    assert len(ended.err.strip().splitlines()) == 1
    assert TORCHVISION.url in ended.err
