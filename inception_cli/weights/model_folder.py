"""Weights in timm's layout: `config.json` and tensors in a folder, or in a repository of the Hugging Face hub."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from inception_cli.errors import InceptionError, UsageError, one_line, os_errors, os_reason
from inception_cli.files.hashing import git_sha1, sha256
from inception_cli.weights import download, hub
from inception_cli.weights.download import DownloadProgress, download_failure, require_hash
from inception_cli.weights.read import FAMILIARITY_FILE
from inception_cli.weights.registry import FOLDER_PREFIX, HUB_PREFIX, HubFile, hub_endpoint
from inception_cli.weights.timm_config import CONFIG, WEIGHTS_FILES

_REPO = re.compile(r"[\w.-]+/[\w.-]+")
#: Errors of the disk, unlike those of the network: no room, or not writable.
_DISK_ERRORS = (*(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO), *(errno.EACCES, errno.EPERM, errno.EROFS))


@dataclass(frozen=True)
class WeightsFiles:
    """The files of weights, with a config.json if they are in timm's layout."""

    weights: Path
    source: str  # the path of the weights, or their URL; on the hub that of the commit
    config: Path | None = None
    notes: tuple[str, ...] = ()
    #: Put the statistics of the training photos beside the weights, if the repository has them.
    fetch_familiarity: Callable[[], None] = lambda: None


def find_model_folder(name: str, offline: bool, progress: DownloadProgress) -> WeightsFiles | None:
    """Return the files of `local-dir:DIR` or `hf-hub:USER/MODEL[@REVISION]`; None for the name of other weights.

    Files of the hub are downloaded into its cache (`HF_HOME`) unless they are there. Raises UsageError for a name of
    another form, and InceptionError for files that are missing or not available.
    """
    if name.startswith(FOLDER_PREFIX):
        return _find_local(name)
    if not name.startswith(HUB_PREFIX):
        return None
    repo, at, revision = name.removeprefix(HUB_PREFIX).partition("@")
    if not _REPO.fullmatch(repo) or (at and not revision) or ".." in f"{repo}@{revision}":
        raise UsageError(f"weights {name}: give {HUB_PREFIX}USER/MODEL, or {HUB_PREFIX}USER/MODEL@REVISION")
    with _hub_errors(name, repo, revision):
        return _HubModel(name, repo, revision or "main", offline or _hub_is_offline(), progress).find()


def _find_local(name: str) -> WeightsFiles:
    given = name.removeprefix(FOLDER_PREFIX)
    if not given.strip():
        raise UsageError(f"weights {name}: give the folder, {FOLDER_PREFIX}DIR")
    folder, remedy = Path(given), f"give one with {CONFIG} and {WEIGHTS_FILES[0]} in it"
    with suppress(RuntimeError):  # no user of the name in ~NAME
        folder = folder.expanduser()
    with os_errors(folder, remedy):
        if not folder.is_dir():
            raise InceptionError(f"{folder}: no such folder; {remedy}")
        if not os.access(folder, os.X_OK):  # before Python 3.14 `exists` raises PermissionError, then it is False
            raise InceptionError(f"{folder}: permission denied; {remedy}")
        found = [filename for filename in (CONFIG, *WEIGHTS_FILES) if (folder / filename).exists()]
    weights = next((folder / filename for filename in WEIGHTS_FILES if filename in found), None)
    if CONFIG not in found:
        raise InceptionError(f"{folder}: has no {CONFIG}; {_layout_remedy(weights)}")
    if weights is None:
        raise InceptionError(f"{folder}: has no {' or '.join(WEIGHTS_FILES)}; {_layout_remedy(weights)}")
    return WeightsFiles(weights, str(weights), folder / CONFIG)


def _layout_remedy(weights: Path | None) -> str:
    return f"give a folder in timm's layout, or the file of the weights itself{f', {weights}' if weights else ''}"


@dataclass(frozen=True)
class _HubModel:
    """A model on the hub at a revision, and how its files are fetched."""

    name: str  # as given by the user
    repo: str
    revision: str
    offline: bool
    progress: DownloadProgress

    def find(self) -> WeightsFiles:
        """Return its files at the commit that the revision is at; RemoteEntryNotFoundError without a config.json."""
        from huggingface_hub.errors import RemoteEntryNotFoundError

        commit, notes = self._find_commit()
        config = self._fetch(HubFile(self.repo, CONFIG, commit))
        for filename in WEIGHTS_FILES:
            file = HubFile(self.repo, filename, commit)
            if self.offline and not hub.find_in_cache(file):
                continue
            try:
                weights = self._fetch(file)
            except RemoteEntryNotFoundError:
                continue
            return WeightsFiles(weights, file.url, config, notes, lambda: self._fetch_familiarity(commit))
        if self.offline:
            raise self._not_here()
        raise InceptionError(f"{self.name}: has no {' or '.join(WEIGHTS_FILES)}; {_layout_remedy(None)}")

    def _find_commit(self) -> tuple[str, tuple[str, ...]]:
        """Return the commit that the revision is at, and notes: from the cache if the hub cannot be reached."""
        config = HubFile(self.repo, CONFIG, self.revision)
        cached = hub.find_in_cache(config)
        commit = cached.parent.name if cached else ""
        if commit and (self.offline or hub.COMMIT.fullmatch(self.revision)):
            return commit, ()
        if self.offline:
            raise self._not_here()
        try:
            latest = hub.request_commit(config, download.TIMEOUT)
        except Exception as error:
            if commit and _is_unreachable(error):
                return commit, (f"the hub cannot be reached: the copy on this machine is used, commit {commit}",)
            raise
        if latest != commit:  # the cache then knows the commit of a branch or tag
            latest = hub.download(config, self.name, download.TIMEOUT, self.progress).parent.name
        return latest, ()

    def _fetch(self, file: HubFile) -> Path:
        """Return a file at a commit, downloaded unless it is in the cache; its hash is checked either way."""
        path = hub.find_in_cache(file) or hub.download(file, self.name, download.TIMEOUT, self.progress)
        expected = hub.recorded_hash(file) or self._request_hash(file, path)
        require_hash(path, sha256(path) if len(expected) == 64 else git_sha1(path), expected)
        return path

    def _request_hash(self, file: HubFile, path: Path) -> str:
        """Return the hash that the hub gives for a file at a commit; InceptionError if it cannot be trusted."""
        refusal = f"{path}: no hash is known for this file, so it is not accepted"
        remedy = f"give a folder that you trust: {FOLDER_PREFIX}DIR"
        if self.offline:
            raise InceptionError(f"{refusal} offline; run once without offline to get it from the hub, or {remedy}")
        request = hub.request_hash if file.filename == CONFIG else hub.request_sha256
        try:
            return request(file, download.TIMEOUT)
        except InceptionError as error:
            raise InceptionError(f"{refusal} ({error}); {remedy}") from error

    def _fetch_familiarity(self, commit: str) -> None:
        """Fetch the statistics of the training photos, whose hash is in the metadata of the weights.

        If they are not available nothing happens: the only option that needs them says so.
        """
        file = HubFile(self.repo, FAMILIARITY_FILE, commit)
        if self.offline or hub.find_in_cache(file):
            return
        with suppress(Exception):  # httpx, ssl and the hub each have their own
            hub.download(file, self.name, download.TIMEOUT, self.progress)

    def _not_here(self) -> InceptionError:
        return InceptionError(
            f"{self.name}: not on this machine, and nothing is downloaded now; run inception classify PHOTO --weights "
            f"{self.name} once, without offline"
        )


def _hub_is_offline() -> bool:
    """Return whether the environment variable HF_HUB_OFFLINE is set."""
    from huggingface_hub.constants import is_offline_mode

    return is_offline_mode()


def _is_unreachable(error: Exception) -> bool:
    """Return whether an exception means that the hub did not respond, rather than that it refused."""
    from huggingface_hub.errors import HfHubHTTPError

    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    return not 400 <= status < 500 or status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


@contextmanager
def _hub_errors(name: str, repo: str, revision: str) -> Iterator[None]:
    """Turn an exception of the hub into an InceptionError with the reason and the remedy."""
    from huggingface_hub import errors
    from huggingface_hub.constants import HF_HUB_CACHE

    page, log_in = f"{hub_endpoint()}/{repo}", "log in (hf auth login, or the environment variable HF_TOKEN)"
    copy_the_files = f"copy the files of {page} into a folder and give {FOLDER_PREFIX}FOLDER"
    try:
        yield
    except InceptionError:
        raise
    except errors.GatedRepoError as error:
        raise InceptionError(f"{name}: is gated; accept its conditions at {page}, and {log_in}") from error
    except errors.RepositoryNotFoundError as error:
        raise InceptionError(f"{name}: {page} does not exist, or is private; correct the name, or {log_in}") from error
    except errors.RevisionNotFoundError as error:
        raise InceptionError(f"{name}: has no revision {revision}; choose one of {page}/commits/main") from error
    except errors.RemoteEntryNotFoundError as error:
        raise InceptionError(f"{name}: has no {CONFIG}; {_layout_remedy(None)}") from error
    except errors.HFValidationError as error:
        reason = one_line(error).rstrip(".")
        raise UsageError(f"weights {name}: {reason}; give {HUB_PREFIX}USER/MODEL as the hub shows it") from error
    except errors.HfHubHTTPError as error:
        if (status := error.response.status_code) in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise InceptionError(f"{name}: {page} refuses access; {log_in} with a token that may read it") from error
        raise InceptionError(
            f"{name}: download failed (HTTP status {status}); try again later, or {copy_the_files}"
        ) from error
    except Exception as error:  # httpx, ssl and the hub each have their own
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            raise InceptionError(
                f"{name}: the hub's cache {HF_HUB_CACHE}: {os_reason(error)}; make room in it and let it be written, "
                "or set the environment variable HF_HOME to another folder"
            ) from error
        raise InceptionError(f"{name}: {download_failure(error)}; connect once, or {copy_the_files}") from error
