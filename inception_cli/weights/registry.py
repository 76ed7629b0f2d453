"""Published weights: their accuracy, where they are downloaded from, and their hashes. Imports no torch."""

import os
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from inception_cli.config import PresetName


@dataclass(frozen=True)
class HubFile:
    """A file of a repository on the Hugging Face hub; `revision` is a branch, a tag or a commit."""

    repo: str
    filename: str
    revision: str = "main"

    @property
    def url(self) -> str:
        """The URL of the file."""
        return f"{hub_endpoint()}/{self.repo}/resolve/{quote(self.revision, safe='')}/{self.filename}"


@dataclass(frozen=True)
class Published:
    """One published set of weights.

    Accuracies are the publisher's own, in percent, on ImageNet's 50,000 validation images with a single crop.
    """

    name: str
    preset: PresetName
    top1: float
    top5: float
    licence: str
    filename: str
    url: str = ""  # of the file, or else
    repo: str = ""  # a repository on the Hugging Face hub
    revision: str = "main"
    sha256: str = ""  # as published: whole or a prefix; for some of the hub's files none

    @property
    def source(self) -> str:
        """The URL of the file."""
        return self.url or self.hub_file.url

    @property
    def hub_file(self) -> HubFile:
        """The file on the hub."""
        return HubFile(self.repo, self.filename, self.revision)


TORCHVISION = Published(
    name="torchvision",
    preset="torchvision",
    top1=77.294,
    top5=93.450,
    licence="BSD-3-Clause",
    filename="inception_v3_google-0cc3c7bd.pth",
    url="https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",
    sha256="0cc3c7bd",
)


def _timm(name: str, tag: str, top1: float, top5: float, preset: PresetName = "timm", sha256: str = "") -> Published:
    repo = f"timm/inception_v3.{tag}"
    return Published(name, preset, top1, top5, "Apache-2.0", "model.safetensors", repo=repo, sha256=sha256)


TIMM_TV_SHA256 = "9c452c63a67fd03a38a78c401ba12d4be0e926df63c93403de3a29f6df20fefb"

#: mmpretrain's row is torchvision's file with mmpretrain's preset: openmmlab converted the file, name by name.
PUBLISHED: dict[str, Published] = {
    entry.name: entry
    for entry in (
        TORCHVISION,
        replace(TORCHVISION, name="mmpretrain", preset="mmpretrain", top1=77.57, top5=93.58),
        _timm("timm-tv", "tv_in1k", 77.472, 93.468, sha256=TIMM_TV_SHA256),
        _timm("timm-tf", "tf_in1k", 77.866, 93.644),
        _timm("timm-adv", "tf_adv_in1k", 77.598, 93.726),
        _timm("timm-gluon", "gluon_in1k", 78.806, 94.372, preset="timm-gluon"),
    )
}

#: What precedes the name of a repository on the hub, and the path of a folder, in timm's layout (model_folder.py).
HUB_PREFIX, FOLDER_PREFIX = "hf-hub:", "local-dir:"
#: Name of the bundled weights: ten classes of groceries, which need no download.
DEMO = "demo"


def demo_file() -> Path:
    """Return the file of the bundled weights."""
    return Path(str(files("inception_cli"))) / "data" / "demo.safetensors"


def hub_endpoint() -> str:
    """Return the Hugging Face hub, or the mirror in the environment variable HF_ENDPOINT."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
