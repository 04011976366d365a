"""The ``ort-rknn`` command. Its subcommands come from entry points, so that no room imports a higher one."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points, version
from typing import Any

import click

__all__ = ["main"]

GROUP = "ort_rknn.commands"
_CONVERT = frozenset({"onnx", "onnx_ir"})
"""Packages of the extra ``convert``."""


class _EntryPoints(click.Group):
    """Finds subcommands among the installed entry points and loads one only when it is needed."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(_points())

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        point = _points().get(name)
        if point is None:
            return None
        try:
            command = point.load()
        except (ImportError, AttributeError) as error:
            if extra := _extra_for(error):
                return _refusal(name, "Needs an extra, which is not installed.", f"{name} needs {extra}")
            why = f"{type(error).__name__}: {error}"
            return _refusal(name, f"Cannot be loaded ({why}).", f"the command {name} cannot be loaded: {why}")
        return command if isinstance(command, click.Command) else None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:  # commands import most of what they need when they run
            if extra := _extra_for(error):
                raise click.ClickException(f"this needs {extra}") from error
            raise


def _extra_for(error: Exception) -> str:
    """Says which extra brings a package that is missing; empty for what no extra brings."""
    if not isinstance(error, ModuleNotFoundError) or (error.name or "").partition(".")[0] not in _CONVERT:
        return ""
    from ort_rknn_converters.extras import EXTRA

    return f"the package {error.name}, which is not installed and which an extra brings: {EXTRA}"


def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _refusal(name: str, listed: str, why: str) -> click.Command:
    """A subcommand that cannot be loaded is listed all the same, and says why when it is called, whatever for."""

    @click.command(name, short_help=listed, add_help_option=False, context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1)
    def command(arguments: tuple[str, ...]) -> None:
        raise click.ClickException(why)

    return command


def _versions(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"ort-rknn {version('ort-rknn')} (onnxruntime {version('onnxruntime')})")
        context.exit()


@click.group(cls=_EntryPoints, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_versions, help="Print the versions."
)
def main() -> None:
    """ONNX Runtime on Rockchip NPUs: convert models, look at them, check their numbers."""


if __name__ == "__main__":
    main()
