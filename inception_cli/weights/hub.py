"""The Hugging Face hub: its cache, downloads, and the hashes of files as the hub gives them over HTTPS."""

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from inception_cli.errors import InceptionError
from inception_cli.files.cache import add_to_cache, in_cache_folder, read_cache
from inception_cli.weights.registry import HubFile, hub_endpoint

#: Hosts of this machine, whose responses nobody else can alter.
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
COMMIT = re.compile("[0-9a-f]{40}")
_SHA256 = re.compile("[0-9a-f]{64}")
#: The hub knows large files by their SHA-256, and small ones by Git's SHA-1.
_HASH = re.compile("[0-9a-f]{64}|[0-9a-f]{40}")


def find_in_cache(file: HubFile) -> Path | None:
    """Return the file in the hub's cache (`HF_HOME`); None when it is not there."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(file.repo, file.filename, revision=file.revision)
    return Path(cached) if isinstance(cached, str) else None


def download(file: HubFile, name: str, timeout: float, progress: Callable[[str, int, int], None]) -> Path:
    """Download a file into the hub's cache, called `name` in the progress; raises the hub's own exceptions."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError
    from tqdm import tqdm

    class CallbackBar(tqdm):  # type: ignore[misc]
        """Pass the hub's progress to the callback instead of drawing a bar."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})
            self.total, self.n = kwargs.get("total"), kwargs.get("initial", 0)

        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0
            progress(name, int(self.n), int(self.total or 0))
            return None

    try:
        with _errors_only():
            cached = hf_hub_download(
                file.repo,
                file.filename,
                revision=file.revision,
                endpoint=hub_endpoint(),
                etag_timeout=timeout,
                tqdm_class=CallbackBar,
            )
    except LocalEntryNotFoundError as error:  # "An error happened": the cause is the hub's answer, or the connection's
        raise error.__cause__ or error from None
    return Path(cached)


def request_commit(file: HubFile, timeout: float) -> str:
    """Return the commit that a file's revision is at the moment; raises the hub's own exceptions."""
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.errors import FileMetadataError

    with _errors_only():
        commit = get_hf_file_metadata(file.url, timeout=timeout, endpoint=hub_endpoint()).commit_hash or ""
    if not COMMIT.fullmatch(commit):  # such as the login page of a public Wi-Fi network
        raise FileMetadataError("the response is not from a Hugging Face hub: it names no commit")
    return commit


def request_hash(file: HubFile, timeout: float) -> str:
    """Return the hash that the hub gives for a file, and record it in the program's cache folder.

    It is the SHA-256 of a large file, and Git's SHA-1 of a small one. Raises InceptionError when the connection can be
    altered on its way or the hub gives no hash, and the hub's own exceptions when it cannot be reached.
    """
    from huggingface_hub import get_hf_file_metadata

    address = urlsplit(file.url)
    if address.scheme != "https" and address.hostname not in _LOCAL_HOSTS:
        raise InceptionError(f"HF_ENDPOINT {hub_endpoint()} is not https, so its hashes are not accepted")
    with _errors_only():
        etag = get_hf_file_metadata(file.url, timeout=timeout, endpoint=hub_endpoint()).etag or ""
    if not _HASH.fullmatch(etag):
        raise InceptionError("the hub gives no SHA-256 of the file")
    add_to_cache(_hashes_file(), file.url, etag)
    return etag


def request_sha256(file: HubFile, timeout: float) -> str:
    """Return the SHA-256 that the hub gives for a file, as `request_hash` does."""
    if not _SHA256.fullmatch(etag := request_hash(file, timeout)):
        raise InceptionError("the hub gives no SHA-256 of the file")
    return etag


def recorded_hash(file: HubFile) -> str:
    """Return the hash that the hub gave for a file before; empty when there is none."""
    recorded = read_cache(_hashes_file()).get(file.url)
    return recorded if isinstance(recorded, str) and _HASH.fullmatch(recorded) else ""


def recorded_sha256(file: HubFile) -> str:
    """Return the SHA-256 that the hub gave for a file before; empty when there is none."""
    recorded = recorded_hash(file)
    return recorded if _SHA256.fullmatch(recorded) else ""


def _hashes_file() -> Path:
    """Return the file of hashes by URL. The hub's own cache is not trusted: others may write to a shared one."""
    return in_cache_folder("hashes.json")


@contextmanager
def _errors_only() -> Iterator[None]:
    """Mute the hub's warnings, such as of a full disk, which would precede the one line of an error."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logger.setLevel(before)
