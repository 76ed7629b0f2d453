"""The house: arrows run down only, no function grows over 60 lines, and `--help` costs nothing."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "inception_cli"
MODULES = {
    ".".join(("inception_cli", *path.relative_to(PACKAGE).with_suffix("").parts)): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py"
}
LEVELS = {
    "__main__": 8,
    "options": 6,
    "cli": 7,  # the design has cli and display on one floor; cli prints through display, never the other way
    "stdout": 6.5,
    "display": 6,
    "target": 6,
    "completion": 5,
    "evaluation": 5,
    "session": 5.5,  # runs what gpus and ray_engine offer
    "classifier": 5,
    "reporting": 5,
    "gpus": 5,
    "ray_engine": 5,
    "cluster": 4,
    "predict": 4,
    "train": 4,
    "about": 4,
    "settings": 3.5,  # the one arrow within a level: settings → weights
    "weights": 3,
    "published": 2.5,
    "results": 2,
    "images": 2,
    "network": 2,
    "stores": 1,
    "errors": 0,
    "names": 0,
}
WINGS = ("results", "images", "network")
HEAVY = ("torch", "torchvision", "pandas", "numpy", "PIL")


def place(module: str) -> str:
    """The room of the house: a wing, or a file of the hall."""
    return module.split(".")[1]


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports, wherever in it; those for the type checker alone left out."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(module: str) -> set[str]:
    return {name for name in imports(MODULES[module]) if name in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_arrows_run_down_only(module: str) -> None:
    level = LEVELS[place(module)]

    upward = {target for target in arrows(module) if place(target) != place(module) and LEVELS[place(target)] >= level}

    assert upward == set()


@pytest.mark.parametrize("module", [name for name in MODULES if place(name) in WINGS])
def test_no_arrow_between_the_wings(module: str) -> None:
    others = {target for target in arrows(module) if place(target) in WINGS and place(target) != place(module)}

    assert others == set()


def test_no_cycle_of_imports() -> None:
    done: set[str] = set()
    while ready := {module for module in MODULES if module not in done and arrows(module) - {module} <= done}:
        done |= ready

    assert set(MODULES) - done == set()


@pytest.mark.parametrize("module", [name for name in MODULES if place(name) == "results"])
def test_results_know_no_torch(module: str) -> None:
    assert [name for name in imports(MODULES[module]) if name.split(".")[0] in ("torch", "torchvision", "PIL")] == []


@pytest.mark.parametrize("module", MODULES)
def test_no_function_is_over_60_lines(module: str) -> None:
    long = [
        node.name
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno + 1 > 60
    ]

    assert long == []


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_over_400_lines(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= 400


COMMANDS = ("classify", "evaluate", "report", "train", "info")


@pytest.mark.parametrize("argument", ["--help", "--version", *(f"{command} --help" for command in COMMANDS)])
def test_help_imports_nothing_heavy(argument: str) -> None:
    program = (
        "import sys; from inception_cli.__main__ import main\n"
        f"sys.argv = ['inception', *{argument.split()!r}]\n"
        "try: main()\n"
        f"finally: print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ended.stderr.strip() == "[]"
