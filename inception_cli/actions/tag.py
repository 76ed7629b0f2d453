"""Write the labels of photos as keywords into XMP sidecars, `photo.jpg.xmp`; remove them again.

Photos are never written. A sidecar of another program is merged, and only changed if its keywords change.
"""

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from inception_cli.actions.xmp import MAX_BYTES, Keywords, NotMerged, Sidecar
from inception_cli.errors import InceptionError, os_reason
from inception_cli.files.atomic import replacing
from inception_cli.files.remote import is_remote
from inception_cli.predictions.decision import UNKNOWN
from inception_cli.predictions.prediction import Prediction
from inception_cli.predictions.text import existing_path, harmless

#: Photos that could not be tagged, of which the reason is kept.
MAX_LEFT = 20
#: Errors of one file; after any other one, such as that of a full disk, the next file would fail as well.
ERRORS_OF_A_FILE = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EISDIR)

#: Return the names above the label of a row that has a decision, from the root down.
Ancestors = Callable[[Prediction], Sequence[str]]
#: Is called with the number of photos that are done.
Progress = Callable[[int], None]


@dataclass
class Tagged:
    """What a run has done with the sidecars."""

    folders: set[Path] = field(default_factory=set)  # of the sidecars
    written: int = 0
    removed: int = 0  # sidecars that had nothing but the keywords of an earlier run
    unchanged: int = 0
    not_ok: Counter[str] = field(default_factory=Counter)  # rows without a prediction by status
    left: int = 0  # photos that could not be tagged
    left_files: list[tuple[str, str]] = field(default_factory=list)  # the first of them: path and reason

    def leave(self, path: str, reason: str) -> None:
        """Count a photo that cannot be tagged."""
        self.left += 1
        if len(self.left_files) < MAX_LEFT:
            self.left_files.append((path, reason))


def tag(
    predictions: Iterable[Prediction],
    directory: Path,
    undo: bool = False,
    ancestors: Ancestors = lambda prediction: (),
    progress: Progress = lambda done: None,
) -> Tagged:
    """Write the label of each photo into its sidecar, or with `undo` remove it.

    Relative paths belong to `directory`. A label is the decision of a row, or else its best class; `ancestors` are
    those of decisions. Raises InceptionError for a full disk.
    """
    result = Tagged()
    for number, prediction in enumerate(predictions, start=1):
        if prediction.status == "ok" or undo:
            _tag_photo(prediction, directory, () if undo else keywords_of(prediction, ancestors), undo, result)
        else:
            result.not_ok[prediction.status] += 1
        progress(number)
    return result


def keywords_of(prediction: Prediction, ancestors: Ancestors) -> Keywords:
    """Return the keyword of a row that is ok, with those above it if it has a decision; none for `unknown`."""
    if prediction.decision is None:
        return [[_keyword(prediction.labels[0])]]
    label = prediction.decision.label
    return [] if label == UNKNOWN else [[*map(_keyword, ancestors(prediction)), _keyword(label)]]


def _keyword(name: str) -> str:
    """Return a name as XML can hold it, and as programs show it."""
    return harmless(name).strip()


def _tag_photo(prediction: Prediction, directory: Path, keywords: Keywords, undo: bool, result: Tagged) -> None:
    """Set the keywords in the sidecar of one photo, and count what happened."""
    if is_remote(prediction.path):
        result.leave(prediction.path, "it is in a remote store")
        return
    photo = existing_path(os.path.join(directory, prediction.path))  # noqa: PTH118 - a Path would drop a final slash
    try:
        if not undo:
            os.stat(photo)  # noqa: PTH116 - raises an error that says why there is no photo
        _set_keywords(Path(os.path.realpath(f"{photo}.xmp")), keywords, result)
    except OSError as error:
        result.leave(prediction.path, os_reason(error))
    except NotMerged as error:
        result.leave(f"{prediction.path}.xmp", str(error))
    except ValueError as error:  # a NUL character in a path
        result.leave(prediction.path, str(error))


def _set_keywords(file: Path, keywords: Keywords, result: Tagged) -> None:
    """Set our keywords in a sidecar, which is created or removed if necessary."""
    if file.parent not in result.folders:
        result.folders.add(file.parent)
        _remove_temporaries(file.parent)
    sidecar, mode = _read(file)
    if not sidecar.set_keywords(keywords):
        result.unchanged += 1
    elif sidecar.is_ours:
        file.unlink()
        result.removed += 1
    else:
        _write(file, sidecar.encode(), mode)
        result.written += 1


def _remove_temporaries(folder: Path) -> None:
    """Remove what a killed run has left in a folder."""
    for temporary in folder.glob(f".*.xmp.{'[0-9a-f]' * 8}.tmp"):
        temporary.unlink(missing_ok=True)


def _read(file: Path) -> tuple[Sidecar, int | None]:
    """Return the sidecar in a file with its permissions, or a new one; NotMerged for what is not XMP."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return Sidecar.new(), None
    if not stat.S_ISREG(status.st_mode):
        raise NotMerged("it is not a regular file")
    if status.st_size > MAX_BYTES:
        raise NotMerged("it is too large for a sidecar")
    return Sidecar.parse(file.read_bytes()), stat.S_IMODE(status.st_mode)


def _write(file: Path, data: bytes, mode: int | None) -> None:
    """Replace a sidecar, with the permissions that it has; OSError for what is wrong with this file alone."""
    try:
        with replacing(file) as stream:
            stream.write(data)
            if mode is not None:
                os.fchmod(stream.fileno(), mode)
    except InceptionError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in ERRORS_OF_A_FILE:
            raise error.__cause__ from error
        raise
