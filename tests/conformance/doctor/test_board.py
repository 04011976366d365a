"""Each line of the board's side on layouts of real boards, bad ones with their cure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ort_rknn.devices.soc import detect
from ort_rknn_conformance.doctor.board import board_findings
from ort_rknn_conformance.doctor.findings import Finding
from tests.helpers.board_trees import ROCK5B, ROCK5B_NAMES, RUNTIME, runtime, tree


def _look(root: Path, toolkit: str | None = "2.5.0", **more: str) -> dict[str, Finding]:
    found = list(board_findings(root, toolkit, **more))
    for finding in found:
        assert finding.said
        assert finding.state == "ok" or finding.cure or finding.topic in ("NPU driver", "NPU device", "runtime library")
    return {finding.topic: finding for finding in found}


def _without(*names: str) -> dict[str, str | bytes]:
    return {name: content for name, content in ROCK5B.items() if name not in names}


def test_a_good_board(tmp_path: Path) -> None:
    found = _look(tree(tmp_path, ROCK5B_NAMES, ROCK5B))
    assert {finding.state for finding in found.values()} == {"ok"}
    assert found["SoC"].said.startswith("rk3588 ")
    assert found["kernel"].said == "6.1.84-8-rk2410-nocsf"
    assert found["NPU driver"].said == "rknpu 0.9.8"
    assert found["runtime library"].said == "/usr/lib/librknnrt.so 2.5.0"


def test_rk3566_with_the_driver_without_drm(tmp_path: Path) -> None:
    files = {"dev/rknpu": "", "sys/kernel/debug/rknpu/version": "RKNPU driver: v0.9.6\n", RUNTIME: runtime("2.5.0")}
    found = _look(tree(tmp_path, ("rockchip,rk3566-orangepi-3b", "rockchip,rk3566"), files))
    assert {finding.state for finding in found.values()} == {"ok"}
    assert found["NPU device"].said == "/dev/rknpu"


def test_mainline_rocket(tmp_path: Path) -> None:
    files = {
        "proc/sys/kernel/osrelease": "6.18.1-edge-rockchip64\n",
        "sys/class/accel/accel0/device/uevent": "DRIVER=rocket\n",
        "dev/accel/accel0": "",
    }
    found = _look(tree(tmp_path, ROCK5B_NAMES, files))
    assert found["NPU driver"].state == "bad"
    assert "rocket" in found["NPU driver"].said
    assert "rknpu 0.9.6 or newer" in found["NPU driver"].cure
    assert "github.com/w568w/rknpu-module" in found["NPU driver"].cure
    assert "github.com/w568w/rknpu-module" in (detect(tmp_path).problem or "")
    assert found["runtime library"].state == "bad"


@pytest.mark.parametrize(
    ("version", "state", "said"),
    [
        ("0.9.8", "ok", "rknpu 0.9.8"),
        ("0.9.6", "ok", "rknpu 0.9.6"),
        ("0.9.3", "note", "cores 1 and 2 fail"),
        ("0.9.2", "note", "0.9.6 cured it"),
        ("0.8.2", "bad", "the vendor asks for 0.9.2"),
    ],
)
def test_driver_versions(tmp_path: Path, version: str, state: str, said: str) -> None:
    found = _look(tree(tmp_path, ROCK5B_NAMES, {**ROCK5B, "sys/module/rknpu/version": version}))
    assert found["NPU driver"].state == state
    assert said in found["NPU driver"].said


def test_driver_version_that_only_root_can_read(tmp_path: Path) -> None:
    files = {**_without("sys/module/rknpu/version"), "sys/bus/platform/drivers/RKNPU/bind": ""}
    found = _look(tree(tmp_path, ROCK5B_NAMES, files))
    assert found["NPU driver"].state == "note"
    assert "sudo cat /sys/kernel/debug/rknpu/version" in found["NPU driver"].cure


def test_no_driver(tmp_path: Path) -> None:
    found = _look(tree(tmp_path, ROCK5B_NAMES, {RUNTIME: runtime("2.5.0")}))
    assert found["NPU driver"].state == found["NPU device"].state == "bad"
    assert found["NPU driver"].cure


def test_docker_that_hides_the_device_tree(tmp_path: Path) -> None:
    found = _look(tree(tmp_path, (), {**ROCK5B, ".dockerenv": ""}))
    assert found["SoC"].state == found["container"].state == "bad"
    assert "systempaths=unconfined" in found["SoC"].cure
    assert "device tree" in found["container"].said


def test_podman_without_the_device(tmp_path: Path) -> None:
    files = {**_without("dev/dri/renderD128", "dev/dri/renderD129"), "run/.containerenv": ""}
    found = _look(tree(tmp_path, ROCK5B_NAMES, files))
    assert "NPU device" in found["container"].said
    assert "--device /dev/dri" in found["NPU device"].cure


def test_docker_as_it_should_be(tmp_path: Path) -> None:
    found = _look(tree(tmp_path, ROCK5B_NAMES, {**ROCK5B, ".dockerenv": ""}))
    assert found["container"].state == "ok"


@pytest.mark.parametrize("open_to_us", [False, True])
def test_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_to_us: bool) -> None:
    root = tree(tmp_path, ROCK5B_NAMES, ROCK5B)

    def may_open(node: Path) -> bool:  # the tests may run as root, whom nothing is denied
        return open_to_us and node.name == "renderD129"

    monkeypatch.setattr("ort_rknn.devices.soc._may_open", may_open)
    found = _look(root)["NPU device"]
    assert found.state == ("note" if open_to_us else "bad")
    assert "/dev/dri/renderD128" in found.said
    assert "usermod -aG render,video" in found.cure


@pytest.mark.parametrize(
    ("version", "state", "said", "cure"),
    [
        ("1.4.0", "bad", "Invalid RKNN model version", "rknn-toolkit2 1.4.0 (github.com/rockchip-linux/rknn-toolkit2"),
        ("1.5.0", "bad", "Invalid RKNN model version", "whose models it still loads"),
        ("1.5.2", "note", "seen to load models of 2.5.0", "tag v1.5.2"),
        ("1.6.0", "note", "without BOOL outputs", "ORT_RKNN_TOOLKIT_PYTHON"),
        ("2.1.0", "note", "older than the toolkit (2.5.0)", "github.com/airockchip/rknn-toolkit2, tag v2.1.0"),
        ("2.3.1", "note", "older than the toolkit (2.5.0)", "pip install rknn-toolkit2==2.3.0"),
        ("2.3.2", "note", "older than the toolkit (2.5.0)", "pip install rknn-toolkit2==2.3.2"),
        ("2.6.0", "ok", "2.6.0", ""),
    ],
)
def test_runtime_older_than_the_toolkit(tmp_path: Path, version: str, state: str, said: str, cure: str) -> None:
    root = tree(tmp_path, ROCK5B_NAMES, {**ROCK5B, RUNTIME: runtime(version)})
    found = _look(root)["runtime library"]
    assert found.state == state
    assert said in found.said
    assert cure in found.cure
    assert _look(root, toolkit=None)["runtime library"].state == "ok"
    assert _look(root, toolkit=version)["runtime library"].state == "ok"


def test_a_link_to_a_render_node(tmp_path: Path) -> None:
    root = tree(tmp_path, ROCK5B_NAMES, {**ROCK5B, "dev/rknpu": "->dri/renderD129"})
    found = _look(root)["NPU device"]
    assert found.state == "bad"
    assert "/dev/dri/renderD129" in found.said
    assert "Meet unsupported target type" in found.said
    assert "sudo rm /dev/rknpu" in found.cure
    assert "sudo rm /dev/rknpu" in (detect(root).problem or "")
    old = tree(
        tmp_path / "old", ROCK5B_NAMES, {**_without("dev/dri/renderD128", "dev/dri/renderD129"), "dev/rknpu": ""}
    )
    assert _look(old)["NPU device"].state == "ok"


@pytest.mark.parametrize(
    "place",
    ["oem/usr/lib/librknnrt.so", "home/rock/librknnrt.so", "usr/lib/rockchip/librknnrt.so", "root/librknnrt.so"],
)
def test_a_library_where_nobody_looks(tmp_path: Path, place: str) -> None:
    files = {**_without(RUNTIME, "usr/lib/librknnrt.so.2"), place: runtime("2.3.2")}
    found = _look(tree(tmp_path, ROCK5B_NAMES, files))["runtime library"]
    assert found.state == "bad"
    assert f"one is /{place}" in found.said
    assert f"ORT_RKNN_RUNTIME_LIBRARY=/{place}" in found.cure


def test_a_library_of_another_family(tmp_path: Path) -> None:
    mini = b"\x7fELF" + bytes(64) + b"librknnmrt version: 2.3.2 (429f97ae6b@2025-04-09)"
    found = _look(tree(tmp_path / "named", ROCK5B_NAMES, {**ROCK5B, RUNTIME: mini}))["runtime library"]
    assert found.state == "bad"
    assert "librknnmrt 2.3.2 under another name, the runtime of RV1103 and RV1106" in found.said
    beside = _look(tree(tmp_path / "beside", ROCK5B_NAMES, {**ROCK5B, "usr/lib/librknn_api.so": b"\x7fELF"}))
    assert beside["runtime library"].state == "ok"
    assert beside["other runtimes"].state == "note"
    assert "/usr/lib/librknn_api.so is that of RK1808, RK3399Pro" in beside["other runtimes"].said
    small = {"usr/lib/librknnmrt.so": mini, "dev/rknpu": "", "sys/module/rknpu/version": "0.9.8"}
    assert "other runtimes" not in _look(tree(tmp_path / "mini", ("rockchip,rv1106",), small))


@pytest.mark.parametrize(("machine", "said"), [(0x28, "32-bit ARM"), (0x3E, "x86-64")])
def test_a_library_for_another_processor(tmp_path: Path, machine: int, said: str) -> None:
    data = runtime("2.3.2")
    wrong = data[:18] + bytes([machine, 0]) + data[20:]
    found = _look(tree(tmp_path, ROCK5B_NAMES, {**ROCK5B, RUNTIME: wrong}))["runtime library"]
    assert found.state == "bad"
    assert f"a library for {said}, not for this aarch64" in found.said
    right = data[:18] + bytes([0xB7, 0]) + data[20:]
    assert (
        _look(tree(tmp_path / "right", ROCK5B_NAMES, {**ROCK5B, RUNTIME: right}), "2.3.2")["runtime library"].state
        == "ok"
    )


def test_the_pair_of_driver_and_runtime_that_failed(tmp_path: Path) -> None:
    files = {**ROCK5B, "sys/module/rknpu/version": "0.9.2", RUNTIME: runtime("2.3.2")}
    found = _look(tree(tmp_path / "new", ROCK5B_NAMES, files))["driver and runtime"]
    assert found.state == "note"
    assert "librknnrt 2.3.2" in found.said
    assert "1.6.0" in found.cure
    older = {**files, RUNTIME: runtime("1.6.0")}
    assert "driver and runtime" not in _look(tree(tmp_path / "old", ROCK5B_NAMES, older))


@pytest.mark.parametrize(("kilobytes", "said"), [(3_900_000, False), (8_130_000, True), (16_270_000, True)])
def test_more_memory_than_the_npu_addresses(tmp_path: Path, kilobytes: int, said: bool) -> None:
    found = _look(
        tree(tmp_path, ROCK5B_NAMES, {**ROCK5B, "proc/meminfo": f"MemTotal:  {kilobytes} kB\nMemFree: 1 kB\n"})
    )
    assert ("NPU memory" in found) == said
    if said:
        assert "4 GB at a time" in found["NPU memory"].said


def test_two_runtimes(tmp_path: Path) -> None:
    other = "usr/lib/aarch64-linux-gnu/librknnrt.so"
    found = _look(tree(tmp_path, ROCK5B_NAMES, {**ROCK5B, other: runtime("1.4.0")}))
    assert found["runtime library"].said == "/usr/lib/librknnrt.so 2.5.0"
    assert found["runtime copies"].state == "note"
    assert f"/{other} 1.4.0" in found["runtime copies"].said
    same = _look(tree(tmp_path / "same", ROCK5B_NAMES, {**ROCK5B, other: runtime("2.5.0")}))
    assert "runtime copies" not in same


def test_runtime_missing_or_no_runtime(tmp_path: Path) -> None:
    root = tree(tmp_path, ROCK5B_NAMES, _without(RUNTIME, "usr/lib/librknnrt.so.2"))
    assert "airockchip/rknn-toolkit2" in _look(root)["runtime library"].cure
    (root / RUNTIME).parent.mkdir(parents=True)
    (root / RUNTIME).write_bytes(b"404: Not Found")
    assert "is no librknnrt" in _look(root)["runtime library"].said
    (root / "mine.so").write_bytes(runtime("2.6.0"))
    named = _look(root, library=os.fspath(root / "mine.so"))["runtime library"]
    assert named.state == "ok"
    assert "2.6.0" in named.said


def test_other_boards_and_a_pc(tmp_path: Path) -> None:
    pi = _look(tree(tmp_path / "pi", ("raspberrypi,5-model-b", "brcm,bcm2712")))
    assert pi["SoC"].state == "bad"
    assert "brcm,bcm2712" in pi["SoC"].said
    (tmp_path / "pc").mkdir()
    assert list(_look(tmp_path / "pc", machine="x86_64")) == ["SoC"]
    assert "no Rockchip board" in _look(tmp_path / "pc")["SoC"].said


def test_a_kernel_with_a_name(tmp_path: Path) -> None:
    found = _look(tree(tmp_path, ROCK5B_NAMES, {**ROCK5B, "proc/sys/kernel/osrelease": "6.1.141-ophub"}))
    assert found["kernel"].state == "note"


HIDDEN = {".dockerenv": "", **ROCK5B}


def named(root: Path, name: str | None, machine: str = "aarch64") -> dict[str, Finding]:
    return {finding.topic: finding for finding in board_findings(root, "2.5.0", None, machine, named=name)}


def test_a_name_in_the_place_of_a_hidden_device_tree_leaves_nothing_bad(tmp_path: Path) -> None:
    root = tree(tmp_path, (), HIDDEN)
    assert "or set ORT_RKNN_TARGET" in named(root, None)["SoC"].cure
    found = named(root, "rk3588")
    assert {finding.state for finding in found.values()} == {"ok"}, found
    assert found["SoC"].said.startswith("rk3588, as ORT_RKNN_TARGET says")


def test_a_name_that_is_no_soc_is_the_finding(tmp_path: Path) -> None:
    found = named(tree(tmp_path, (), HIDDEN), "rk9999")["SoC"]
    assert found.state == "bad"
    assert "says 'rk9999', and no SoC of that name is known; known are rk3588, " in found.said


def test_a_name_makes_no_board_of_a_pc(tmp_path: Path) -> None:
    """On a PC the variable says what to compile for."""
    found = named(tmp_path, "rk3588", machine="x86_64")
    assert list(found) == ["SoC"]
    assert "a x86_64 machine is no Rockchip board" in found["SoC"].said


@pytest.mark.timeout(20)
def test_files_of_a_mounted_board_are_bounded_and_may_be_anything(tmp_path: Path) -> None:
    tree(
        tmp_path, ("rockchip,rk3588",), {"proc/sys/kernel/osrelease": b"\xff\xfe", "proc/meminfo": b"MemTotal: \xff kB"}
    )
    (tmp_path / "usr" / "lib").mkdir(parents=True)
    with (tmp_path / "usr" / "lib" / "librknnrt.so").open("wb") as file:
        file.truncate(1 << 40)
    found = {one.topic: one.said for one in board_findings(tmp_path)}
    assert "is no librknnrt" in found["runtime library"]
