"""Provider lists: who asks for the NPU, who is promoted, what onnxruntime is left with."""

from __future__ import annotations

import warnings
from typing import Any

import onnxruntime
import pytest

import ort_rknn
from ort_rknn.errors import InvalidOption
from ort_rknn.options import providers
from tests.helpers.versions import needs_onnxruntime

CPU, RKNN, ALIAS = "CPUExecutionProvider", "RKNNExecutionProvider", "RKNPU2ExecutionProvider"


def read(given: Any, options: Any = None, sess_options: Any = None, device: bool = False) -> providers.Request | None:
    return providers.read(given, options, sess_options, device_given=device)


@pytest.mark.parametrize("name", [RKNN, ALIAS])
@pytest.mark.parametrize("form", ["name", "tuple", "options"])
def test_the_provider_and_its_alias_are_accepted_without_a_warning(name: str, form: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        request = {
            "name": lambda: read([name, CPU]),
            "tuple": lambda: read([(name, {"target": "rk3566"}), CPU]),
            "options": lambda: read([name, CPU], [{"target": "rk3566"}, {}]),
        }[form]()
    assert request is not None
    assert request.named
    assert request.options.target == (None if form == "name" else "rk3566")
    assert request.providers == (CPU,)
    assert request.cpu_named


def test_the_cpu_is_appended_but_not_named() -> None:
    request = read([RKNN])
    assert request is not None
    assert request.providers == (CPU,)
    assert not request.cpu_named


def test_a_cpu_in_front_takes_everything() -> None:
    assert read([CPU, RKNN]) is None


def test_cpu_only_lists_are_onnxruntimes() -> None:
    assert read([CPU]) is None
    assert read([(CPU, {"a": 1})]) is None


@pytest.mark.parametrize(
    ("given", "promoted"),
    [
        ([CPU], True),
        ([(CPU, {"arena_extend_strategy": 1})], True),
        (["AzureExecutionProvider", CPU], True),
        (["CUDAExecutionProvider", CPU], True),
        (["CUDAExecutionProvider"], False),
    ],
)
def test_promotion(given: Any, promoted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_PROMOTE_CPU", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        request = read(given)
    assert (request is not None) == promoted
    monkeypatch.setenv("ORT_RKNN_PROMOTE_CPU", "0")
    assert read(given) is None


def test_a_senseless_promotion_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_PROMOTE_CPU", "perhaps")
    with pytest.raises(InvalidOption, match="ORT_RKNN_PROMOTE_CPU must be true or false"):
        providers.check_options([CPU], None, None)


@needs_onnxruntime("1.23", "session options have providers")
def test_without_a_list_the_session_options_decide() -> None:
    options = ort_rknn.SessionOptions()
    request = read(None, None, options)
    assert request is not None
    assert not request.named
    options.add_provider(RKNN, {"target": "rk3566"})
    assert options.has_providers()
    request = read(None, None, options)
    assert request is not None
    assert request.named
    assert request.options.target == "rk3566"


@needs_onnxruntime("1.23", "there are policies")
def test_session_options_with_other_providers_are_onnxruntimes() -> None:
    options = ort_rknn.SessionOptions()
    options.set_provider_selection_policy(onnxruntime.OrtExecutionProviderDevicePolicy.PREFER_CPU)
    assert read(None, None, options) is None


@needs_onnxruntime("1.23", "session options have providers")
def test_a_bad_option_in_session_options_is_refused_at_once() -> None:
    with pytest.raises(InvalidOption, match="Known options"):
        ort_rknn.SessionOptions().add_provider(RKNN, {"nope": "1"})


def test_without_rknn() -> None:
    assert providers.without_rknn([RKNN, CPU], None) == ([CPU], None)
    assert providers.without_rknn([RKNN], None) == ([CPU], None)
    assert providers.without_rknn([RKNN, CPU], [{"target": "rk3588"}, {"a": 1}]) == ([CPU], [{"a": 1}])
    assert providers.without_rknn([(ALIAS, {}), (CPU, {"a": 1})], None) == ([(CPU, {"a": 1})], None)
    assert providers.without_rknn(None, None) == (None, None)


def test_available_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = onnxruntime.capi._pybind_state.get_available_providers()
    monkeypatch.delenv("ORT_RKNN_DEVICE", raising=False)
    assert ort_rknn.get_available_providers() == theirs
    monkeypatch.setenv("ORT_RKNN_DEVICE", "simulator")
    assert ort_rknn.get_available_providers() == [RKNN, *theirs]
    monkeypatch.setenv("ORT_RKNN_DEVICE", "cpu")
    assert ort_rknn.get_available_providers() == theirs
    assert ort_rknn.get_all_providers()[0] == RKNN
    assert ort_rknn.get_all_providers()[-1] == CPU
