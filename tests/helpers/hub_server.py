"""A Hugging Face hub on this machine: repositories with commits, a private and a gated one."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar
from urllib.parse import unquote

FIRST, SECOND = "1" * 40, "2" * 40  # commits
TOKEN = "hf_good"


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does: hashes and commits in headers, and the reason of an error as a code."""

    #: Files by (repository, commit, name), and the commit of each (repository, branch or tag).
    files: ClassVar[dict[tuple[str, str, str], bytes]] = {}
    refs: ClassVar[dict[tuple[str, str], str]] = {}
    restricted: ClassVar[dict[str, str]] = {}  # "private" or "gated", by repository
    broken: ClassVar[bool] = False
    statuses: ClassVar[dict[str, int]] = {}  # with which all requests of a file are refused, by name
    login_page: ClassVar[bool] = False  # answers all requests as a public Wi-Fi network does
    git_only: ClassVar[bool] = False  # gives Git's hash for large files, too
    requests: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.respond(body=False)

    def do_GET(self) -> None:
        self.respond(body=True)

    def respond(self, body: bool) -> None:
        Hub.requests.append(f"{self.command} {self.path}")
        if Hub.login_page:
            return self.refuse(200, "")
        matched = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if not matched or Hub.broken:
            return self.refuse(500 if Hub.broken else 404, "")
        repo, revision, filename = matched[1], unquote(matched[2]), matched[3]
        if filename in Hub.statuses:
            return self.refuse(Hub.statuses[filename], "")
        if not any(known == repo for known, _ in Hub.refs):
            return self.refuse(401, "RepoNotFound")
        if repo in Hub.restricted and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            gated = Hub.restricted[repo] == "gated"
            return self.refuse(403 if gated else 401, "GatedRepo" if gated else "RepoNotFound")
        commit = Hub.refs.get((repo, revision), revision)
        if commit not in {known for name, known, _ in Hub.files if name == repo}:
            return self.refuse(404, "RevisionNotFound")
        if (content := Hub.files.get((repo, commit, filename))) is None:
            return self.refuse(404, "EntryNotFound", commit)
        return self.send(content, filename, commit, body)

    def send(self, content: bytes, filename: str, commit: str, body: bool) -> None:
        large = not filename.endswith(".json") and not Hub.git_only
        etag = hashlib.sha256(content).hexdigest() if large else git_sha1(content)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{etag}"')
        if large:
            self.send_header("X-Linked-Etag", f'"{etag}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def refuse(self, status: int, code: str, commit: str = "") -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        if commit:
            self.send_header("X-Repo-Commit", commit)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()


def publish(repo: str, files: dict[str, bytes], commit: str = FIRST, revision: str = "main") -> None:
    """Add a commit to a repository, to which a branch or tag then points."""
    Hub.files |= {(repo, commit, name): content for name, content in files.items()}
    Hub.refs[repo, revision] = commit


@contextmanager
def serve() -> Iterator[str]:
    """Start the hub without repositories; yield its URL."""
    Hub.files, Hub.refs, Hub.restricted, Hub.statuses, Hub.requests = {}, {}, {}, {}, []
    Hub.broken = Hub.login_page = Hub.git_only = False
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
