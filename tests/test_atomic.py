"""Files on the local disk are replaced completely or not at all, and a full disk is a one-line error."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from limits import file_size_limit
from running import Inception
from torch import Tensor

from inception_cli.errors import InceptionError
from inception_cli.files.atomic import lock, remove_temporaries, replacing, resolve_output, writing


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


# replacing


def test_the_file_is_replaced_at_the_end_of_the_block(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")

    with replacing(file) as stream:
        stream.write(b"new")
        stream.flush()
        assert file.read_bytes() == b"old"

    assert file.read_bytes() == b"new"
    assert names_in(tmp_path) == ["file"]


def test_the_new_file_is_flushed_to_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, calls = tmp_path / "file", []
    fsync, rename = os.fsync, Path.replace

    def recorded_fsync(descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        calls.append("fsync of the folder" if os.path.samestat(os.fstat(descriptor), tmp_path.stat()) else f"{size}")
        fsync(descriptor)

    def recorded_rename(self: Path, target: Path) -> Path:
        calls.append(f"rename to {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", recorded_rename)
    with replacing(file) as stream:
        stream.write(b"123456")

    assert calls == ["6", "rename to file", "fsync of the folder"]


def write_and_raise(file: Path, error: BaseException) -> None:
    with replacing(file) as stream:
        stream.write(b"unfinished")
        raise error


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (ValueError("wrong"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, "full"), InceptionError),
    ],
)
@pytest.mark.parametrize("existing", [{"file": b"old"}, {}])
def test_an_exception_in_the_block_leaves_no_file_behind(
    error: BaseException, raised: type[BaseException], existing: dict[str, bytes], tmp_path: Path
) -> None:
    for name, data in existing.items():
        (tmp_path / name).write_bytes(data)

    with pytest.raises(raised):
        write_and_raise(tmp_path / "file", error)

    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == existing


def test_a_failed_write_leaves_no_file_behind(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")

    with file_size_limit(100), pytest.raises(InceptionError) as raised, replacing(file) as stream:
        stream.write(bytes(101))

    assert str(raised.value) == (
        f"{file}: file too large; allow larger files (ulimit -f) and run the same command again"
    )
    assert names_in(tmp_path) == ["file"]
    assert file.read_bytes() == b"old"


def test_an_error_names_the_file_and_the_given_remedy(tmp_path: Path) -> None:
    file = tmp_path / "missing" / "file"

    with pytest.raises(InceptionError) as raised, replacing(file, "create the folder"):
        pass

    assert str(raised.value) == f"{file}: no such file or directory; create the folder"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_umask_decides_the_mode(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "file"):
            (temporary,) = tmp_path.iterdir()
            assert temporary.stat().st_mode & 0o777 == 0o666 & ~umask
    finally:
        os.umask(before)

    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask


def test_two_writers_of_a_file_have_two_temporary_files(tmp_path: Path) -> None:
    file = tmp_path / "file"

    with replacing(file) as one, replacing(file) as other:
        assert len(names_in(tmp_path)) == 2
        one.write(b"one")
        other.write(b"other")

    assert names_in(tmp_path) == ["file"]
    assert file.read_bytes() == b"one"  # whose block ended last


@pytest.mark.parametrize("planted", ["file.tmp", ".file.tmp"])
def test_a_symbolic_link_with_a_predictable_name_is_not_followed(planted: str, tmp_path: Path) -> None:
    victim, file = tmp_path / "victim", tmp_path / "file"
    victim.write_bytes(b"precious")
    (tmp_path / planted).symlink_to(victim)

    with replacing(file) as stream:
        stream.write(b"new")

    assert file.read_bytes() == b"new"
    assert victim.read_bytes() == b"precious"
    assert (tmp_path / planted).readlink() == victim


@pytest.mark.parametrize("existing", [{"victim": b"precious"}, {}])
def test_a_symbolic_link_with_the_name_of_the_temporary_file_is_not_followed(
    existing: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda size: "01234567")  # as if the name had been guessed
    (link := tmp_path / ".file.01234567.tmp").symlink_to(tmp_path / "victim")
    for name, data in existing.items():
        (tmp_path / name).write_bytes(data)

    with pytest.raises(InceptionError, match="file: file exists"), replacing(tmp_path / "file") as stream:
        stream.write(b"new")

    assert link.readlink() == tmp_path / "victim"
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file != link} == existing


def test_temporary_files_have_random_names(tmp_path: Path) -> None:
    names = set()
    for _ in range(20):
        with replacing(tmp_path / "file"):
            names |= {name for name in names_in(tmp_path) if name != "file"}

    assert len(names) == 20


# remove_temporaries


@pytest.mark.parametrize("name", ["preds.csv", "[a-z]*?.csv", "näme with spaces.csv", "\udcff.csv"])
def test_temporary_files_of_killed_processes_are_removed(name: str, tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from inception_cli.files.atomic import replacing
with replacing(Path(sys.argv[1])) as stream:
    stream.write(b"unfinished")
    os._exit(1)
"""
    file = tmp_path / name
    subprocess.run([sys.executable, "-c", script, file], check=False)
    assert len(names_in(tmp_path)) == 1

    remove_temporaries(file)

    assert names_in(tmp_path) == []


def test_other_files_than_the_temporary_ones_stay(tmp_path: Path) -> None:
    others = [
        "a.csv",
        "a.csv.tmp",
        ".a.csv.tmp",
        ".b.csv.01234567.tmp",
        ".a.csv.part.01234567.tmp",
        ".a.csv.notahex!.tmp",
    ]
    for name in [*others, ".a.csv.01234567.tmp"]:
        (tmp_path / name).touch()

    remove_temporaries(tmp_path / "a.csv")

    assert names_in(tmp_path) == sorted(others)


# lock


def test_only_one_process_locks_a_file(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from inception_cli.files.atomic import lock
descriptor = lock(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""
    file = tmp_path / "preds.csv.part"
    with subprocess.Popen([sys.executable, "-c", script, file], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(InceptionError, match=r"preds\.csv\.part: another run is writing it; wait"):
            lock(file)
        process.communicate("")

    os.close(lock(file))


def test_a_file_removed_while_it_is_being_locked_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, lockf = tmp_path / "file", fcntl.lockf
    calls: list[int] = []

    def remove_once(descriptor: int, command: int) -> None:
        if not calls:
            file.unlink()
        calls.append(descriptor)
        lockf(descriptor, command)

    monkeypatch.setattr(fcntl, "lockf", remove_once)
    descriptor = lock(file)

    assert len(calls) == 2
    assert os.path.samestat(os.fstat(descriptor), file.stat())
    os.close(descriptor)


def test_a_file_system_without_locks_is_an_error_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(descriptor: int, command: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", unsupported)

    with pytest.raises(InceptionError, match=r"cannot be locked \(no locks available\); choose an output file on"):
        lock(tmp_path / "file")
    assert names_in(tmp_path) == []


# resolve_output


def test_an_output_file_is_itself_and_a_link_is_its_target(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "target.CSV")

    assert resolve_output(tmp_path / "new.csv") == tmp_path / "new.csv"
    assert resolve_output(tmp_path / "link.csv") == tmp_path / "target.CSV"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", r"folder: is a folder; give a file in it, such as .*/folder/preds\.csv$"),
        ("fifo.csv", r"fifo\.csv: not a regular file; choose another output file, or - for standard output$"),
        ("link.csv", r"link\.csv: links to .*/target\.jsonl, which has another suffix; give the target, or choose"),
        ("missing/preds.csv", "missing: no such folder; create it, or choose another output file$"),
        ("dangling.csv", "nowhere: no such folder; create it"),
    ],
)
def test_a_place_that_cannot_hold_the_output_is_an_error(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo.csv")
    (tmp_path / "link.csv").symlink_to(tmp_path / "target.jsonl")
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "nowhere" / "preds.csv")

    with pytest.raises(InceptionError, match=message):
        resolve_output(tmp_path / name)


# writing


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "preds.csv: no space left on device; free some disk space and run the same command again"),
        (errno.EIO, "preds.csv: input/output error; check the disk and run the same command again"),
        (errno.EACCES, "preds.csv: permission denied; choose another output file"),
    ],
)
def test_an_error_of_the_disk_has_its_own_remedy(number: int, message: str) -> None:
    with pytest.raises(InceptionError) as raised, writing(Path("preds.csv")):
        raise OSError(number, os.strerror(number))

    assert str(raised.value) == message


# Whole runs


@pytest.fixture
def stub_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the network by constant scores."""

    def constant(self: object, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return torch.arange(5).repeat(len(pixels), 1), torch.full((len(pixels), 5), 0.2)

    monkeypatch.setattr("inception_cli.inference.predictor.DevicePredictor._best_classes", constant)


@pytest.mark.usefixtures("stub_network")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_costs_no_row(workers: int, inception: Inception, photos: Path, tmp_path: Path) -> None:
    words = ("classify", *[photos / "a"] * 6, "-w", "demo", "-j", workers, "-b", 7, "--precision", "fp32")
    uninterrupted = inception(*words, "-o", tmp_path / "uninterrupted.csv")
    expected = (tmp_path / "uninterrupted.csv").read_bytes()
    out = tmp_path / "full.csv"

    with file_size_limit(len(expected) // 2):
        stopped = inception(*words, "-o", out)

    assert uninterrupted.code == 0
    assert stopped.code == 1
    (line,) = stopped.err.strip().splitlines()
    assert str(out) in line
    assert "run the same command again" in line
    part = out.with_name("full.csv.part").read_bytes()
    assert expected.startswith(part)
    assert part.endswith(b"\n")
    assert len(part) > len(expected) // 3
    assert not out.exists()
    assert inception(*words, "-o", out).code == 0
    assert out.read_bytes() == expected


@pytest.mark.usefixtures("stub_network")
def test_a_missing_output_folder_is_an_error_before_the_run(inception: Inception, photos: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"

    ended = inception("classify", photos, "-w", "demo", "-j", 0, "-o", missing / "p.csv")

    assert ended.code == 1
    assert str(missing) in ended.err
    assert "no such folder" in ended.err
