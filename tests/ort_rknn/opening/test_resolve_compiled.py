"""Sessions on a file with several compiled forms: the feed's shapes and the SoC choose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

import ort_rknn
from ort_rknn.devices.simulator import SimulatorDevice
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.pipeline.convert_many import convert_bundle
from tests.helpers.ort_models import model
from tests.helpers.toolkits.fake import fake_toolkit

CPU, RKNN = "CPUExecutionProvider", "RKNNExecutionProvider"


@pytest.fixture
def bundled(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    def make(name: str = "dynamic", *rows: int, targets: tuple[str, ...] = ("rk3588",), **how: Any) -> Path:
        wanted = [
            ConvertOptions(target=target, min_gain=0, shapes={"X": (number, 2)} if number else {})
            for number in rows or (0,)
            for target in targets
        ]
        path = tmp_path / "m.onnx"
        convert_bundle(model(name), wanted, known_failures=tmp_path).save(path, **how)
        return path

    with fake_toolkit(tmp_path / "cache"):
        yield make


def _open(path: Any, **options: Any) -> Any:
    return ort_rknn.InferenceSession(path, providers=[(RKNN, {"device": "simulator", **options}), CPU])


def _feed(rows: int) -> dict[str, Any]:
    return {"X": np.arange(2 * rows, dtype=np.float32).reshape(rows, 2) - rows}


def _expected(rows: int) -> Any:
    return onnxruntime.InferenceSession(model("dynamic"), providers=[CPU]).run(None, _feed(rows))[0]


@pytest.mark.parametrize("how", [{}, {"embed": False}])
def test_the_feeds_shape_chooses_and_the_cpu_runs_the_others(bundled: Callable[..., Path], how: Any) -> None:
    path = bundled("dynamic", 3, 5, **how)
    for source in (path, path.read_bytes()) if not how else (path,):
        with _open(source) as session:
            assert session.get_inputs()[0].shape == ["N", 2]
            assert session.get_modelmeta().custom_metadata_map == {"names": "a,b,c"}
            assert session.get_providers() == [RKNN, CPU]
            for rows, done in ((3, 1), (4, 1), (5, 2)):
                assert np.array_equal(session.run(None, _feed(rows))[0], _expected(rows))
                assert session.stats().runs == done
            assert "compiled for the shapes X=3x2; X=5x2; the CPU runs others" in session.plan.notes
            assert "1 more on the CPU: there is no code for them" in session.plan.notes


def test_without_its_onnx_other_shapes_are_refused(bundled: Callable[..., Path]) -> None:
    path = bundled("dynamic", 3, 5)
    proto_session = _open(path)
    plain = onnxruntime.InferenceSession(model("dynamic"), providers=[CPU])
    from ort_rknn_converters.compiled.bundle import Bundle

    Bundle(Bundle.load(path).variants).save(path.with_name("less.onnx"))
    session = _open(path.with_name("less.onnx"))
    assert np.array_equal(session.run(None, _feed(3))[0], proto_session.run(None, _feed(3))[0])
    assert session.get_inputs()[0].shape == ["N", 2]
    for call in (session.run, session.submit):
        with pytest.raises(InvalidArgument, match=r"no code for these input shapes.*there is X=3x2, X=5x2"):
            call(None, _feed(4))
    wrong = {"X": np.zeros((3, 9), np.float32)}
    with pytest.raises(InvalidArgument) as theirs:
        plain.run(None, wrong)
    with pytest.raises(InvalidArgument) as ours:
        session.run(None, wrong)
    assert str(ours.value) == str(theirs.value)


class _NeedsCode(SimulatorDevice):
    """A simulator that asks for the SoC's own code, as an NPU does."""

    name = "npu"
    needs = frozenset({"rknn"})
    native_lanes = False
    opened: list[str]

    def open(self, code: Any, mask: int, share: Any = None) -> Any:
        assert code.rknn is not None
        self.opened = [*getattr(self, "opened", []), code.target]
        return super().open(code, mask, share)


@pytest.mark.parametrize("target", ["rk3588", "rk3576"])
def test_each_soc_takes_its_own_code(bundled: Callable[..., Path], target: str) -> None:
    for path in (
        bundled("two", targets=("rk3588", "rk3576")),
        bundled("dynamic", 3, 5, targets=("rk3588", "rk3576")),
    ):
        device = _NeedsCode(target=target)
        session = ort_rknn.InferenceSession(path, providers=[(RKNN, {"target": target}), CPU], device=device)
        x = np.ones((3, 2), np.float32)
        session.run(None, {argument.name: x for argument in session.get_inputs()})
        assert set(device.opened) == {target}
        assert session.plan.target == target
        assert str(session.plan).startswith(target)
        assert all(segment.size for segment in session.plan.segments)


def test_a_soc_without_code_runs_on_the_cpu(bundled: Callable[..., Path]) -> None:
    path = bundled("dynamic", 3, 5, targets=("rk3588", "rk3576"))
    device = _NeedsCode(target="rk3566")
    session = ort_rknn.InferenceSession(path, providers=[(RKNN, {"target": "rk3566"}), CPU], device=device)
    assert session.get_providers() == [CPU]
    assert np.array_equal(session.run(None, _feed(3))[0], _expected(3))
    reasons = " ".join(session.plan.cpu_reasons())
    assert "compiled for rk3588, rk3576, and this is a rk3566" in reasons


@pytest.mark.parametrize("rows", [(), (3, 5)])
def test_a_simulator_does_not_run_one_socs_code_for_another(
    bundled: Callable[..., Path], rows: tuple[int, ...]
) -> None:
    path = bundled("dynamic" if rows else "two", *rows, targets=("rk3588", "rk3576"))
    with _open(path, target="rk3568") as session:
        assert session.get_providers() == [CPU]
        said = f"{session.plan} {' '.join(session.plan.cpu_reasons())}"
    assert "compiled for rk3588, rk3576, and the option target says rk3568" in " ".join(said.split())
    with _open(path, target="rk3576") as session:
        assert session.get_providers() == [RKNN, CPU]
    with _open(path) as session:  # nothing asked for: what is there
        assert session.get_providers() == [RKNN, CPU]
