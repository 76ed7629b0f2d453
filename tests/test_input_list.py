"""InputList: paths in few bytes, in memory or memory-mapped."""

import pickle
from pathlib import Path

import pytest

from inception_cli.errors import InceptionError
from inception_cli.storage.input_list import InputList, encode

PATHS = ["a.jpg", "b", "p/\udcff.jpg", "new\nline.jpg", "é.jpg"]


def test_an_input_list_holds_the_paths(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_bytes(b"".join(map(encode, PATHS)))
    for paths in (InputList.of(PATHS), InputList.open(file), pickle.loads(pickle.dumps(InputList.open(file)))):
        assert list(paths) == PATHS
        assert (len(paths), paths[-1], paths[1:3]) == (5, "é.jpg", ["b", "p/\udcff.jpg"])
        with pytest.raises(IndexError):
            paths[5]


def test_an_empty_input_list_is_empty(tmp_path: Path) -> None:
    (tmp_path / "list").touch()
    assert list(InputList.open(tmp_path / "list")) == list(InputList.of([])) == []


def test_an_input_list_of_a_file_is_pickled_as_the_name_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list").write_bytes(encode("photo.jpg") * 10_000)
    pickled = pickle.dumps(InputList.open(Path("list")))
    assert len(pickled) < 1000
    monkeypatch.chdir("/")  # a worker process may have another working directory
    assert len(pickle.loads(pickled)) == 10_000


@pytest.mark.parametrize(("path", "error"), [("a\0b.jpg", "NUL"), ("", "empty")])
def test_a_path_that_is_empty_or_contains_a_nul_is_refused(path: str, error: str) -> None:
    with pytest.raises(InceptionError, match=error):
        InputList.of(["a.jpg", path])
