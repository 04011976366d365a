"""A session's wish for the NPU; a session that has none never imports this, nor the table of options."""

from __future__ import annotations

import warnings
from typing import Any

from ort_rknn.options.table import RknnOptions
from ort_rknn.ort_conventions import CPU_PROVIDER, has_providers
from ort_rknn_converters.util.frozen import frozen

__all__ = ["Request", "warn_of_doubles"]

_ALREADY_CONFIGURED = (
    "Specified 'providers'/'provider_options' when creating InferenceSession but SessionOptions has "
    "already been configured with providers. InferenceSession will only use the providers "
    "passed to InferenceSession()."
)


@frozen
class Request:
    """Request for the NPU.

    Attributes:
        named: The provider (or a device) was named by the caller; otherwise it is the default or a promotion.
        options: The provider options.
        providers: The other providers, for what the NPU does not take; never empty.
        provider_options: Their options.
        cpu_named: The caller listed the CPU provider.
        listed: The caller gave a list at all.
    """

    named: bool
    options: RknnOptions
    providers: tuple[str, ...] = (CPU_PROVIDER,)
    provider_options: tuple[dict[str, str], ...] = ({},)
    cpu_named: bool = False
    listed: bool = False

    def warn_of_doubles(self, sess_options: Any) -> None:
        """Warn as onnxruntime does when both the session options and the call name providers."""
        if self.listed and has_providers(sess_options):
            warn_of_doubles(stacklevel=7)


def warn_of_doubles(stacklevel: int = 6) -> None:
    """Warns that the call's providers take the place of those in the session options."""
    warnings.warn(_ALREADY_CONFIGURED, stacklevel=stacklevel)
