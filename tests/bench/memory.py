"""Memory of a whole run, workers included: the most that is resident at once, in MB.

    python tests/bench/memory.py FOLDER [--workers 2] [--weights demo]

Shared pages are counted once (Pss), looked at ten times a second. One line, then one line of JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return found


def resident(pid: int) -> int:
    """Bytes of the tree of a process."""
    total = 0
    for each in tree(pid):
        with suppress(OSError):  # it has ended
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--workers", default="2")
    parser.add_argument("--weights", default="demo")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        words = ["classify", asked.folder, "-w", asked.weights, "-j", asked.workers, "-q", "-o", f"{place}/out.csv"]
        run = subprocess.Popen([sys.executable, "-m", "inception_cli", *words], stderr=subprocess.DEVNULL)
        most = 0
        while run.poll() is None:
            most = max(most, resident(run.pid))
            time.sleep(0.1)
    print(f"{asked.workers} workers, {asked.weights}: {most / 1e6:.0f} MB at the most (bar 2000)")
    print(json.dumps({"bench": "memory", "workers": asked.workers, "megabytes": most / 1e6}))


if __name__ == "__main__":
    main()
