"""A wheel that is built and installed elsewhere classifies from another folder."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_what_the_program_reads(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    read = ["py.typed", "results/imagenet.csv", "demo/demo.safetensors", "demo/MODEL_CARD.md", "demo/LICENSE"]
    read += [f"results/page/page.{suffix}" for suffix in ("html", "css", "js")]
    assert [name for name in read if f"inception_cli/{name}" not in names] == []
    assert not [name for name in names if name.startswith("tests")]


def test_the_wheel_classifies_from_another_folder(wheel: Path, photos: Path, tmp_path: Path) -> None:
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    zipfile.ZipFile(wheel).extractall(site)  # what installing it without its needs does
    Path(site, "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    program = "from inception_cli.__main__ import main; main()"
    words = ["classify", str(photos / "a"), "-w", "demo", "-o", "preds.csv", "-j", "0"]

    ended = subprocess.run([python, "-c", program, *words], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    assert len((tmp_path / "preds.csv").read_text().splitlines()) == 9
    where = subprocess.run(
        [python, "-c", "import inception_cli; print(inception_cli.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert where.stdout.startswith(str(tmp_path))
