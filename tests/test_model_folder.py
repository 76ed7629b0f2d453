"""Weights in timm's layout, in folders and on a hub on this machine: what is found, fetched, checked and refused."""

import json
import os
import re
import shutil
import socket
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import huggingface_hub.constants
import pytest
import torch
from hub_server import FIRST, SECOND, TOKEN, Hub, publish, serve
from huggingface_hub.errors import LocalEntryNotFoundError
from lively import lively, pictures
from PIL import Image
from running import Inception
from safetensors import safe_open
from safetensors.torch import save

from inception_cli.config import PRESETS, Classes
from inception_cli.errors import InceptionError, UsageError
from inception_cli.network.familiarity import Familiarity, fit
from inception_cli.weights import hub
from inception_cli.weights.checkpoint import compress
from inception_cli.weights.download import ignore_progress
from inception_cli.weights.load import find_weights, load_familiarity, load_network, save_folder, save_weights
from inception_cli.weights.model_folder import WeightsFiles, find_model_folder
from inception_cli.weights.registry import HubFile

State = dict[str, torch.Tensor]

REPO = "me/fruit"
NAMES = ("apple", "pear", "plum")
CONFIG = json.dumps({"architecture": "inception_v3", "num_classes": 3, "label_names": NAMES, "pretrained_cfg": {}})
FILES = {"config.json": CONFIG.encode(), "model.safetensors": b"tensors"}
PRESET = replace(PRESETS["torchvision"], name="torchvision-80", size=80, resize=92, exif=True)


@pytest.fixture(autouse=True)
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a hub, and create empty caches of the hub and of this program; return the hub's URL."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serve() as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield url


def find(name: str = f"hf-hub:{REPO}", offline: bool = False) -> WeightsFiles:
    files = find_model_folder(name, offline, ignore_progress)
    assert files
    return files


def refusal(name: str = f"hf-hub:{REPO}", offline: bool = False) -> str:
    """Return the error for weights that are refused, which is one line."""
    with pytest.raises(InceptionError) as error:
        find_model_folder(name, offline, ignore_progress)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) <= 420
    return message


@pytest.fixture(scope="module")
def tensors() -> State:
    return compress(lively(num_classes=3).state_dict())


# On the hub


def test_files_are_downloaded_once_and_the_commit_is_recorded(served: str, tmp_path: Path) -> None:
    publish(REPO, FILES)

    files = find()

    assert files.source == f"{served}/{REPO}/resolve/{FIRST}/model.safetensors"
    assert files.config
    assert [file.read_bytes() for file in (files.weights, files.config)] == [b"tensors", CONFIG.encode()]
    assert str(files.weights).startswith(str(tmp_path / "hub"))
    Hub.requests.clear()
    assert find(offline=True).source == files.source
    assert Hub.requests == []
    find()
    assert [request for request in Hub.requests if request.startswith("GET")] == []


@pytest.mark.parametrize("offline", [True, False])
def test_a_commit_in_the_cache_needs_no_request(offline: bool) -> None:
    publish(REPO, FILES)
    find()
    Hub.requests.clear()

    assert find(f"hf-hub:{REPO}@{FIRST}", offline).source.endswith(f"/{FIRST}/model.safetensors")
    assert Hub.requests == []


def test_a_branch_that_has_moved_is_followed_but_not_offline() -> None:
    publish(REPO, FILES)
    find()
    publish(REPO, FILES | {"model.safetensors": b"better"}, SECOND)

    assert FIRST in find(offline=True).source
    assert (SECOND in find().source, find().weights.read_bytes()) == (True, b"better")
    assert (SECOND in find(offline=True).source, find(offline=True).weights.read_bytes()) == (True, b"better")
    assert find(f"hf-hub:{REPO}@{FIRST}").weights.read_bytes() == b"tensors"


@pytest.mark.parametrize("revision", ["v1.0", "refs/pr/2"])
def test_a_revision_is_resolved_to_its_commit(revision: str) -> None:
    publish(REPO, FILES, SECOND)
    publish(REPO, FILES | {"model.safetensors": b"old"}, FIRST, revision)

    assert find(f"hf-hub:{REPO}@{revision}").weights.read_bytes() == b"old"
    assert FIRST in find(f"hf-hub:{REPO}@{revision}", offline=True).source


@pytest.mark.parametrize("trouble", ["broken", "login_page"])
def test_the_copy_on_this_machine_is_used_with_a_note_if_the_hub_does_not_respond(trouble: str) -> None:
    publish(REPO, FILES)
    find()
    setattr(Hub, trouble, True)

    assert find().notes == (f"the hub cannot be reached: the copy on this machine is used, commit {FIRST}",)
    assert find(offline=True).notes == ()


def test_pytorch_model_bin_is_used_if_there_is_no_safetensors_file() -> None:
    publish(REPO, {"config.json": CONFIG.encode(), "pytorch_model.bin": b"pickled"})

    assert find().weights.name == "pytorch_model.bin"
    assert find(offline=True).weights.read_bytes() == b"pickled"


def test_a_private_model_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    publish(REPO, FILES)
    Hub.restricted[REPO] = "private"

    assert refusal().endswith("or log in (hf auth login, or the environment variable HF_TOKEN)")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert find().weights.read_bytes() == b"tensors"


def test_no_such_model(served: str) -> None:
    assert refusal().startswith(f"hf-hub:{REPO}: {served}/{REPO} does not exist, or is private; correct the name")


def test_a_gated_model(served: str) -> None:
    publish(REPO, FILES)
    Hub.restricted[REPO] = "gated"

    assert refusal().startswith(f"hf-hub:{REPO}: is gated; accept its conditions at {served}/{REPO}, and log in")


def test_an_unknown_revision(served: str) -> None:
    publish(REPO, FILES)

    assert refusal(f"hf-hub:{REPO}@v9") == (
        f"hf-hub:{REPO}@v9: has no revision v9; choose one of {served}/{REPO}/commits/main"
    )


@pytest.mark.parametrize(
    ("left_out", "lacks"),
    [("config.json", "config.json"), ("model.safetensors", "model.safetensors or pytorch_model.bin")],
)
def test_a_repository_without_a_file_is_refused(left_out: str, lacks: str) -> None:
    publish(REPO, {name: content for name, content in FILES.items() if name != left_out})

    assert refusal().startswith(f"hf-hub:{REPO}: has no {lacks}; give a folder in timm's layout, or the file of the")


def test_a_hub_that_does_not_respond(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")

    assert refusal().startswith(f"hf-hub:{REPO}: download failed (")
    assert refusal().endswith(
        f"connect once, or copy the files of http://127.0.0.1:{port}/{REPO} into a folder and give local-dir:FOLDER"
    )


@pytest.mark.parametrize("filename", ["config.json", "model.safetensors"])
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (403, "refuses access; log in (hf auth login, or the environment variable HF_TOKEN) with a token that may re"),
        (404, "download failed (HTTP status 404); try again later, or copy the files of "),
    ],
)
def test_a_refused_file_is_named_by_its_status(status: int, reason: str, filename: str) -> None:
    publish(REPO, FILES)
    Hub.statuses[filename] = status

    assert reason in refusal()


@pytest.mark.parametrize("commit", ["", "main", "../../evil", "a/b"])
def test_a_response_without_a_commit_is_not_from_a_hub(commit: str, tmp_path: Path) -> None:
    publish(REPO, FILES, commit)

    assert refusal().startswith(f"hf-hub:{REPO}: download failed (the response is not from a Hugging Face hub: it name")
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_in_trouble_is_named_by_its_status(status: int) -> None:
    publish(REPO, FILES)
    Hub.statuses["config.json"] = status

    assert refusal().startswith(f"hf-hub:{REPO}: download failed (HTTP status {status}); try again later, or copy the")


@pytest.mark.parametrize(("name", "reason"), [("a--b/c", "Cannot have -- or .."), ("-a/b", "Repo id must use")])
def test_names_that_the_hub_does_not_allow_are_invalid_usage(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"^weights hf-hub:{name}: {reason}.*; give hf-hub:USER/MODEL as the hub"):
        find_model_folder(f"hf-hub:{name}", False, ignore_progress)


@pytest.mark.parametrize(("number", "reason"), [(28, "no space left on device"), (30, "read-only file system")])
def test_a_cache_that_cannot_be_written_is_named(
    number: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    def write(*_: object, **__: object) -> None:
        warnings.warn("Not enough free disk space", stacklevel=1)
        raise OSError(number, os.strerror(number))

    publish(REPO, FILES)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", write)

    assert refusal().startswith(f"hf-hub:{REPO}: the hub's cache {tmp_path}/hub: {reason}; make room in it and let it")
    assert not recwarn.list


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors"])
def test_a_connection_that_is_lost_is_not_a_missing_file(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(REPO, FILES)
    download = hub.download

    def lose(file: HubFile, *rest: Any) -> Path:
        if file.filename == lost:
            raise LocalEntryNotFoundError("no connection")
        return download(file, *rest)

    monkeypatch.setattr(hub, "download", lose)

    assert refusal().startswith(f"hf-hub:{REPO}: download failed (no connection); connect once, or copy the files of")


@pytest.mark.parametrize("by", ["option", "environment"])
def test_offline_nothing_is_downloaded(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(REPO, FILES)
    if by == "environment":
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    assert "not on this machine, and nothing is downloaded now" in refusal(offline=by == "option")
    assert Hub.requests == []


def test_offline_half_a_model_is_not_on_this_machine() -> None:
    publish(REPO, FILES)
    find().weights.unlink()

    assert "not on this machine" in refusal(offline=True)


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("filename", ["config.json", "model.safetensors"])
def test_a_file_of_the_cache_that_was_replaced_is_refused(filename: str, offline: bool) -> None:
    publish(REPO, FILES)
    file = find().weights.with_name(filename).resolve()
    file.write_bytes(b"planted")

    assert f"{file}: its sha" in refusal(offline=offline)
    file.unlink()
    assert find().weights.read_bytes() == b"tensors"


def test_a_file_without_a_known_hash_is_refused_offline(tmp_path: Path) -> None:
    publish(REPO, FILES)
    file = find().config
    shutil.rmtree(tmp_path / "own")

    assert refusal(offline=True).startswith(f"{file}: no hash is known for this file, so it is not accepted offline;")
    find()
    assert find(offline=True).config == file


def test_hashes_that_did_not_come_over_https_are_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inception_cli.weights.hub._LOCAL_HOSTS", ())
    publish(REPO, FILES)

    assert re.search(
        r"config\.json: no hash is known for this file, so it is not accepted \(HF_ENDPOINT .*\); give", refusal()
    )


def test_weights_without_a_sha256_are_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    publish(REPO, FILES)
    Hub.git_only = True

    assert "model.safetensors: no hash is known for this file, so it is not accepted (the hub gives no SHA" in refusal()


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:",
        "hf-hub:fruit",
        "hf-hub:me/",
        "hf-hub:me/fruit@",
        "hf-hub:../fruit/x",
        "hf-hub:me/..",
        "hf-hub:me/a@../b",
        "local-dir:",
        "local-dir: ",
    ],
)
def test_names_of_another_form_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"^weights {name}: give "):
        find_model_folder(name, False, ignore_progress)


def test_info_and_classify_take_a_model_of_the_hub(
    tensors: State, served: str, inception: Inception, photos: Path
) -> None:
    pixels = {"input_size": [3, 80, 80], "crop_pct": 0.9, "interpolation": "bilinear"}
    config = json.loads(CONFIG) | {"pretrained_cfg": pixels}
    publish(REPO, {"config.json": json.dumps(config).encode(), "model.safetensors": save(tensors)})
    name = f"hf-hub:{REPO}"

    not_here = inception("info", "-w", name)
    classified = inception("classify", photos / "a/00.jpg", "-w", name, "-j", 0, "--json", "--precision", "fp32")
    described = json.loads(inception("info", "-w", name, "--json").out)["weights"][0]

    (weights,) = json.loads(classified.out)["run"]["weights"]
    assert weights["source"] == described["source"] == f"{served}/{REPO}/resolve/{FIRST}/model.safetensors"
    assert (weights["name"], weights["classes"]["names"]) == (name, list(NAMES))
    assert (weights["preset"]["size"], weights["preset"]["resize"], weights["preset"]["filter"]) == (80, 88, "bilinear")
    assert f"  from {served}/{REPO}/resolve/{FIRST}/" in "".join(inception("info", "-w", name).out.split("\n"))
    assert (not_here.code, not_here.err.count("\n"), "not on this machine" in not_here.err) == (1, 1, True)


# In a folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `train` writes it, with statistics of the training photos."""
    folder = tmp_path_factory.mktemp("models") / "fruit"
    save_folder(folder, lively(num_classes=3), NAMES, PRESET, {"epochs": 2}, "# fruit\n", familiarity())
    return folder


@cache
def familiarity(classes: int = 3) -> Familiarity:
    features = 1 + torch.rand(20 * classes, 1536, generator=torch.Generator().manual_seed(0)) / 100  # unlike photos
    return fit(features, torch.arange(20 * classes) % classes, classes)


def test_a_folder_is_read_like_the_file(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "fruit.safetensors"
    save_weights(file, lively(num_classes=3), NAMES, PRESET, {"epochs": 2}, familiarity=familiarity())

    one, other = find_weights(str(file)), find_weights(f"local-dir:{folder}")

    same = {"name": "fruit", "file": "fruit", "source": "fruit", "sha256": "0" * 64}
    assert replace(one, **same) == replace(other, **same)  # type: ignore[arg-type]
    tensors = [load_network(weights).state_dict() for weights in (one, other)]
    statistics = [vars(load_familiarity(weights)) for weights in (one, other)]
    for first, second in (tensors, statistics):
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_a_folder_has_the_rows_of_the_file(tmp_path: Path, inception: Inception) -> None:
    names, statistics = [f"class {number}" for number in range(20)], familiarity(classes=20)
    preset = replace(PRESET, size=160, resize=183)
    save_weights(tmp_path / "fruit.safetensors", lively(20), names, preset, {}, familiarity=statistics)
    save_folder(tmp_path / "fruit", lively(20), names, preset, {}, "", statistics)
    for number, picture in enumerate(pictures(12, seed=1, side=200)):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / f"{number:02}.png")
    options = ("-j", 0, "-o", "-", "--familiar", 0.5, "--precision", "fp32")

    from_file, *from_folder = (
        inception("classify", tmp_path, "-w", name, *options).out
        for name in (
            f"{tmp_path}/fruit.safetensors",
            f"local-dir:{tmp_path}/fruit",
            f"{tmp_path}/fruit/model.safetensors",
        )
    )

    assert from_folder == [from_file, from_file]
    assert len({line.split(",")[2] for line in from_file.splitlines()[1:]}) >= 4
    assert "unfamiliar" in from_file


def test_a_folder_keeps_preset_classes_and_record(folder: Path) -> None:
    weights = find_weights(f"local-dir:{folder}/")

    assert weights.preset == PRESET
    assert weights.classes.names == NAMES
    assert weights.notes == ()
    assert sorted(file.name for file in folder.iterdir()) == [
        *("README.md", "config.json", "familiarity.safetensors", "model.safetensors")
    ]


def copy_of(folder: Path, tmp_path: Path, **fields: object) -> Path:
    """Copy a folder, with other fields in its config.json."""
    copied = Path(shutil.copytree(folder, tmp_path / "copy", copy_function=lambda a, b: Path(b).hardlink_to(a)))
    config = json.loads((folder / "config.json").read_text())
    (copied / "config.json").unlink()
    (copied / "config.json").write_text(json.dumps(config | {"pretrained_cfg": config["pretrained_cfg"] | fields}))
    return copied


def test_an_edited_config_decides(folder: Path, tmp_path: Path) -> None:
    edited = copy_of(folder, tmp_path, interpolation="bicubic")

    expected = replace(PRESET, name="config.json", filter="bicubic", exif=False)
    assert find_weights(f"local-dir:{edited}").preset == expected


@pytest.mark.parametrize("names", [{"0": "apple", "2": "plum"}, ["apple", "apple", "plum"]])
def test_given_classes_replace_wrong_names(names: object, folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text()) | {"label_names": names}
    copied = copy_of(folder, tmp_path)
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(InceptionError, match=r"label_names.*give others with --classes FILE"):
        find_weights(f"local-dir:{copied}")

    weights = find_weights(f"local-dir:{copied}", classes=Classes(("a", "b", "c")))

    assert weights.classes.names == ("a", "b", "c")


def test_statistics_of_other_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    copied = copy_of(folder, tmp_path)
    (copied / "familiarity.safetensors").unlink()
    weights = find_weights(f"local-dir:{copied}")
    with pytest.raises(InceptionError) as error:
        load_familiarity(weights)
    assert str(error.value) == (
        f"{copied}/familiarity.safetensors: no such file, which familiar needs; copy it there from the folder that the "
        "weights come from, or leave it out"
    )

    (copied / "familiarity.safetensors").write_bytes(save({"familiarity.means": torch.zeros(3, 1536)}))

    with pytest.raises(InceptionError, match=r"familiarity\.safetensors does not belong to these weights"):
        load_familiarity(weights)


def test_statistics_are_fetched_from_the_hub(folder: Path, tensors: State, monkeypatch: pytest.MonkeyPatch) -> None:
    with safe_open(folder / "model.safetensors", "pt") as stream:
        weights_file = save(tensors, stream.metadata())
    statistics = (folder / "familiarity.safetensors").read_bytes()
    publish(REPO, FILES | {"model.safetensors": weights_file, "familiarity.safetensors": statistics})

    with monkeypatch.context() as patch:
        own, failed = hub.download, mock.Mock(side_effect=LocalEntryNotFoundError("no connection"))
        patch.setattr(hub, "download", lambda file, *_: (failed if "familiarity" in file.filename else own)(file, *_))
        weights = find_weights(f"hf-hub:{REPO}")
    with pytest.raises(
        InceptionError, match=r"needs; connect once to get http.*/familiarity\.safetensors, or leave it"
    ):
        load_familiarity(weights)

    for offline in (False, True):
        weights = find_weights(f"hf-hub:{REPO}", offline=offline)
        assert torch.equal(load_familiarity(weights).means, familiarity().means)


@pytest.mark.parametrize("broken", [False, True])
def test_a_repository_may_lack_the_statistics(broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(REPO, FILES)
    files = find()
    if broken:
        monkeypatch.setattr(hub, "download", mock.Mock(side_effect=LocalEntryNotFoundError("no connection")))

    files.fetch_familiarity()

    assert not files.weights.with_name("familiarity.safetensors").exists()


def test_pickled_tensors_are_loaded_safely(folder: Path, tensors: State, tmp_path: Path) -> None:
    copied = copy_of(folder, tmp_path)
    (copied / "model.safetensors").unlink()
    torch.save(tensors, copied / "pytorch_model.bin")

    weights = find_weights(f"local-dir:{copied}")

    assert weights.file == str(copied / "pytorch_model.bin")
    assert torch.equal(load_network(weights).fc.bias, tensors["fc.bias"])
    torch.save({"state_dict": Path("code")}, copied / "pytorch_model.bin")
    with pytest.raises(InceptionError, match=r"pytorch_model\.bin: .*not a checkpoint of tensors only|no state dict"):
        find_weights(f"local-dir:{copied}")


def test_a_folder_without_a_file_is_refused(folder: Path, tmp_path: Path) -> None:
    copied = copy_of(folder, tmp_path)
    (copied / "config.json").unlink()
    assert refusal(f"local-dir:{copied}") == (
        f"{copied}: has no config.json; give a folder in timm's layout, or the file of the weights itself, "
        f"{copied}/model.safetensors"
    )
    (copied / "model.safetensors").rename(copied / "weights.safetensors")
    (copied / "config.json").write_text(CONFIG)
    assert refusal(f"local-dir:{copied}").startswith(f"{copied}: has no model.safetensors or pytorch_model.bin; ")
    assert refusal(f"local-dir:{tmp_path}/none").startswith(f"{tmp_path}/none: no such folder; ")


def test_a_folder_that_cannot_be_searched_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.match(r"/x{300}: (file name too long|no such folder); give one with", refusal("local-dir:/" + "x" * 300))
    assert refusal("local-dir:~nobody-here/x").startswith("~nobody-here/x: no such folder; give one with config.json")
    monkeypatch.setattr("os.access", lambda *_: False)
    assert refusal(f"local-dir:{tmp_path}").startswith(f"{tmp_path}: permission denied; give one with config.json")


@pytest.mark.parametrize("name", ["HF-HUB:me/fruit", "hf_hub:me/fruit"])
def test_a_prefix_in_another_spelling_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=f"^weights '{name}' is unknown: did you mean hf-hub:me/fruit\\?$"):
        find_weights(name)


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(CONFIG)
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n")

    with pytest.raises(InceptionError, match=r"model\.safetensors: is a pointer of Git LFS, .*; run git lfs pull in "):
        find_weights(f"local-dir:{tmp_path}")


def test_a_folder_given_as_a_file_is_refused_with_the_right_form(folder: Path) -> None:
    with pytest.raises(UsageError, match=f"{folder}: is a folder in timm's layout; give local-dir:{folder}$"):
        find_weights(str(folder))


@pytest.mark.parametrize(("num_classes", "offset", "stored"), [(4, 0, 3), (1000, 0, 1001), (1000, 1, 1000)])
def test_another_number_of_classes_than_the_tensors_have_is_refused(
    num_classes: int, offset: int, stored: int, tensors: State, tmp_path: Path
) -> None:
    write_folder(tmp_path, num_classes, offset, tensors | head(stored))

    with pytest.raises(InceptionError, match=rf"config\.json: num_classes is {num_classes}.*{stored:,} classes; "):
        find_weights(f"local-dir:{tmp_path}")


@pytest.mark.parametrize(("num_classes", "offset", "stored"), [(1000, 1, 1001), (1001, 0, 1001), (1008, 0, 1008)])
def test_the_classifier_is_as_the_config_says(
    num_classes: int, offset: int, stored: int, tensors: State, tmp_path: Path
) -> None:
    write_folder(tmp_path, num_classes, offset, tensors | head(stored))

    weights = find_weights(f"local-dir:{tmp_path}")

    assert len(weights.classes) == num_classes
    assert torch.equal(load_network(weights).fc.bias, head(stored)["fc.bias"][offset:])


def write_folder(folder: Path, num_classes: int, offset: int, tensors: State) -> None:
    """Write a folder in timm's layout, whose config.json has no names."""
    config = {"architecture": "inception_v3", "num_classes": num_classes, "pretrained_cfg": {"label_offset": offset}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(save({name: tensors[name] for name in tensors if tensors[name].numel()}))


def head(classes: int) -> State:
    """Return the tensors of a classifier, without the scale of an int8 one."""
    bias = torch.arange(float(classes))
    return {"fc.weight": torch.ones(classes, 2048), "fc.bias": bias, "fc.weight.int8_scale": torch.empty(0)}
