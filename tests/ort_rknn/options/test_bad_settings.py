"""Bad settings are an InvalidOption wherever they stand and however a session is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ort_rknn
from ort_rknn.errors import InvalidOption
from tests.helpers.versions import older_than

CPU, RKNN = "CPUExecutionProvider", "RKNNExecutionProvider"
DIGITS = str(Path(__file__).resolve().parents[3] / "examples" / "digits" / "digits.onnx")


def _session_options(options: dict[str, Any]) -> Any:
    made = ort_rknn.SessionOptions()
    made.add_provider(RKNN, options)
    return made


FORMS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "tuple": lambda options: ort_rknn.InferenceSession(DIGITS, providers=[(RKNN, options), CPU]),
    "beside": lambda options: ort_rknn.InferenceSession(DIGITS, providers=[RKNN, CPU], provider_options=[options, {}]),
    "alone": lambda options: ort_rknn.InferenceSession(DIGITS, None, [RKNN], [options]),
    "bytes": lambda options: ort_rknn.InferenceSession(Path(DIGITS).read_bytes(), providers=[(RKNN, options)]),
    "set_providers": lambda options: ort_rknn.InferenceSession(DIGITS, providers=[CPU]).set_providers(
        [(RKNN, options)]
    ),
}
if not older_than("1.23"):
    FORMS["session options"] = lambda options: ort_rknn.InferenceSession(DIGITS, _session_options(options))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "simulatr"}, "'device' must be one of auto, npu"),
        ({"target": "rk9999"}, "'target': unknown target 'rk9999'. Known targets: rk3588"),
        ({"compile": "nevr"}, "'compile' must be one of auto, load"),
        ({"max_loss": "0.1"}, "max_loss is for precision int8, not fp16"),
        ({"precision": "w4a16", "target": "rk3588"}, "precision w4a16 is not for rk3588"),
        ({"quantized_method": "columns"}, "quantized_method is one of channel, layer"),
        ({"preprocess": "blue"}, "preprocess has no part 'blue'"),
        ({"optimization_level": 4}, "optimization_level is one of 0, 1, 2, 3"),
        ({"precision": "int8", "device": "simulator", "min_gain": 0}, "precision int8 needs calibration data"),
        ({"precision": "int8", "calibration": "/nowhere", "device": "simulator"}, "/nowhere, which does not exist"),
        ({"algorithm": "mmse", "quantized_algorithm": "normal"}, "two names of one option"),
    ],
)
def test_a_bad_option_is_refused_in_every_form(form: str, options: dict[str, Any], message: str, capfd: Any) -> None:
    with pytest.raises(InvalidOption, match=r".") as caught:
        FORMS[form](options)
    assert message in str(caught.value)
    assert "EP Error" not in capfd.readouterr().out


WITHOUT_OPTIONS: dict[str, Callable[[], Any]] = {
    "nothing": lambda: ort_rknn.InferenceSession(DIGITS),
    "empty list": lambda: ort_rknn.InferenceSession(DIGITS, providers=[]),
    "session options": lambda: ort_rknn.InferenceSession(DIGITS, ort_rknn.SessionOptions()),
    "named": lambda: ort_rknn.InferenceSession(DIGITS, providers=[RKNN, CPU]),
    "device": lambda: ort_rknn.InferenceSession(DIGITS, device="simulator"),
    "device and the CPU": lambda: ort_rknn.InferenceSession(DIGITS, providers=[CPU], device="simulator"),
    "set_providers": lambda: ort_rknn.InferenceSession(DIGITS, providers=[CPU]).set_providers([RKNN]),
}


@pytest.mark.parametrize("form", WITHOUT_OPTIONS)
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ORT_RKNN_DEVICE", "simulatr"),
        ("ORT_RKNN_TARGET", "rk9999"),
        ("ORT_RKNN_COMPILE", "nevr"),
        ("ORT_RKNN_MIN_GAIN", "much"),
        ("ORT_RKNN_CONFIG", "/nowhere/config.toml"),
        ("ORT_RKNN_PROMOTE_CPU", "perhaps"),
        ("ORT_RKNN_PRINT_PERF", "perhaps"),
        ("ORT_RKNN_SWITCH_INTERVAL_MS", "soon"),
        ("ORT_RKNN_CACHE_LIMIT", "lots"),
    ],
)
def test_a_bad_variable_is_refused_in_every_form(
    form: str, variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidOption, match=variable if variable != "ORT_RKNN_DEVICE" or "device" not in form else "."):
        WITHOUT_OPTIONS[form]()
    assert "EP Error" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("precision = 'int4'", "precision in"),
        ("max_loss = 0.1", "max_loss is for precision int8"),
        ("presicion = 'int8'", "unknown RKNNExecutionProvider option 'presicion' in"),
        ("precision = ", "is no TOML file"),
    ],
)
def test_a_bad_configuration_file_is_refused(
    content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(content)
    monkeypatch.setenv("ORT_RKNN_CONFIG", str(file))
    with pytest.raises(InvalidOption) as caught:
        ort_rknn.InferenceSession(DIGITS)
    assert message in str(caught.value)


def test_promoted_programs_are_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_PROMOTE_CPU", "1")
    monkeypatch.setenv("ORT_RKNN_TARGET", "rk9999")
    with pytest.raises(InvalidOption, match="ORT_RKNN_TARGET: unknown target"):
        ort_rknn.InferenceSession(DIGITS, providers=[CPU])


def test_a_device_of_no_kind_is_refused() -> None:
    with pytest.raises(InvalidOption, match="device must be a device's name, a Device, or a function"):
        ort_rknn.InferenceSession(DIGITS, device=3)


def test_what_the_cpu_alone_runs_reads_no_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_TARGET", "rk9999")
    session = ort_rknn.InferenceSession(DIGITS, providers=[CPU])
    assert session.get_providers() == [CPU]
    assert "RKNNExecutionProvider is not in the list of providers" in str(session.plan)


def test_the_plan_says_what_onnxruntime_fell_back_from(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    from ort_rknn.opening import create

    def broken(*_: Any) -> None:
        raise RuntimeError("the moon is full")

    monkeypatch.setattr(create, "make", broken)
    session = ort_rknn.InferenceSession(DIGITS, providers=[RKNN, CPU])
    assert "EP Error the moon is full" in capfd.readouterr().out
    assert session.get_providers() == [CPU]
    assert "onnxruntime fell back to it from an error: the moon is full" in str(session.plan)


def test_the_commands_words_are_other_names() -> None:
    from ort_rknn.options.reading import ALIASES
    from ort_rknn.options.table import OPTIONS, RknnOptions

    assert set(ALIASES.values()) <= set(OPTIONS)
    assert not set(ALIASES) & set(OPTIONS)
    assert RknnOptions.parse({"algorithm": "mmse", "timeout": "30"}) == RknnOptions.parse(
        {"quantized_algorithm": "mmse", "compile_timeout_s": 30}
    )
