"""A run on disk: its list, its rows, its manifest and its lock, so that whatever stops it, the same command goes on.

    preds.csv.part.inputs         the paths, each ended by a NUL: what the run is about, never walked again
    preds.csv.part.json           the manifest: what the run was asked
    preds.csv.part                header and rows, in the list's order; locked while a run writes
    preds.csv.part.made           JSON Lines or Parquet, made of those rows: only of preds.jsonl and preds.parquet
    preds.csv, preds.csv.json     rows and manifest, published

They come into being in that order. Publishing makes what is to be made, finishes the manifest, renames the rows (of
what was made: renames that, then empties the part file), removes the list, renames the manifest. So a kill at any
moment leaves one of these, which the next start tells apart:

    part     manifest      what happened, and what is done
    empty    none          nothing was begun: a fresh start
    empty    unfinished    killed before the header: goes on from no rows
    rows     unfinished    interrupted: goes on from the last whole batch (what was made of them is made again)
    rows     finished      killed before the rows were renamed: published now
                           and nothing made, though it should be: killed after that was renamed: published now
    empty    finished      killed after the rows were renamed: published now
    rows     none          the manifest is lost: refused, --restart begins anew

The rows are read and written through one descriptor: closing any other one of the file would drop the lock (POSIX).
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from inception_cli.errors import InceptionError
from inception_cli.results.disk import beside, lock, replacing, sync_folder, telling, temporary, writable
from inception_cli.results.formats import check_suffix, convert
from inception_cli.results.rows import Prediction, parse_csv

SYNC_SECONDS = 10.0  # what a power cut may cost; a kill costs nothing


class _Damaged(InceptionError):
    """What is left of a run cannot be gone on with."""

    def __init__(self, file: Path, how: str) -> None:
        super().__init__(f"{file} {how}, so that run cannot go on; --restart begins it anew")


class Ledger:
    """A run on disk, locked while this is open; made by `Ledger.open`, used as a context manager."""

    def __init__(self, out: Path, descriptor: int) -> None:
        self.manifest: dict[str, Any] | None = None  # of the interrupted run; None: a fresh start
        self.published = False  # a half-done publishing was completed on opening: nothing is left to do
        self.out = out
        self.inputs = beside(out, ".part.inputs")
        self._part = beside(out, ".part")
        self._part_manifest = beside(out, ".part.json")
        self._suffix = check_suffix(out)
        self._made = beside(out, ".part.made") if self._suffix != ".csv" else None
        self._descriptor = descriptor
        self._section: dict[str, Any] = {}  # the ledger's own part of the manifest
        self._size = 0  # bytes of whole rows
        self._synced = time.monotonic()

    @classmethod
    def open(cls, out: Path, *, restart: bool = False, force: bool = False) -> Self:
        """Lock the run that writes `out`, and find out how far it is.

        `restart` throws an interrupted run away (but not one that lacks only its publishing); `force` allows to replace
        a finished file. InceptionError, with nothing left behind, when another run writes it, when it is finished, when
        it cannot be written or is damaged.
        """
        out = writable(out)
        check_suffix(out)
        ledger = cls(out, lock(beside(out, ".part")))
        try:
            with telling(out):
                ledger._take_stock(restart, force)
        except BaseException:
            ledger.close()
            raise
        return ledger

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def list_inputs(self, inputs: Iterable[bytes]) -> int:
        """Write the list, paths that end in NUL, of a fresh start; the number of images. For none nothing will stay."""
        count, digest = 0, hashlib.sha256()
        with telling(self.inputs), replacing(self.inputs) as file:
            for some in inputs:
                file.write(some)
                digest.update(some)
                count += some.count(b"\0")
        self._section = {"images": count, "inputs_sha256": digest.hexdigest(), "bytes": None}
        return count

    def begin(self, manifest: dict[str, Any], header: bytes) -> None:
        """Write manifest and header of a fresh start, after its list: from now on a kill is an interruption."""
        self._section["header"] = header.decode()
        with telling(self._part):
            self._write_manifest(manifest)
            self._write(header)
            os.fsync(self._descriptor)

    def remember(self, manifest: dict[str, Any]) -> None:
        """Keep what has changed of the manifest while the run goes on."""
        with telling(self._part):
            self._write_manifest(manifest)

    def resume(self, rows_per_batch: int) -> int:
        """Cut the rows of the interrupted run back to whole batches; how many are kept.

        Batches are of equal number but the last, so a run that goes on makes the same batches as the quiet one.
        """
        with telling(self._part):
            self._check_list()
            kept, self._size = self._whole_batches(rows_per_batch)
            os.ftruncate(self._descriptor, self._size)
            if not self._size:
                self._write(self._section["header"].encode())
        return kept

    def rows(self) -> Iterator[Prediction]:
        """The rows so far; to be read to their end before the next `write`."""
        return parse_csv(self._lines(), self._part)

    def write(self, data: bytes) -> None:
        """Append whole rows; InceptionError when that fails, and the file ends with the last whole row it had."""
        with telling(self._part):
            self._write(data)
            if time.monotonic() - self._synced >= SYNC_SECONDS:
                os.fsync(self._descriptor)
                self._synced = time.monotonic()

    def publish(self, manifest: dict[str, Any]) -> None:
        """Put rows and manifest in their places, after every image has its row (else InceptionError)."""
        rows = sum(1 for _ in _row_ends(self._lines())) - 1
        if rows != self._section["images"]:
            raise InceptionError(f"{self._part}: {rows} rows for {self._section['images']} images; use --restart")
        with telling(self.out):
            os.fsync(self._descriptor)
            self._section["bytes"] = self._make(self._made) if self._made else self._size
            self._write_manifest(manifest)
            self._rename(self._size)

    def _make(self, made: Path) -> int:
        """Turn the rows into what the suffix says; its bytes."""
        k = (self._section["header"].count(",") - 2) // 3
        with replacing(made) as file:
            convert(self.rows(), k, file, self._suffix)
        return made.stat().st_size

    def close(self) -> None:
        """Unlock; a run that was never begun leaves nothing."""
        if self._descriptor < 0:
            return
        with suppress(OSError):
            if not os.fstat(self._descriptor).st_size:
                if not self._part_manifest.exists():
                    for file in (self.inputs, temporary(self.inputs), temporary(self._part_manifest)):
                        file.unlink(missing_ok=True)
                self._part.unlink()
        os.close(self._descriptor)
        self._descriptor = -1

    def _take_stock(self, restart: bool, force: bool) -> None:
        try:
            manifest = self._read_manifest()
            size = os.fstat(self._descriptor).st_size
            if manifest and manifest["ledger"]["bytes"] is not None:
                self._complete(manifest, size, force)
                return
            if manifest is None and size:
                raise _Damaged(self._part_manifest, "is lost")
        except _Damaged:
            if not restart:
                raise
        self._refuse_to_replace(force)
        if restart:
            self._discard()
        else:
            self.manifest = manifest

    def _complete(self, manifest: dict[str, Any], size: int, force: bool) -> None:
        """Go on where a kill stopped the publishing."""
        unnamed = self._made or self._part if size else None  # the rows before they get their name
        if unnamed and unnamed.exists():
            self._refuse_to_replace(force)
            if unnamed.stat().st_size != manifest["ledger"]["bytes"]:
                raise _Damaged(unnamed, "is not as long as it was")
        elif not self.out.exists() or self.out.stat().st_size != manifest["ledger"]["bytes"]:
            raise _Damaged(self.out, "is not as it was published")
        else:
            os.close(lock(self.out))  # that run may still be at it: it holds the rows under their new name
        self._rename(size)
        self.manifest, self.published = manifest, True
        self.close()  # what was locked is the published file now: nothing may be written through it

    def _rename(self, size: int) -> None:
        """Give rows and manifest their names; `size` is that of the part file."""
        if size and self._made:
            if self._made.exists():
                self._made.replace(self.out)
                sync_folder(self.out)
            os.ftruncate(self._descriptor, 0)
        elif size:
            self._part.replace(self.out)
        self.inputs.unlink(missing_ok=True)
        self._part_manifest.replace(beside(self.out, ".json"))
        sync_folder(self.out)

    def _refuse_to_replace(self, force: bool) -> None:
        if self.out.exists() and not force:
            raise InceptionError(f"{self.out} exists; --force replaces it")

    def _discard(self) -> None:
        # The manifest first: finished, beside no rows, it would be taken for that of the file already published.
        self._part_manifest.unlink(missing_ok=True)
        os.ftruncate(self._descriptor, 0)
        for file in (self.inputs, *((self._made, temporary(self._made)) if self._made else ())):
            file.unlink(missing_ok=True)

    def _read_manifest(self) -> dict[str, Any] | None:
        try:
            manifest: dict[str, Any] = json.loads(self._part_manifest.read_bytes())
            self._section = {key: manifest["ledger"][key] for key in ("images", "inputs_sha256", "bytes", "header")}
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise _Damaged(self._part_manifest, "is damaged") from error
        return manifest

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        text = json.dumps(manifest | {"ledger": self._section}, indent=1, allow_nan=False)
        with replacing(self._part_manifest) as file:
            file.write(text.encode() + b"\n")

    def _check_list(self) -> None:
        try:
            with self.inputs.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError as error:
            raise _Damaged(self.inputs, "is lost") from error
        if digest != self._section["inputs_sha256"]:
            raise _Damaged(self.inputs, "is damaged")

    def _whole_batches(self, rows_per_batch: int) -> tuple[int, int]:
        """How many rows make whole batches, and the bytes of header and them."""
        header = self._section["header"].encode()
        start = os.pread(self._descriptor, len(header), 0)
        if start != header and not header.startswith(start):
            raise _Damaged(self._part, "is damaged")
        rows, kept, size = 0, 0, 0
        for rows, end in enumerate(_row_ends(self._lines())):  # the end of row 0 is that of the header
            if rows % rows_per_batch == 0 or rows == self._section["images"]:
                kept, size = rows, end
        if rows > self._section["images"]:
            raise _Damaged(self._part, "holds more rows than there are images")
        return kept, size

    def _lines(self) -> Iterator[bytes]:
        os.lseek(self._descriptor, 0, os.SEEK_SET)  # writing appends, wherever this leaves off
        with open(self._descriptor, "rb", closefd=False) as part:
            yield from part

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except BaseException:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)


def fingerprint(settings: dict[str, Any]) -> str:
    """The sha256 of `settings`, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, allow_nan=False).encode()).hexdigest()


def difference(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What `new` settings change of the `old` ones, a line each: `plan.precision: bf16 → fp32`."""
    before, after = _flat(json.loads(json.dumps(old))), _flat(json.loads(json.dumps(new)))
    names = dict.fromkeys([*before, *after])
    changed = [(name, before.get(name, "not set"), after.get(name, "not set")) for name in names]
    return [f"{name}: {_shown(one)} → {_shown(other)}" for name, one, other in changed if one != other]


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(settings, dict | list) or not settings:
        return {prefix: settings}
    items = settings.items() if isinstance(settings, dict) else enumerate(settings)
    return {
        name: value
        for key, inner in items
        for name, value in _flat(inner, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _row_ends(lines: Iterable[bytes]) -> Iterator[int]:
    """The offset after each whole row, header included.

    A newline between quotes ends no row. A NUL, which no row holds, ends the reading: a machine that crashes may leave
    NULs where rows were on their way to the disk.
    """
    offset = quotes = 0
    for line in lines:
        if b"\0" in line or not line.endswith(b"\n"):
            return
        offset += len(line)
        quotes += line.count(b'"')
        if quotes % 2 == 0:
            yield offset
