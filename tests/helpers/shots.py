"""Renew the help snapshots, and the pictures in README: a terminal, and a report.

python tests/helpers/shots.py            everything; the report needs playwright and a Chromium
python tests/helpers/shots.py help       only tests/snapshots/help
python tests/helpers/shots.py terminal   only .readme/terminal.svg
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

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / ".readme"
HELP = ROOT / "tests" / "snapshots" / "help"
#: The commands whose help is kept; without a command it is that of `inception` itself.
COMMANDS = ("", "classify", "evaluate", "report", "sort", "tag", "train", "export", "info")
WIDTH = 100  # characters

#: The command lines in the picture of the terminal.
LINES = (
    "inception classify sample_images/apple/apple-2.jpg --weights demo",
    "inception classify sample_images --weights demo --out preds.csv",
    "inception evaluate --val-dir sample_images --weights demo",
)
REPORT = "inception report preds.csv --out report.html"
COLOURS = {"FORCE_COLOR": "1", "TTY_INTERACTIVE": "0", "COLUMNS": str(WIDTH)}  # without animation
PLAIN = {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH)}
#: The font that a picture by Rich would download.
WEB_FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


def main() -> None:
    only = sys.argv[1] if len(sys.argv) > 1 else None
    if only in (None, "help"):
        write_help()
    if only in (None, "terminal", "report"):
        write_pictures(only)


def snapshot(command: str) -> Path:
    """Return the file that keeps the help of a command."""
    return HELP / f"{command or 'inception'}.txt"


def help_of(command: str) -> str:
    """Return what the help of a command looks like in a terminal of 100 columns without colours."""
    printed = run(f"inception {command} --help", ROOT, PLAIN)
    return "\n".join(line.rstrip() for line in printed.splitlines()).strip("\n") + "\n"


def write_help() -> None:
    """Renew the snapshots of the help."""
    HELP.mkdir(parents=True, exist_ok=True)
    for command in COMMANDS:
        snapshot(command).write_text(help_of(command))


def write_pictures(only: str | None) -> None:
    """Renew the pictures in README: `terminal`, `report`, or both."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "sample_images", Path(folder, "sample_images"))
        printed = "\n".join(f"\x1b[1;32m$\x1b[0m {line}\n{run(line, Path(folder), COLOURS)}" for line in LINES)
        if only != "report":
            (PICTURES / "terminal.svg").write_text(svg(printed))
        if only != "terminal":
            run(REPORT, Path(folder), {})
            (PICTURES / "report.png").write_bytes(screenshot(Path(folder, "report.html")))
    for file in sorted(PICTURES.iterdir()):
        print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")


def run(line: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a command in a folder and return what it prints on both streams."""
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


def svg(printed: str) -> str:
    """Return a picture of a terminal that shows this text with its colours."""
    console = Console(record=True, file=io.StringIO(), width=WIDTH, force_terminal=True)
    for line in Text.from_ansi(printed).split():
        if line.plain.strip():  # a progress bar leaves empty lines behind
            console.print(line)
    return WEB_FONT.sub("", console.export_svg(title="inception", theme=MONOKAI, unique_id="inception"))


def screenshot(page: Path) -> bytes:
    """Return a picture of the top of a report, in 256 colours."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from test_report_browser import NAMES

    with sync_playwright() as playwright:
        chromium = next(filter(None, map(shutil.which, NAMES)), playwright.chromium.executable_path)
        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium's sandbox refuses to run as root
        with playwright.chromium.launch(executable_path=chromium, args=sandbox) as browser:
            tab = browser.new_page(viewport={"width": 1000, "height": 2000}, reduced_motion="reduce")
            tab.goto(page.as_uri())
            image = Image.open(io.BytesIO(tab.screenshot()))
    png = io.BytesIO()
    image.convert("RGB").quantize(256).save(png, "PNG", optimize=True)
    return png.getvalue()


if __name__ == "__main__":
    main()
