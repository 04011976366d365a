"""SoC detection on made-up file systems."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ort_rknn.devices.soc import detect


def board(root: Path, *compatible: str, files: dict[str, str] | None = None) -> Path:
    tree = root / "proc" / "device-tree"
    if compatible:
        tree.mkdir(parents=True)
        (tree / "compatible").write_bytes(b"".join(word.encode() + b"\0" for word in compatible))
    for name, text in (files or {}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("compatible", "target"),
    [
        (("radxa,rock-5b", "rockchip,rk3588"), "rk3588"),
        (("xunlong,orangepi-5", "rockchip,rk3588s"), "rk3588"),
        (("rockchip,rk3588s-evb1-lp4x-v10", "rockchip,rk3588"), "rk3588"),
        (("friendlyarm,nanopi-m6", "rockchip,rk3588s", "rockchip,rk3588"), "rk3588"),
        (("rockchip,rk3566-orangepi-3b", "rockchip,rk3566"), "rk3566"),
        (("radxa,rock-4d", "rockchip,rk3576"), "rk3576"),
        (("pine64,rockpro64", "rockchip,rk3399"), None),
        (("raspberrypi,5-model-b", "brcm,bcm2712"), None),
    ],
)
def test_the_device_tree_names_the_soc(tmp_path: Path, compatible: tuple[str, ...], target: str | None) -> None:
    soc = detect(board(tmp_path, *compatible))
    assert soc.target == target
    assert soc.compatible == compatible
    assert (soc.problem is None) == (target is not None)
    if target is None:
        assert compatible[0] in str(soc.problem)


def test_no_device_tree(tmp_path: Path) -> None:
    assert "no Rockchip board" in str(detect(tmp_path).problem)


def test_a_container_that_hides_the_device_tree(tmp_path: Path) -> None:
    soc = detect(board(tmp_path, files={".dockerenv": ""}))
    assert soc.container
    assert "systempaths=unconfined" in str(soc.problem)


def test_a_container_without_device_node(tmp_path: Path) -> None:
    soc = detect(board(tmp_path, "rockchip,rk3588", files={"run/.containerenv": ""}))
    assert "--device /dev/dri" in str(soc.problem)
    (tmp_path / "dev" / "dri").mkdir(parents=True)
    (tmp_path / "dev" / "dri" / "renderD129").write_text("")
    assert detect(tmp_path).problem is None


def test_the_second_place_of_the_device_tree(tmp_path: Path) -> None:
    place = tmp_path / "sys" / "firmware" / "devicetree" / "base"
    place.mkdir(parents=True)
    (place / "compatible").write_bytes(b"x,y\0rockchip,rk3568\0")
    assert detect(tmp_path).target == "rk3568"


@pytest.mark.parametrize(
    "files",
    [
        {"sys/module/rocket/refcnt": "0"},
        {"sys/class/accel/accel0/device/uevent": "OF_NAME=npu\nDRIVER=rocket\n"},
    ],
)
def test_mainline_s_rocket_is_named(tmp_path: Path, files: dict[str, str]) -> None:
    soc = detect(board(tmp_path, "rockchip,rk3588", files=files))
    assert soc.driver == "rocket"
    assert "rocket" in str(soc.problem)


def test_the_vendor_s_driver(tmp_path: Path) -> None:
    soc = detect(board(tmp_path, "rockchip,rk3588", files={"sys/module/rknpu/version": "v0.9.8\n"}))
    assert (soc.driver, soc.driver_version, soc.problem) == ("rknpu", "0.9.8", None)


@pytest.mark.skipif(os.getuid() == 0, reason="root may open everything")
def test_no_permission(tmp_path: Path) -> None:
    board(tmp_path, "rockchip,rk3588", files={"dev/dri/renderD129": ""})
    (tmp_path / "dev" / "dri" / "renderD129").chmod(0)
    assert "render" in str(detect(tmp_path).problem)


@pytest.mark.parametrize("name", ["rk3588", "RK3588S"])
def test_a_name_replaces_a_device_tree_that_is_hidden(tmp_path: Path, name: str) -> None:
    board(tmp_path, files={".dockerenv": "", "dev/dri/renderD129": ""})
    soc = detect(tmp_path, name)
    assert (soc.target, soc.named, soc.problem) == ("rk3588", True, None)
    assert detect(tmp_path).problem is not None


def test_a_name_for_a_rockchip_that_is_not_known(tmp_path: Path) -> None:
    board(tmp_path, "vendor,box", "rockchip,rk3599", files={"dev/dri/renderD129": ""})
    assert detect(tmp_path, "rk3588").target == "rk3588"


@pytest.mark.parametrize(
    ("compatible", "named"), [(("raspberrypi,5", "brcm,bcm2712"), "rk3588"), ((), "rk1"), ((), None), ((), "")]
)
def test_names_that_replace_nothing(tmp_path: Path, compatible: tuple[str, ...], named: str | None) -> None:
    soc = detect(board(tmp_path, *compatible), named)
    assert (soc.target, soc.named) == (None, False)
    assert soc.problem is not None


@pytest.mark.parametrize("named", ["rk1", "RK3589 ", "rk3588,rk3566"])
def test_a_name_of_no_soc_is_said_with_the_names_there_are(tmp_path: Path, named: str) -> None:
    """In a container the cure would otherwise be to set what is set already."""
    soc = detect(board(tmp_path, files={".dockerenv": "", "dev/dri/renderD129": ""}), named)
    assert (soc.target, soc.misnamed) == (None, named)
    assert f"says {named!r}, and no SoC of that name is known; known are rk3588, rk3576, " in str(soc.problem)


@pytest.mark.parametrize(
    "place", [".dockerenv", "run/.containerenv", "run/secrets/kubernetes.io/serviceaccount/token", "dev/.lxc-boot-id"]
)
def test_containers_of_every_engine_are_told_the_cure(tmp_path: Path, place: str) -> None:
    soc = detect(board(tmp_path, files={place: "", "dev/dri/renderD129": ""}))
    assert soc.container
    assert "this container hides the device tree" in str(soc.problem)
    assert "or set ORT_RKNN_TARGET" in str(soc.problem)
    assert detect(tmp_path, "rk3588").problem is None


def test_the_device_tree_wins_over_a_name(tmp_path: Path) -> None:
    soc = detect(board(tmp_path, "rockchip,rk3566"), "rk3588")
    assert (soc.target, soc.named) == ("rk3566", False)


def test_a_name_makes_no_npu(tmp_path: Path) -> None:
    assert "there is no NPU device node" in str(detect(tmp_path, "rk3588").problem)
    assert "--device /dev/dri" in str(detect(board(tmp_path, files={".dockerenv": ""}), "rk3588").problem)


def test_what_one_may_not_look_at_is_not_there(tmp_path: Path) -> None:
    """``/sys/kernel/debug`` is root's on most systems; as root, a name that is too long stands for it."""
    assert detect(tmp_path / ("x" * 300)).driver is None
    board(tmp_path, "rockchip,rk3588", files={"sys/kernel/debug/rknpu/version": "0.9.8", "dev/dri/renderD128": ""})
    hidden = [tmp_path / name for name in ("sys/kernel/debug", "dev/dri")]
    for folder in hidden:
        folder.chmod(0)
    try:
        found = detect(tmp_path)
        assert found.target == "rk3588"
        assert found.driver == ("rknpu" if os.geteuid() == 0 else None)
    finally:
        for folder in hidden:
            folder.chmod(0o700)


@pytest.mark.timeout(20)
def test_a_board_whose_files_somebody_else_made(tmp_path: Path) -> None:
    (tmp_path / "proc" / "device-tree").mkdir(parents=True)
    os.mkfifo(tmp_path / "proc" / "device-tree" / "compatible")
    (tmp_path / "dev").mkdir()
    os.mkfifo(tmp_path / "dev" / "rknpu")
    (tmp_path / "sys" / "module" / "rknpu").mkdir(parents=True)
    (tmp_path / "sys" / "module" / "rknpu" / "version").write_bytes(b"\xff 0.9.8")
    found = detect(tmp_path)
    assert (found.target, found.driver, found.driver_version) == (None, "rknpu", "0.9.8")
