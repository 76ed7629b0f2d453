"""Measure the memory of a whole run, workers included: the peak of resident memory in MB.

    python tests/bench/memory.py FOLDER [--workers 2] [--weights demo]

Shared pages are counted once (Pss), ten times a second. Prints one line, then one line of JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path


def process_tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    pids = [pid]
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                pids += process_tree(int(child))
    return pids


def resident(pid: int) -> int:
    """Return the bytes of a process and all its descendants."""
    total = 0
    for each in process_tree(pid):
        with suppress(OSError):  # the process has ended
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--workers", default="2")
    parser.add_argument("--weights", default="demo")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        options = ["-w", arguments.weights, "-j", arguments.workers, "-q", "-o", f"{place}/out.csv"]
        words = ["classify", arguments.folder, *options]
        run = subprocess.Popen([sys.executable, "-m", "inception_cli", *words], stderr=subprocess.DEVNULL)
        peak = 0
        while run.poll() is None:
            peak = max(peak, resident(run.pid))
            time.sleep(0.1)
    print(f"{arguments.workers} workers, {arguments.weights}: {peak / 1e6:.0f} MB at the peak (target 2000)")
    print(json.dumps({"bench": "memory", "workers": arguments.workers, "megabytes": peak / 1e6}))


if __name__ == "__main__":
    main()
