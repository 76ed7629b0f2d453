"""The layout of the package: imports go down only, functions and files stay short, `--help` loads nothing heavy."""

import ast
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from fresh import FreshProcesses

PACKAGE = Path(__file__).parent.parent / "inception_cli"
#: Files by module name; the `__init__.py` of a folder counts as the folder's own module.
MODULES = {
    ".".join(("inception_cli", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
#: The level of each folder, or file in the package root: a module imports lower levels and its own folder.
LEVELS = {
    "__main__": 5,
    "cli": 4,
    "classifier": 4,
    "inference": 3,
    "training": 3,
    "evaluation": 3,
    "report": 3,
    "actions": 3,
    "weights": 2,
    "images": 1,
    "network": 1,
    "predictions": 1,
    "storage": 1,
    "config": 0,
    "errors": 0,
    "machine": 0,
    "files": 0,
}
#: The imports between folders of one level.
SAME_LEVEL = {
    ("report", "evaluation"),
    ("storage", "predictions"),
    ("machine", "config"),
    *((folder, "errors") for folder in ("config", "machine", "files")),
}
TORCH_FREE = ("evaluation", "report", "predictions", "storage")
HEAVY = ("torch", "torchvision", "pandas", "numpy", "PIL")
COMMANDS = ("classify", "evaluate", "report", "sort", "tag", "train", "export", "info")


def folder_of(module: str) -> str:
    """Return the folder of a module below the package root, or the module itself if it is in the root."""
    return [*module.split("."), ""][1]


def imported_names(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Yield the names of the modules that some statements import; of `from a import b` both a and a.b."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def tree(module: str) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(MODULES[module].read_text())


@cache
def imports(module: str) -> set[str]:
    """Return everything that a module imports, in functions and for the type checker too."""
    return set(imported_names(ast.walk(tree(module))))


def imports_on_loading(module: str) -> set[str]:
    """Return the modules of the package that are imported as soon as this one is."""
    return {name for name in imported_names(iter(tree(module).body)) if name in MODULES}


def libraries(module: str) -> set[str]:
    """Return the top-level packages that a module imports."""
    return {name.partition(".")[0] for name in imports(module)}


def functions() -> Iterator[tuple[str, int]]:
    """Yield the name of every function in the package, and its number of lines."""
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno
                yield f"{module}.{node.name}", node.end_lineno - node.lineno + 1


def test_every_folder_has_a_level() -> None:
    assert {folder_of(module) for module in MODULES if module != "inception_cli"} - LEVELS.keys() == set()


@pytest.mark.parametrize("module", [module for module in MODULES if module != "inception_cli"])
def test_imports_go_down(module: str) -> None:
    here = folder_of(module)

    others = {name for name in imports(module) if name in MODULES and folder_of(name) not in ("", here)}

    not_allowed = {name for name in others if LEVELS[folder_of(name)] >= LEVELS[here]}
    assert {name for name in not_allowed if (here, folder_of(name)) not in SAME_LEVEL} == set()


def test_no_cycle_of_imports() -> None:
    loaded: set[str] = set()
    while ready := {
        module for module in MODULES if module not in loaded and imports_on_loading(module) - {module} <= loaded
    }:
        loaded |= ready

    assert set(MODULES) - loaded == set()


def test_the_package_itself_imports_nothing_until_it_is_used() -> None:
    assert imports_on_loading("inception_cli") == set()


def test_only_the_command_line_imports_typer_and_rich() -> None:
    users = {folder_of(module) for module in MODULES if libraries(module) & {"typer", "rich"}}

    assert users <= {"cli", "__main__"}


@pytest.mark.parametrize("folder", TORCH_FREE)
def test_a_torch_free_folder_reaches_torch_by_no_chain_of_imports(folder: str) -> None:
    reached: set[str] = set()
    new = {module for module in MODULES if folder_of(module) == folder}
    while new:
        reached |= new
        new = {name for module in new for name in imports(module) if name in MODULES} - reached - {"inception_cli"}

    assert [module for module in reached if libraries(module) & {"torch", "torchvision"}] == []


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """Import parts of the package in a new process; return for each the modules of HEAVY that are loaded after it."""
    light = {"configuration": ["inception_cli.config", "inception_cli.errors", "inception_cli.machine"]}
    light |= {"sorting": ["inception_cli.actions.sort"]}
    parts = light | {folder: [each for each in MODULES if folder_of(each) == folder] for folder in TORCH_FREE}
    program = (
        "import importlib, json, sys; loaded = {}\n"
        f"for part, modules in {parts}.items():\n"
        "    for module in modules: importlib.import_module(module)\n"
        f"    loaded[part] = [name for name in {HEAVY} if name in sys.modules]\n"
        "print(json.dumps(loaded))"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert ended.stderr == ""
    by_part: dict[str, list[str]] = json.loads(ended.stdout)
    return by_part


@pytest.mark.parametrize("folder", TORCH_FREE)
def test_importing_a_torch_free_folder_does_not_load_torch(folder: str, loaded: dict[str, list[str]]) -> None:
    assert {"torch", "torchvision"}.isdisjoint(loaded[folder])


def test_importing_the_configuration_loads_nothing_heavy(loaded: dict[str, list[str]]) -> None:
    assert loaded["configuration"] == []


def test_sorting_loads_nothing_heavy(loaded: dict[str, list[str]]) -> None:
    assert loaded["sorting"] == []


@pytest.mark.parametrize("argument", ["--help", "--version", *(f"{command} --help" for command in COMMANDS)])
def test_help_loads_nothing_heavy(argument: str, fresh: FreshProcesses) -> None:
    ended = fresh.run(*argument.split())

    assert (ended.code, ended.err) == (0, "")
    assert ended.out
    assert ended.modules.isdisjoint(HEAVY)


def test_no_function_is_over_60_lines() -> None:
    assert [(name, lines) for name, lines in functions() if lines > 60] == []


def test_the_median_function_has_at_most_10_lines() -> None:
    assert statistics.median(lines for _, lines in functions()) <= 10


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_over_400_lines(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) <= 400


def test_the_package_root_holds_at_most_seven_files() -> None:
    assert len([path for path in PACKAGE.iterdir() if path.is_file()]) <= 7
