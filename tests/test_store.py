"""The manifest: what is written can be read again, also a manifest of version 0.1, and damage names the field."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from records import MANIFEST_0_1, new_manifest

from inception_cli.errors import InceptionError
from inception_cli.storage.label_sources import LabelSources
from inception_cli.storage.store import (
    FOLDER_MANIFEST,
    FOLDER_UNFINISHED,
    FileState,
    FolderState,
    Manifest,
    differences,
    read_manifest,
)

NEW = new_manifest()
FULL = replace(
    NEW.with_result({"ok": 2, "corrupt": 1}, 12.5),
    inputs=("grün", b"\xff.jpg".decode("utf-8", "surrogateescape")),
    run=replace(NEW.run, only_classes=(1, 3)),
    labels=LabelSources("val", ("a.csv",), "wnid", "exclude.txt", {"a.csv": "0" * 64}),
    reduced_batch=2,
    file=FileState(3, "1" * 64, "path,status,top1_index,top1_label,top1_score,error\n", 77),
    folder=FolderState(3, "1" * 64, 1000),
)


@pytest.mark.parametrize("manifest", [NEW, FULL], ids=["new", "full"])
def test_a_manifest_is_read_as_it_was_written(manifest: Manifest) -> None:
    assert Manifest.decode(manifest.encode()) == manifest


def test_a_manifest_is_json_with_the_command_and_the_number_of_rows() -> None:
    values = json.loads(FULL.encode())

    assert values == json.loads(json.dumps(FULL.to_json()))
    assert (values["command"], values["n"], values["counts"]) == ("classify", 3, {"ok": 2, "corrupt": 1})
    assert (values["format_version"], values["reduced_batch"], values["run"]["only_classes"]) == (1, 2, [1, 3])
    assert FULL.encode().endswith(b"}\n")
    assert FULL.encode().isascii()


def test_a_manifest_of_version_0_1_is_read() -> None:
    manifest = Manifest.decode(json.dumps(MANIFEST_0_1).encode())

    assert (manifest.format_version, manifest.n, manifest.counts) == (0, 40, {"ok": 38, "corrupt": 2})
    assert (manifest.inputs, manifest.directory) == (("sample_images",), "")
    assert manifest.file is None  # so its run cannot resume
    assert manifest.folder is None
    assert manifest.labels == LabelSources("sample_images")
    assert manifest.network.mmpretrain_count == 1_663_678_192
    assert (manifest.reduced_batch, manifest.images_per_s) == (16, 4.122401714380059)
    run = manifest.run
    assert (run.loader.batch_size, run.plan.threads, run.plan.precision, run.top_k) == (32, 2, "fp32", 1)
    assert (run.only_classes, run.classes.names) == ((0, 1), ("apple", "banana", "carton"))
    assert (run.pixels.preset.size, run.pixels.preset.mean) == (176, (0.5, 0.5, 0.5))


def test_a_manifest_of_version_0_1_without_labels_and_results_is_read() -> None:
    left_out = ("truth", "split_to", "counts", "images_per_s", "n", "ledger")
    begun = {name: value for name, value in MANIFEST_0_1.items() if name not in left_out}

    manifest = Manifest.decode(json.dumps(begun).encode())

    assert (manifest.n, manifest.labels, manifest.reduced_batch, manifest.images_per_s) == (0, None, None, None)


def with_value(field: str, value: Any) -> bytes:
    """Return the full manifest with another value in one field, such as `run.plan.device`."""
    values = FULL.to_json()
    inner: Any = values
    *outer, last = field.split(".")
    for name in outer:
        inner = inner[int(name) if name.isdigit() else name]
    inner[last] = value
    return json.dumps(values).encode()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("inputs", 3, "inputs"),
        ("network.macs", "many", "network.macs"),
        ("run.plan.precision", "bf61", "precision"),
        ("run.plan.device", "gpu", "device"),
        ("run.loader.batch_size", 0, "batch_size"),
        ("run.pixels.crops", 7, "crops"),
        ("run.pixels.preset.size", None, "preset.size"),
        ("run.top_k", 1.5, "top_k"),
        ("run.weights", [], "weights"),
        ("counts.ok", "2", "counts"),
        ("file.images", None, "file.images"),
    ],
)
def test_a_wrong_value_is_an_error_of_one_line_that_names_the_field(
    field: str, value: Any, message: str, tmp_path: Path
) -> None:
    (tmp_path / "p.csv.json").write_bytes(with_value(field, value))

    with pytest.raises(InceptionError) as error:
        read_manifest(tmp_path / "p.csv")

    text = str(error.value)
    assert message in text
    assert text.startswith(f"{tmp_path / 'p.csv.json'}: damaged manifest")
    assert "move it away" in text
    assert "\n" not in text


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"null", b'{"run": 3}', b"[" * 100_000])
def test_a_file_that_is_no_manifest_is_an_error_of_one_line(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.csv.json").write_bytes(data)

    with pytest.raises(InceptionError, match=r"p\.csv\.json: damaged manifest") as error:
        read_manifest(tmp_path / "p.csv")
    assert "\n" not in str(error.value)


def test_the_manifest_beside_a_file_or_in_a_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.csv.json").write_bytes(NEW.encode())
    (tmp_path / FOLDER_MANIFEST).write_bytes(FULL.encode())

    assert read_manifest(tmp_path / "p.csv") == NEW
    assert read_manifest(tmp_path) == FULL
    assert read_manifest(tmp_path / "other.csv") is None


def test_an_unfinished_folder_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / FOLDER_UNFINISHED).write_bytes(NEW.encode())

    with pytest.raises(InceptionError, match="not finished; run the command that started it again"):
        read_manifest(tmp_path)


def test_a_manifest_that_cannot_be_read_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "p.csv.json").mkdir()

    with pytest.raises(InceptionError, match=r"p\.csv\.json: is a directory; make it readable, or move it away"):
        read_manifest(tmp_path / "p.csv")


def test_differences_are_a_line_for_each_field() -> None:
    old = {"plan": {"precision": "bf16", "device": "cpu"}, "top_k": 5, "weights": [{"name": "a"}], "gone": None}
    new = {"plan": {"precision": "fp32", "device": "cpu"}, "top_k": 5, "weights": ({"name": "b"}, {"name": "c"})}

    assert differences(old, new) == [
        "plan.precision: bf16 → fp32",
        "weights.0.name: a → b",
        'weights.1: not set → {"name": "c"}',
        "gone: null → not set",
    ]
    assert differences(old, old) == []


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({"only": ()}, {"only": [2]}, ["only.0: not set → 2"]),
        ({"only": [1, 2]}, {"only": (1, 2)}, []),
        ({"crops": 1}, {"crops": 12}, ["crops: 1 → 12"]),
        ({"inputs": ["a"]}, {"inputs": ["\udcff"]}, ["inputs.0: a → \udcff"]),
        ({"inputs": ["\udcff"]}, {"inputs": None}, ['inputs: ["\\udcff"] → null']),
    ],
)
def test_differences_of_lists_and_names(old: Mapping[str, Any], new: Mapping[str, Any], lines: list[str]) -> None:
    assert differences(old, new) == lines


def test_a_manifest_is_read_without_torch() -> None:
    program = "import sys, inception_cli.storage.store; print({'torch', 'numpy', 'pandas'} & set(sys.modules))"

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == "set()"


def test_a_manifest_of_a_newer_version_is_refused() -> None:
    with pytest.raises(ValueError, match="format_version 2: it was written by a newer version"):
        Manifest.decode(replace(NEW, format_version=2).encode())
