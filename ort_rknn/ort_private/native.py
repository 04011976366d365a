"""Native sessions: onnxruntime's own where they can be derived from, else the same calls over its public class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ort_rknn.ort_private.own import native, public
from ort_rknn.ort_private.probes import hooks_work

__all__ = ["NativeBase", "PublicNative", "start_native"]


class PublicNative:
    """Answers the calls of a native session by a public one.

    Values are public ``OrtValue`` objects where native ones are not reachable; bindings are
    :class:`~ort_rknn.ort_private.bindings.PublicBinding`.

    Args:
        options: Session options.
        model: Path or content.
        is_path: Which of them.
        read_config: Not used.
    """

    def __init__(self, options: Any, model: str | bytes, is_path: bool, read_config: bool) -> None:
        self._options, self._model = options, model

    def initialize_session(self, names: Sequence[str], given: Sequence[Mapping[str, str]], optimizers: Any) -> None:
        """Open it."""
        more = {"disabled_optimizers": optimizers} if optimizers else {}
        self.shown = public("InferenceSession")(
            self._model, self._options, list(names) or None, list(given) or None, enable_fallback=0, **more
        )
        self._model = b""

    @classmethod
    def of(cls, shown: Any, options: Any = None) -> PublicNative:
        """That of a session that is open."""
        native_session = cls(options, b"", False, False)
        native_session.shown = shown
        return native_session

    def run(self, output_names: Any, input_feed: Any, run_options: Any = None) -> Any:
        """Run once."""
        return self.shown.run(output_names, input_feed, run_options)

    def run_async(self, output_names: Any, input_feed: Any, callback: Any, user_data: Any, run_options: Any) -> None:
        """Run once, later."""
        self.shown.run_async(output_names, input_feed, callback, user_data, run_options)

    def run_with_ort_values(self, input_dict: Any, output_names: Any, run_options: Any = None) -> Any:
        """Run once over values."""
        return self.shown.run_with_ort_values(output_names, input_dict, run_options)

    def run_with_ortvaluevector(self, *arguments: Any) -> None:
        """Run once over vectors of values."""
        self.shown.run_with_ortvaluevector(*arguments)

    def run_with_iobinding(self, binding: Any, run_options: Any = None) -> None:
        """Run once over a binding."""
        self.shown.run_with_iobinding(getattr(binding, "shown", binding), run_options)

    @property
    def inputs_meta(self) -> Any:
        """The inputs."""
        return self.shown.get_inputs()

    @property
    def outputs_meta(self) -> Any:
        """The outputs."""
        return self.shown.get_outputs()

    @property
    def overridable_initializers(self) -> Any:
        """The weights a caller may replace."""
        found = self.shown.get_overridable_initializers()
        return found if isinstance(found, (list, tuple)) else []

    @property
    def model_meta(self) -> Any:
        """The model's metadata."""
        return self.shown.get_modelmeta()

    @property
    def session_options(self) -> Any:
        """The options it was made with."""
        from ort_rknn.ort_private.arguments import copy_options

        said = self.shown.get_session_options()
        if hasattr(said, "add_session_config_entry"):
            return copy_options(said)
        return public("SessionOptions")() if self._options is None else copy_options(self._options)

    @property
    def get_profiling_start_time_ns(self) -> int:
        """Time at which profiling began."""
        return int(self.shown.get_profiling_start_time_ns())

    def get_providers(self) -> list[str]:
        """The providers."""
        return list(self.shown.get_providers() or ("CPUExecutionProvider",))

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """Options of the providers."""
        return dict(self.shown.get_provider_options() or {})

    def get_provider_graph_assignment_info(self) -> Any:
        """Records which node went to which provider."""
        return self.shown.get_provider_graph_assignment_info()

    def end_profiling(self) -> str:
        """Write the profile."""
        return str(self.shown.end_profiling())


NativeBase: Any = native("InferenceSession") if hooks_work() else PublicNative


def start_native(
    names: Sequence[str],
    given: Sequence[Mapping[str, str]],
    kind: Any,
    options: Any,
    model: str | bytes,
    optimizers: set[str],
) -> Any:
    """Open a native session.

    Args:
        names: Providers, first who is asked first.
        given: Their options.
        kind: Its class; ``None`` for onnxruntime's own.
        options: Session options.
        model: Path or content.
        optimizers: What of onnxruntime's is left out.
    """
    opened = (kind or NativeBase)(options, model, isinstance(model, str), False)
    opened.initialize_session(list(names), list(given), optimizers)
    return opened
