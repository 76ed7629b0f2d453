"""What README shows is made here: its help, its capture of a terminal, its picture of a report.

python tests/shots.py            all of it; the report needs playwright and a Chromium
python tests/shots.py help       the blocks of --help alone
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / ".readme"
README = ROOT / "README.md"
HELP_BLOCK = re.compile(r"(<code>(inception[^<]*--help)</code></summary>\n\n```text\n)(.*?)(\n```)", re.DOTALL)
WIDTH = 100  # characters

COMMANDS = (
    "inception classify sample_images/apple/apple-2.jpg --weights demo",
    "inception classify sample_images --weights demo --out preds.csv",
    "inception evaluate --val-dir sample_images --weights demo",
)
REPORT = "inception report preds.csv --out report.html"
TERMINAL = {"FORCE_COLOR": "1", "TTY_INTERACTIVE": "0", "COLUMNS": str(WIDTH)}  # colours without animation
# Rich's own page of the picture fetches its font from the network.
WEB_FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


def main() -> None:
    write_help()
    if sys.argv[1:] == ["help"]:
        return
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "sample_images", Path(folder, "sample_images"))
        said = "\n".join(f"\x1b[1;32m$\x1b[0m {line}\n{run(line, Path(folder), TERMINAL)}" for line in COMMANDS)
        (PICTURES / "terminal.svg").write_text(svg(said))
        run(REPORT, Path(folder), {})
        (PICTURES / "report.png").write_bytes(screenshot(Path(folder, "report.html")))
    for file in sorted(PICTURES.iterdir()):
        print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")


def run(line: str, folder: Path, environment: dict[str, str]) -> str:
    """What a command prints."""
    ended = subprocess.run(
        [sys.executable, "-m", *line.replace("inception", "inception_cli", 1).split()],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return ended.stdout


def help_of(line: str) -> str:
    """What a command's --help prints on a plain terminal."""
    plain = {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH)}
    return "\n".join(each.rstrip() for each in run(line, ROOT, plain).splitlines()).strip("\n")


def write_help() -> None:
    """Put what --help prints into README's blocks."""
    README.write_text(HELP_BLOCK.sub(lambda block: block[1] + help_of(block[2]) + block[4], README.read_text()))


def svg(said: str) -> str:
    """A picture of a terminal."""
    console = Console(record=True, file=io.StringIO(), width=WIDTH, force_terminal=True)
    for line in Text.from_ansi(said).split():
        if line.plain.strip():  # a bar leaves empty lines behind
            console.print(line)
    return WEB_FONT.sub("", console.export_svg(title="inception", theme=MONOKAI, unique_id="inception"))


def screenshot(page: Path) -> bytes:
    """The top of a report, in 256 colours."""
    from PIL import Image
    from playwright.sync_api import sync_playwright
    from test_report_browser import NAMES

    with sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, NAMES)), playwright.chromium.executable_path)
        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium's sandbox refuses to run as root
        with playwright.chromium.launch(executable_path=found, args=sandbox) as browser:
            tab = browser.new_page(viewport={"width": 1000, "height": 2000}, reduced_motion="reduce")
            tab.goto(page.as_uri())
            taken = Image.open(io.BytesIO(tab.screenshot()))
    small = io.BytesIO()
    taken.convert("RGB").quantize(256).save(small, "PNG", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    main()
