"""What this machine has: cores, memory, devices, the fastest precision."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from inception_cli import machine
from inception_cli.errors import InceptionError, UsageError

V2, V1 = "0::/system.slice/job", "11:memory:/docker/a1\n4:cpu,cpuacct:/docker/a1\n1:name=systemd:/docker/a1\n"


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, str]], None]:
    """Write the control groups of this process and files with limits; the machine has 8 cores and 128 GiB."""

    def write(groups: str, files: dict[str, str]) -> None:
        (tmp_path / "cgroup").write_text(groups)
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{content}\n")

    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": (128 << 30) // 4096}
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "LIMITS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    return write


@pytest.mark.parametrize(
    ("lines", "files", "cores"),
    [
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "150000 100000"}, 1),
        ("0::/", {"cpu.max": "300000 100000"}, 3),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "990000 100000"}, 8),
        (V2, {"system.slice/job/cpu.max": "max 100000", "system.slice/cpu.max": "400000 100000"}, 4),
        (V2, {"system.slice/job/cpu.max": "200000 100000", "system.slice/cpu.max": "400000 100000"}, 2),
        (V2, {"user.slice/cpu.max": "100000 100000"}, 8),
        (V1, {"cpu/docker/a1/cpu.cfs_quota_us": "350000", "cpu/docker/a1/cpu.cfs_period_us": "100000"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("", {}, 8),
    ],
)
def test_cores_are_those_of_the_affinity_or_of_the_containers_quota(
    lines: str, files: dict[str, str], cores: int, groups: Callable[[str, dict[str, str]], None]
) -> None:
    """In a container the path of a group may be the host's; its files are in the root folder then."""
    groups(lines, files)

    assert machine.cores() == cores


@pytest.mark.parametrize(
    ("lines", "files", "pixels"),
    [
        ("0::/", {"memory.max": "max"}, 500_000_000),
        ("0::/", {"memory.max": "1073741824"}, 67_108_864),
        (V2, {"system.slice/job/memory.max": "max", "system.slice/memory.max": "2147483648"}, 134_217_728),
        (V1, {"memory/memory.limit_in_bytes": "1073741824"}, 67_108_864),
        (V1, {"memory/docker/a1/memory.limit_in_bytes": "9223372036854771712"}, 500_000_000),
    ],
)
def test_max_pixels_are_a_sixteenth_of_a_containers_memory(
    lines: str, files: dict[str, str], pixels: int, groups: Callable[[str, dict[str, str]], None]
) -> None:
    groups(lines, files)

    assert machine.max_pixels() == pixels


def test_a_machine_without_control_groups_has_no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CGROUPS", Path("nowhere"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)

    assert machine.cores() == 8


@pytest.mark.parametrize(("gigabytes", "pixels"), [(128, 500_000_000), (1, 67_108_864)])
def test_max_pixels_are_a_sixteenth_of_a_small_memory(
    gigabytes: int, pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": (gigabytes << 30) // 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    monkeypatch.setattr(machine, "CGROUPS", Path("nowhere"))

    assert machine.max_pixels() == pixels


@pytest.mark.parametrize(("major", "precision"), [(9, "bf16"), (8, "bf16"), (7, "fp16"), (6, "fp32")])
def test_a_gpu_gets_the_fastest_precision_that_it_has_natively(
    major: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))

    assert machine.fastest_precision("cuda") == precision


@pytest.mark.parametrize(
    ("capabilities", "precision"), [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({}, "fp32")]
)
def test_a_processor_gets_bf16_if_it_has_it(
    capabilities: dict[str, Any], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    assert machine.fastest_precision("cpu") == precision
    assert machine.fastest_precision("mps") == "fp32"


@pytest.mark.parametrize(
    ("cuda", "mps", "device"),
    [(True, False, "cuda"), (False, True, "mps"), (True, True, "cuda"), (False, False, "cpu")],
)
def test_auto_is_the_fastest_device(cuda: bool, mps: bool, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    assert machine.find_device("auto") == device


def test_a_device_that_is_not_here_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    for device in ("cuda", "cuda:0", "mps"):
        with pytest.raises(InceptionError, match=f"device {device}: .* use the device cpu"):
            machine.find_device(device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert machine.find_device("cuda:1") == "cuda:1"
    said = "device cuda:2: this machine has 2 CUDA devices, counted from 0; use cuda:0"
    with pytest.raises(InceptionError, match=said):
        machine.find_device("cuda:2")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:-1", ""])
def test_a_name_that_is_no_device_is_a_usage_error(device: str) -> None:
    with pytest.raises(UsageError, match="choose auto, cpu, cuda, cuda:N or mps"):
        machine.find_device(device)
