"""Builds the emulated librknnrt once, steers it, and computes in numpy what it must answer."""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ort_rknn_converters.util.own_files import make_private, not_ours

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "tests" / "emulator"
ABI = ROOT / "ort_rknn" / "native"
MISUSES = (
    "concurrent",
    "dead_context",
    "changed_inputs",
    "destroyed_busy",
    "not_run",
    "not_released",
    "dead_mem",
    "busy_mem",
    "left_mem",
    "lent_weights",
    "overrun",
)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MASK = (1 << 64) - 1


def compile_library(sources: Sequence[Path], name: str, *flags: str, compiler: str | None = None) -> Path:
    """Compile C files to a shared library in the temporary directory, once per content and flags."""
    compiler = compiler or os.environ.get("CC") or "cc"
    digest = hashlib.sha256(" ".join((compiler, *flags)).encode())
    headers = [path for folder in {source.parent for source in sources} | {ABI} for path in folder.glob("*.h")]
    for path in sorted([*sources, *headers]):
        digest.update(path.read_bytes())
    directory = make_private(_own_folder() / digest.hexdigest()[:16])
    library = directory / name
    if not library.exists():
        fresh = directory / f"{name}.{os.getpid()}"
        command = [compiler, "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-fPIC", "-shared", "-pthread"]
        subprocess.run(
            [*command, *(flags or ("-O2",)), f"-I{ABI}", "-o", str(fresh), *map(str, sources)], check=True, timeout=120
        )
        fresh.replace(library)
    return library


@functools.cache
def _own_folder() -> Path:
    """Where libraries are kept from run to run: never a folder that somebody else could have put one into."""
    folder = Path(tempfile.gettempdir()) / f"ort_rknn_tests-{os.getuid()}"
    if not_ours(make_private(folder)) or folder.is_symlink():
        folder = Path(tempfile.mkdtemp(prefix="ort_rknn_tests-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def build_emulator(*flags: str, compiler: str | None = None) -> Path:
    """The path of the emulated ``librknnrt.so``, built if need be."""
    return compile_library(sorted(SOURCES.glob("*.c")), "librknnrt.so", *flags, compiler=compiler)


def private_copy(library: Path, directory: Path) -> Path:
    """A copy that the loader takes for another library, with its own settings and counters."""
    return Path(shutil.copy(library, directory / library.name))


class Emulator:
    """The control board of a loaded emulator."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or build_emulator()
        self.errors_are_meant = False
        self._lib = ctypes.CDLL(str(self.path))
        self._lib.emu_configure.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
        self._lib.emu_count.argtypes = [ctypes.c_char_p]
        self._lib.emu_count.restype = ctypes.c_longlong

    def configure(self, **settings: object) -> None:
        """Set ``cores``, ``latency_us``, ``pattern``, ``fault`` ...: see tests/emulator/control.c."""
        for key, value in settings.items():
            if self._lib.emu_configure(key.encode(), str(value).encode()):
                raise ValueError(f"the emulator does not take {key}={value!r}")

    def count(self, name: str) -> int:
        """A counter: the name of a call, ``contexts``, ``mems``, ``concurrent``, ``core0_runs`` ..."""
        value = int(self._lib.emu_count(name.encode()))
        if value < 0:
            raise KeyError(name)
        return value

    def misuses(self) -> dict[str, int]:
        """Every misuse counted since the last reset that is not zero."""
        return {name: count for name in MISUSES if (count := self.count(name))}

    @contextmanager
    def watched(self) -> Iterator[Emulator]:
        """A test's time with it: begun as new, it must end without misuse and without anything left open.

        Nor may the runtime have logged an error, unless the test says ``errors_are_meant``.
        """
        self.reset()
        self.errors_are_meant = False
        names = ("contexts", "mems", "dma_bytes")
        before = [self.count(name) for name in names]
        yield self
        self.release_hangs()
        misuses, errors = self.misuses(), self.count("errors")
        self.reset()
        assert not misuses
        assert self.errors_are_meant or not errors, "see the lines E RKNN on stderr"
        assert [self.count(name) for name in names] == before

    def release_hangs(self) -> None:
        self._lib.emu_release_hangs()

    def reset(self) -> None:
        self._lib.emu_reset()
        self._lib.emu_lend(None)  # an earlier test may have lent arithmetic for models that this one has, too


@dataclass(frozen=True)
class Tensor:
    """An input or output as the emulator stores it: numpy dtype and ONNX shape; scale and zero point for int8."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: str = "-"
    scale: float = 0.0
    zero_point: int = 0

    def line(self, kind: str) -> str:
        dims = ",".join(map(str, self.shape))
        text = f"{kind} {self.name} {self.dtype} {dims} {self.layout}"
        return f"{text} {self.scale!r} {self.zero_point}" if self.scale else text


@dataclass(frozen=True)
class Model:
    """A model in the emulator's text form, and its arithmetic."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    seed: int = 0
    custom: str = ""
    target: str = "rk3588"
    version: int = 6
    padding: int = 0
    needs: str = ""
    latency_us: int = 0

    def data(self) -> bytes:
        lines = ["RKNNEMU 1", f"target {self.target}", f"seed {self.seed}", f"version {self.version}"]
        lines += [f"custom {self.custom}"] if self.custom else []
        lines += [f"needs {self.needs}"] if self.needs else []
        lines += [f"latency {self.latency_us}"] if self.latency_us else []
        lines += [tensor.line("input") for tensor in self.inputs] + [tensor.line("output") for tensor in self.outputs]
        return ("\n".join(lines) + "\n").encode() + b"\0" * (64 + self.padding)

    def answer(self, feeds: Sequence[NDArray[Any]], *, native: bool = False, light: bool = False) -> list[NDArray[Any]]:
        """What the emulator answers: float32 where ``want_float`` gives it, the stored types with ``native``."""
        return expected(self, feeds, native=native, light=light)


def _mix(x: int) -> int:
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & _MASK
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & _MASK
    return x ^ (x >> 31)


def _fnv(text: bytes, h: int) -> int:
    for byte in text + b",":
        h = (h ^ byte) * 0x100000001B3 & _MASK
    return h


def _stored(tensor: Tensor, array: NDArray[Any]) -> NDArray[np.uint64]:
    """Bit patterns of the values as the NPU keeps them, flat, in ONNX order."""
    if tensor.scale and array.dtype != np.dtype(tensor.dtype):
        q = array.astype(np.float64) / np.float32(tensor.scale).astype(np.float64) + tensor.zero_point
        array = np.clip(np.where(q < 0, np.ceil(q - 0.5), np.floor(q + 0.5)), -128, 127)
    with np.errstate(over="ignore"):
        kept = np.ascontiguousarray(array.astype(tensor.dtype)).reshape(-1)
    return kept.view(f"u{kept.dtype.itemsize}").astype(np.uint64)


def _digest(tensor: Tensor, array: NDArray[Any], light: bool) -> int:
    bits = _stored(tensor, array)
    step = bits.size // 64 if light and bits.size > 64 else 1
    k = np.arange(bits.size, dtype=np.uint64)
    products = (bits + np.uint64(1)) * ((np.uint64(2) * k + np.uint64(1)) * _GOLDEN)
    return int(products[::step].sum(dtype=np.uint64))


def _hashes(state: int, index: int, n: int) -> NDArray[np.uint64]:
    x = np.uint64((state + (index + 1) * 0xD1B54A32D192ED03) & _MASK) + np.arange(n, dtype=np.uint64) * _GOLDEN
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def _values(tensor: Tensor, h: NDArray[np.uint64], native: bool) -> NDArray[Any]:
    dtype = np.dtype(tensor.dtype)
    if dtype.kind == "f":
        real = ((h % np.uint64(4001)).astype(np.float64) - 2000) / 8
        return real.astype(dtype if native else np.float32)
    if dtype == np.int64:
        whole: NDArray[Any] = (h & np.uint64(0xFFFFFFFFFF)).astype(np.int64) - (1 << 39)
    elif dtype == np.bool_:
        whole = (h & np.uint64(1)).astype(np.bool_)
    else:
        whole = h.astype(f"u{dtype.itemsize}").view(dtype)
    if native:
        return whole
    if tensor.scale:
        return (whole.astype(np.float32) - np.float32(tensor.zero_point)) * np.float32(tensor.scale)
    return whole.astype(np.float32)


def expected(model: Model, feeds: Sequence[NDArray[Any]], *, native: bool = False, light: bool = False) -> list[Any]:
    """The emulator's arithmetic (tests/emulator/arithmetic.c), said once more in numpy."""
    h = 0xCBF29CE484222325
    for tensor in (*model.inputs, *model.outputs):
        h = _fnv(tensor.name.encode(), h)
    state = model.seed ^ _fnv(model.custom.encode(), h)
    for index, (tensor, feed) in enumerate(zip(model.inputs, feeds, strict=True)):
        state = _mix(state ^ _mix((_digest(tensor, feed, light) + (index + 1) * int(_GOLDEN)) & _MASK))
    answers = []
    for index, tensor in enumerate(model.outputs):
        n = int(np.prod(tensor.shape, dtype=np.int64))
        if light and n > 16:
            row = min(n, 512)
            flat = np.resize(_values(tensor, _hashes(0, index, row), native), n)
            flat[:16] = _values(tensor, _hashes(state, index, 16), native)
        else:
            flat = _values(tensor, _hashes(state, index, n), native)
        answers.append(flat.reshape(tensor.shape))
    return answers


REAL: Mapping[str, Model] = {
    "image_fp16_rk3588": Model(
        (Tensor("x", "float16", (1, 3, 6, 5), "nhwc"),),
        (Tensor("y", "float16", (1, 4, 6, 5), "nchw"), Tensor("z", "float16", (1, 4))),
        custom="made for tests",
    ),
    "image_fp16_rk3566": Model(
        (Tensor("x", "float16", (1, 3, 6, 5), "nhwc"),),
        (Tensor("y", "float16", (1, 4, 6, 5), "nchw"), Tensor("z", "float16", (1, 4))),
        target="rk3566",
    ),
    "tokens_fp16_rk3588": Model(
        (Tensor("ids", "int64", (1, 4)), Tensor("bias", "float16", (1, 4, 8))),
        (Tensor("h", "float16", (1, 4, 8)), Tensor("best", "int64", (1, 4))),
    ),
}
"""The committed converter-made files of tests/data/rknn as the emulator sees them."""


def real_path(name: str) -> Path:
    """The path of a committed converter-made ``.rknn`` file."""
    return ROOT / "tests" / "data" / "rknn" / f"{name}.rknn"
