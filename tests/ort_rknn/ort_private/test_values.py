"""Values over memory of the program's, by whatever way the installed onnxruntime has."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi import _pybind_state as C

from ort_rknn.ort_private import values
from ort_rknn.ort_private.values import MappedValue, Unshared, new_value, over, write


class Owner:
    """Something that lives and ends."""


def _gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(C.OrtValue, "from_dlpack", raising=False)


def _copies(monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(data: Any, *_: Any) -> Any:
        return C.OrtValue.ortvalue_from_numpy(np.zeros(2, np.float32), C.OrtDevice(0, 0, 0))

    monkeypatch.setattr(C.OrtValue, "from_dlpack", staticmethod(copied), raising=False)


def _of_another_arity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(C.OrtValue, "from_dlpack", staticmethod(lambda: None), raising=False)


def _as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pass


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int64", "int8", "uint8", "bool"])
@pytest.mark.parametrize("change", [_as_it_is, _gone, _copies, _of_another_arity])
def test_over_memory(monkeypatch: pytest.MonkeyPatch, change: Callable[..., None], dtype: str) -> None:
    change(monkeypatch)
    array = np.array([[1, 0, 1]], dtype)
    value = over(array, None)
    assert value.data_ptr() == array.ctypes.data
    assert value.shape() == [1, 3]
    assert value.numpy().dtype == array.dtype
    array[0, 1] = 1
    assert value.numpy().tolist() == array.tolist()


@pytest.mark.parametrize("change", [_as_it_is, _gone])
def test_it_keeps_its_owner(monkeypatch: pytest.MonkeyPatch, change: Callable[..., None]) -> None:
    change(monkeypatch)
    owner = Owner()
    gone = weakref.ref(owner)
    value = over(np.ones(3, np.float32), owner)
    del owner
    gc.collect()
    assert gone() is not None
    assert value.numpy().tolist() == [1, 1, 1]
    del value
    gc.collect()
    assert gone() is None


def test_without_any_way_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    _copies(monkeypatch)
    monkeypatch.setattr(values, "_ways", lambda: iter([lambda array: new_value(array)]))
    with pytest.raises(Unshared, match="does not lie over the memory it was made of") as refusal:
        over(np.ones(2, np.float32), None)
    said = f"no memory on the NPU can be shared with this onnxruntime ({onnxruntime.__version__}): "
    assert str(refusal.value).startswith(said)


@pytest.mark.parametrize("name", ["ortvalue_from_shape_and_type", "update_inplace"])
def test_a_new_value_without(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delattr(C.OrtValue, name)
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    value = new_value(array)
    write(value, array + 1)
    gc.collect()
    assert value.numpy().tolist() == (array + 1).tolist()
    assert array[0, 1] == 3, "the array itself is left alone"


def test_a_mapped_value_answers_to_names_of_tomorrow() -> None:
    class Mapped(MappedValue):
        def contiguous(self) -> np.ndarray[Any, Any]:
            return np.ones(2, np.float32)

    assert Mapped()._get_c_value is not None
    with pytest.raises(AttributeError, match="'Mapped' object has no attribute 'colour'"):
        Mapped().colour  # noqa: B018
    with pytest.raises(AttributeError):
        Mapped()._colour  # noqa: B018
