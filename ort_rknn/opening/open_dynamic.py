"""Makes the native side of a session with several variants: onnxruntime now, compiled ones as they come."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from ort_rknn.opening.compile_notice import CompileNotice
from ort_rknn.ort_private.native import start_native
from ort_rknn.ort_private.own import public
from ort_rknn.ort_types.session_options import WEIGHTS_FOLDER, clone, replay_libraries, set_entry
from ort_rknn.sessions.background_compile import CancelToken, compile_in_child, usable_cache
from ort_rknn.sessions.cpu_fallback import WholeModel
from ort_rknn.sessions.dynamic import DynamicParts, DynamicSession, WithoutVariants
from ort_rknn.sessions.shape_variants import VariantFactory, Variants
from ort_rknn.variant_keys import VariantKey, kinds_of, name_of, shapes_of, values_of, variant_key
from ort_rknn_converters.util.frozen import frozen, replace

if TYPE_CHECKING:
    from ort_rknn.opening.dynamic_shapes import DynamicShapes
    from ort_rknn.opening.resolution import Resolution
    from ort_rknn.options.request import Request
    from ort_rknn.sessions.npu import NpuSession
    from ort_rknn_converters.compiled.model import CompiledModel
    from ort_rknn_converters.partition.plan import Plan

__all__ = ["open_dynamic_session", "open_forms"]


class DeviceLease:
    """Closes a device when neither the session nor an engine of it uses it any more."""

    def __init__(self, close: Callable[[], object] | None) -> None:
        self._close = close
        self._users = 1
        self._lock = threading.Lock()

    def take(self) -> None:
        with self._lock:
            self._users += 1

    def drop(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last and self._close is not None:
            self._close()


@frozen
class _Source:
    """Part of the session under construction that opening a variant needs, without keeping that alive."""

    _rknn_model: str | bytes
    _rknn_sess_options: Any
    _rknn_device: Any = None


@frozen
class _Opener:
    """Opens compiled variants. Held by the native session, so it refers to that weakly."""

    source: _Source
    request: Request
    resolution: Resolution
    disabled: Any
    native: weakref.ref[DynamicSession]
    lease: DeviceLease

    def __call__(self, key: VariantKey, compiled: CompiledModel) -> NpuSession | None:
        from ort_rknn.opening.open_npu import open_npu_session

        if not compiled.npu_steps:
            return None
        resolution = replace(self.resolution, compiled=compiled, shapes=shapes_of(key), from_onnx=True)
        whole = WholeModel(lambda: WithoutVariants(self.native))
        self.lease.take()
        try:
            return open_npu_session(
                self.source, self.request, resolution, self.disabled, whole=whole, on_closed=self.lease.drop
            )
        except BaseException:
            self.lease.drop()
            raise


def open_dynamic_session(session: Any, request: Request, resolution: Resolution, disabled: Any) -> DynamicSession:
    """Open the model with onnxruntime, and what is listed on the device.

    Raises:
        Exception: What onnxruntime raises for the model.
    """
    dynamic = resolution.dynamic
    assert dynamic is not None
    model = session._rknn_model
    native = _plain(session, request, disabled, model)
    opener = _opener(session, request, resolution, disabled, native)
    listed = dynamic.listed_keys()
    limit = dynamic.limit * max(1, len(dynamic.values)) + len(listed)
    variants = Variants(_factory(model, dynamic, opener), limit=limit, mode=dynamic.mode)
    weakref.finalize(variants, opener.lease.drop).atexit = False
    for key in listed:
        variants.load(key, dynamic.first)
    native.attach(_parts(variants, dynamic.keys, dynamic.values, _plan(resolution, dynamic), request, resolution))
    return native


def open_forms(session: Any, request: Request, resolution: Resolution, disabled: Any) -> DynamicSession:
    """Open a file with several compiled forms: the original ONNX, and every form when its shapes first come.

    Raises:
        Exception: What onnxruntime raises for the model.
    """
    from ort_rknn_converters.partition.plan import Plan

    forms = resolution.bundle
    assert forms is not None
    if forms.original is None:
        native = _plain(session, request, disabled, forms.stub.read(), stub=True)
    else:
        native = _plain(session, request, disabled, *forms.original().source())
    opener = _opener(session, request, resolution, disabled, native)

    def lookup(key: VariantKey) -> CompiledModel | None:
        load = forms.loaders.get(key)
        return None if load is None else load()

    def never(*_: Any) -> NoReturn:
        raise NotImplementedError("a compiled model is not compiled again")

    variants = Variants(VariantFactory(lookup, never, never, opener), limit=len(forms.loaders), mode="never")
    weakref.finalize(variants, opener.lease.drop).atexit = False
    keys = tuple(shapes_of(next(iter(forms.loaders))))
    values = list(filter(None, map(values_of, forms.loaders)))
    distinct = tuple(one for at, one in enumerate(values) if one not in values[:at])
    listed = "; ".join(map(name_of, forms.loaders))
    others = "the CPU runs others" if forms.original else "others are refused"
    note = f"compiled for the {kinds_of(forms.loaders)} {listed}; {others}"
    plan = Plan(resolution.target, "", notes=(note, *resolution.notes))
    for key in forms.loaders:
        variants.load(key, "never")
    native.attach(_parts(variants, keys, distinct, plan, request, resolution, "" if forms.original else forms.refusal))
    return native


def _plain(
    session: Any, request: Request, disabled: Any, model: str | bytes, weights_folder: str = "", *, stub: bool = False
) -> DynamicSession:
    """The native session all calls go to first: onnxruntime on the original, or on a stub of it."""
    user = session._rknn_sess_options
    options = clone(user)
    replay_libraries(user, options)
    if weights_folder:
        set_entry(options, WEIGHTS_FOLDER, weights_folder)
    if stub:
        options.graph_optimization_level = public("GraphOptimizationLevel").ORT_DISABLE_ALL
        options.log_severity_level = 4  # it only judges feeds: what it says of its outputs is of no interest
    native: DynamicSession = start_native(
        request.providers, request.provider_options, DynamicSession, options, model, set(disabled or ())
    )
    return native


def _opener(session: Any, request: Request, resolution: Resolution, disabled: Any, native: DynamicSession) -> _Opener:
    device = resolution.device
    assert device is not None
    lease = DeviceLease(None if device is session._rknn_device else device.close)
    source = _Source(session._rknn_model, session._rknn_sess_options)
    return _Opener(source, request, resolution, disabled, weakref.ref(native), lease)


def _parts(
    variants: Variants,
    keys: tuple[str, ...],
    values: tuple[Mapping[str, str], ...],
    plan: Plan,
    request: Request,
    resolution: Resolution,
    refusal: str = "",
) -> DynamicParts:
    npu = resolution.device is not None and resolution.device.name != "cpu"
    return DynamicParts(variants, keys, values, plan, request.options.as_strings(), npu, refusal)


def _factory(model: str | bytes, dynamic: DynamicShapes, opener: _Opener) -> VariantFactory:
    """Makes the variants of a model; the model's digest is taken once."""
    from ort_rknn_converters.cache import store
    from ort_rknn_converters.cache.key import content_digest
    from ort_rknn_converters.toolkit.setup.environment import toolkit_version

    digest: list[str] = []
    announced: list[bool] = []  # one line a session: the plan has the rest
    folder = usable_cache(dynamic.cache_dir)

    def lookup(key: VariantKey) -> CompiledModel | None:
        if not digest:
            digest.append(content_digest(model))
        name = store.key_of(model, dynamic.options_of(key), digest[0])
        return store.Cache(store.cache_directory(folder)).lookup(name, toolkit_version())

    def now(key: VariantKey) -> CompiledModel:
        with CompileNotice(model, dynamic.options.target) as notice:
            return store.load_or_convert(model, dynamic.options_of(key), cache_dir=folder, progress=notice)

    def build(key: VariantKey, token: CancelToken) -> CompiledModel:
        with CompileNotice(model, dynamic.options.target, background=True) as notice:
            if not announced:
                announced.append(True)
                notice.report("compile")
            return compile_in_child(model, dynamic.options_of(key), folder, token)

    return VariantFactory(lookup, now, build, opener)


def _plan(resolution: Resolution, dynamic: DynamicShapes) -> Plan:
    from ort_rknn_converters.partition.plan import Plan

    names = ", ".join(dynamic.keys)
    values = "; ".join(name_of(variant_key({}, one)) for one in dynamic.values)
    pinned = (f"NPU code for {values} (option values); calls with other values run on the CPU",) if values else ()
    if not names:
        note = "the model is compiled in the background; session.wait_compiled() waits for it"
        notes = (*((note,) if dynamic.first == "background" else ()), *pinned, *resolution.notes)
        return Plan(resolution.target, dynamic.options.precision, notes=notes)
    how = {
        "background": "each new shape is answered by the CPU and compiled in the background",
        "load": "each new shape is compiled at its first call",
        "never": "shapes that are not in the cache run on the CPU",
    }[dynamic.mode]
    note = f"the shape of {names} is open: {how} (at most {dynamic.limit}); session.wait_compiled() waits for them"
    return Plan(resolution.target, dynamic.options.precision, notes=(note, *pinned, *resolution.notes))
