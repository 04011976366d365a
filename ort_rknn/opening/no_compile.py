"""onnxruntime's wish that nothing is compiled when a session is made (``session.disable_model_compile``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ort_rknn.ort_conventions import RKNN_PROVIDER, ort_error
from ort_rknn.ort_private.errors import has_error
from ort_rknn.ort_types.session_options import config_entry
from ort_rknn.variant_keys import variant_key
from ort_rknn_converters.util.frozen import replace
from ort_rknn_converters.util.log import logger

if TYPE_CHECKING:
    from ort_rknn.opening.dynamic_shapes import DynamicShapes
    from ort_rknn_converters.options import ConvertOptions

__all__ = ["NO_COMPILE", "demand_compiled", "demand_compiled_forms", "forbidden"]

NO_COMPILE = "session.disable_model_compile"
"""onnxruntime's key; since 1.23."""


def forbidden(sess_options: Any) -> bool:
    """Whether session options forbid to compile. Releases of onnxruntime without the error do not know the wish."""
    return config_entry(sess_options, NO_COMPILE) == "1" and has_error("ModelRequiresCompilation")


def demand_compiled(model: str | bytes, options: ConvertOptions, cache_dir: str | None) -> None:
    """Refuse a model that is not in the cache and that the toolkit would have to compile.

    What is all for the CPU needs no compilation; the plan says so without the toolkit.

    Raises:
        Exception: onnxruntime's ``ModelRequiresCompilation``, in its words.
    """
    from ort_rknn_converters.cache import store
    from ort_rknn_converters.errors import ConvertError
    from ort_rknn_converters.pipeline.convert import plan_only

    try:
        plan = plan_only(model, options=options, known_failures=store.cache_directory(cache_dir))
    except ConvertError as error:  # what cannot be planned could not be compiled either
        logger().debug("the model could not be planned", exc_info=error)
        return
    if plan.npu_nodes:
        raise ort_error(
            "ModelRequiresCompilation",
            f"User disabled EP compilation but EP '{RKNN_PROVIDER}' needs to compile one or more nodes.",
        )


def demand_compiled_forms(model: str | bytes, dynamic: DynamicShapes) -> DynamicShapes:
    """Refuses a model whose listed or open shapes are not compiled; gives how to run it without compiling.

    What a feed will open later is planned with ones for the open dimensions, whatever the trip to the NPU costs.

    Raises:
        Exception: onnxruntime's ``ModelRequiresCompilation``, in its words.
    """
    from ort_rknn_converters.cache import store
    from ort_rknn_converters.onnx_file.signature import declared_inputs
    from ort_rknn_converters.toolkit.setup.environment import toolkit_version

    stored = store.Cache(store.cache_directory(dynamic.cache_dir))
    keys = dynamic.listed_keys()
    if not keys and not dynamic.keys:
        keys = ((),)  # one set of shapes, to be compiled in the background
    for options in map(dynamic.options_of, keys):
        if stored.lookup(store.key_of(model, options), toolkit_version()) is None:
            demand_compiled(model, options, dynamic.cache_dir)
    if not keys:
        ones = {
            value.name: tuple(dim if isinstance(dim, int) else dynamic.options.dims.get(dim or "", 1) for dim in dims)
            for value in declared_inputs(model)
            if value.name in dynamic.keys and (dims := value.dims) is not None
        }
        for values in dynamic.values or ({},):
            options = dynamic.options_of(variant_key(ones, values))
            demand_compiled(model, replace(options, min_gain=0), dynamic.cache_dir)
    return replace(dynamic, mode="never", first="never")
