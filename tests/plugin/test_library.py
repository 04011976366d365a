"""The library itself: what it exports and needs, its own reading of machines, and programs in C with it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from ort_rknn.devices.soc import detect, named_target
from ort_rknn_converters.targets import TARGETS
from tests.helpers.board_trees import ROCK5B, ROCK5B_NAMES, tree
from tests.helpers.emulator import ABI, Model, Tensor, build_emulator, compile_library
from tests.helpers.plugin import SANITIZED, build_plugin, one_segment

HERE = Path(__file__).parent
MODEL = Model((Tensor("x", "float16", (1, 3, 6, 5), "nhwc"),), (Tensor("y", "float16", (1, 4, 6, 5), "nchw"),))
ONNXRUNTIME = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"), None)


def symbols(*flags: str) -> list[str]:
    done = subprocess.run(["nm", "-D", *flags, str(build_plugin())], check=True, capture_output=True, text=True)
    return [line.split()[-1] for line in done.stdout.splitlines()]


def test_it_exports_two_functions_and_needs_only_the_c_library() -> None:
    assert symbols("--defined-only") == ["CreateEpFactories", "ReleaseEpFactory"]
    needed = [name for name in symbols("--undefined-only") if "@GLIBC" not in name]
    assert {name for name in needed if not name.startswith(("__gmon_start__", "_ITM_", "__cxa_"))} == set()


def parts(*names: str) -> ctypes.CDLL:
    """Files of the library with their inner functions visible."""
    return ctypes.CDLL(
        str(compile_library([ABI / "ep" / f"{name}.c" for name in names], "parts.so", "-O1", f"-I{ABI}"))
    )


class Machine(ctypes.Structure):
    """``ep_machine``."""

    _fields_ = (
        ("target", ctypes.POINTER(ctypes.c_char_p)),
        ("driver", ctypes.c_char * 16),
        ("driver_version", ctypes.c_char * 32),
        ("problem", ctypes.c_char * 640),
    )


BOARDS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "rock5b": (ROCK5B_NAMES, dict(ROCK5B)),
    "rk3588s": (("x,y", "rockchip,rk3588s"), {}),
    "unknown soc": (("vendor,board", "rockchip,rk3399"), {}),
    "pc": ((), {}),
    "hidden": ((), {".dockerenv": ""}),
    "container": (ROCK5B_NAMES, {".dockerenv": ""}),
    "link": (ROCK5B_NAMES, {"dev/rknpu": "->dri/renderD129", "dev/dri/renderD129": ""}),
    "link to nothing": (ROCK5B_NAMES, {"dev/rknpu": "->/dev/dri/card1"}),
    "link elsewhere": (ROCK5B_NAMES, {"dev/rknpu": "->rknpu0", "dev/rknpu0": ""}),
    "rocket": (ROCK5B_NAMES, {"sys/module/rocket/x": ""}),
    "rocket by uevent": (ROCK5B_NAMES, {"sys/class/accel/accel0/device/uevent": "A=1\nDRIVER=rocket\nB=2"}),
    "not rocket": (ROCK5B_NAMES, {"sys/class/accel/accel0/device/uevent": "DRIVER=rocketeer\n"}),
    "pod": ((), {"run/secrets/kubernetes.io/serviceaccount/token": ""}),
    "lxc": ((), {"dev/.lxc-boot-id": "", "dev/dri/renderD129": ""}),
    "hidden, with a node": ((), {".dockerenv": "", "dev/dri/renderD129": "", "sys/module/rknpu/version": "0.9.8\n"}),
    "hidden, rocket": ((), {".dockerenv": "", "dev/accel/accel0": "", "sys/module/rocket/x": ""}),
    "another vendor's": (("raspberrypi,5", "brcm,bcm2712"), {"dev/dri/renderD129": ""}),
    "old driver": (("rockchip,rk3566",), {"sys/kernel/debug/rknpu/version": "RKNPU driver: v0.8.2"}),
}


@pytest.mark.parametrize("named", [None, "", "rk3588", "RK3566", "rk3588s", "rk1"])
@pytest.mark.parametrize("name", BOARDS)
def test_machines_are_read_as_the_package_reads_them(
    name: str, named: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORT_RKNN_TARGET", raising=False)
    if named is not None:
        monkeypatch.setenv("ORT_RKNN_TARGET", named)
    root = tree(tmp_path, *BOARDS[name])
    machine = Machine()
    parts("machine").ep_look(str(root).encode(), ctypes.byref(machine))
    soc = detect(root, named_target())
    target = machine.target.contents.value if machine.target else None
    assert (target.decode() if target else None) == soc.target
    assert machine.driver.decode() == (soc.driver or "")
    assert machine.driver_version.decode() == (soc.driver_version or "")
    assert machine.problem.decode().replace(" ", "").replace(",", "") == (soc.problem or "").replace(" ", "").replace(
        ",", ""
    )


def test_the_table_of_socs_is_the_converters() -> None:
    class Target(ctypes.Structure):
        _fields_ = (("name", ctypes.c_char_p), ("cores", ctypes.c_uint32), ("family", ctypes.c_char_p))

    library = parts("machine")
    library.ep_find_target.restype = ctypes.POINTER(Target)
    library.ep_targets.restype = ctypes.c_char_p
    assert library.ep_targets().decode() == ", ".join(TARGETS)
    for target in TARGETS.values():
        for name in (target.name, target.name.upper(), *target.aliases):
            found = library.ep_find_target(name.encode()).contents
            assert (found.name.decode(), found.cores, found.family.decode()) == (
                target.name,
                target.cores,
                target.family,
            )
    assert not library.ep_find_target(b"rk9")


def test_digests_are_sha256() -> None:
    import hashlib

    library = parts("sha256")
    room = ctypes.create_string_buffer(65)
    for size in (0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 1000, 100_000):
        data = np.random.default_rng(size).bytes(size)
        library.ep_sha256(data, ctypes.c_size_t(size), room)
        assert room.value.decode() == hashlib.sha256(data).hexdigest()


def host(tmp_path: Path, *flags: str) -> Path:
    """The program in C, built."""
    assert ONNXRUNTIME is not None
    program = tmp_path / "host"
    command = [
        os.environ.get("CC", "cc"),
        "-std=c11",
        "-D_GNU_SOURCE",
        "-pthread",
        *flags,
        f"-I{ABI}",
        "-o",
        str(program),
    ]
    run_path = f"-Wl,-rpath,{ONNXRUNTIME.parent}"
    subprocess.run([*command, str(HERE / "host.c"), str(ONNXRUNTIME), run_path], check=True, timeout=120)
    # The file is named after its version, programs look for the name it gives itself.
    link = tmp_path / "libonnxruntime.so.1"
    link.symlink_to(ONNXRUNTIME)
    return program


def answer_of(tmp_path: Path, program: list[str], plugin: Path, *rest: str, **more: str) -> str:
    model = tmp_path / "model.onnx"
    model.write_bytes(one_segment(MODEL))
    assert ONNXRUNTIME is not None
    found = {"ORT_RKNN_RUNTIME_LIBRARY": str(build_emulator()), "LD_LIBRARY_PATH": f"{tmp_path}:{ONNXRUNTIME.parent}"}
    environment = os.environ | found | more
    command = [*program, str(plugin), str(model), *rest]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip() + done.stderr


RIGHT = MODEL.answer([np.arange(90, dtype=np.float32).reshape(1, 3, 6, 5)])[0].tobytes().hex()


def test_a_program_in_c(tmp_path: Path) -> None:
    assert answer_of(tmp_path, [str(host(tmp_path))], build_plugin(), "4", "200") == RIGHT


def test_a_program_in_c_under_the_address_sanitizer(tmp_path: Path) -> None:
    program = host(tmp_path, *SANITIZED)
    said = answer_of(
        tmp_path,
        [str(program)],
        build_plugin(*SANITIZED),
        "4",
        "100",
        ASAN_OPTIONS="detect_leaks=1",
        LSAN_OPTIONS="exitcode=0",
    )
    assert said.startswith(RIGHT)
    assert "libonnxruntime_ep_rknn" not in said, said


@pytest.mark.slow
def test_a_program_in_c_under_valgrind(tmp_path: Path) -> None:
    if not shutil.which("valgrind"):
        pytest.skip("there is no valgrind here")
    tool = ["valgrind", "--error-exitcode=0", "--leak-check=full", "--show-leak-kinds=definite"]
    said = answer_of(tmp_path, [*tool, str(host(tmp_path))], build_plugin("-O1", "-g"), "2", "5")
    assert said.startswith(RIGHT)
    ours = [line for line in said.splitlines() if "ep_" in line and ".c:" in line]
    assert not ours, said[-6000:]
