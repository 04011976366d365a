"""``ort-rknn toolkit``: make the vendor toolkit's private environment, and say whether it works."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from ort_rknn_converters.cli.heartbeat import shown_lines
from ort_rknn_converters.errors import ToolkitMissing
from ort_rknn_converters.extras import COMPLETE, EXTRA
from ort_rknn_converters.toolkit.npu_access import npu_obstacle
from ort_rknn_converters.toolkit.setup.environment import find_python, marker
from ort_rknn_converters.toolkit.setup.install import REQUIREMENTS, TOOLKIT_VERSION, InstallFailed, install
from ort_rknn_converters.toolkit.setup.wheelhouse import MACHINES, download
from ort_rknn_converters.toolkit.status import prove, status
from ort_rknn_converters.util.foreign_text import in_markup, lines_in_markup
from ort_rknn_converters.util.user_dirs import size_on_disk, toolkit_directory

__all__ = ["command"]

SOURCES = {
    "env": "named by ORT_RKNN_TOOLKIT_PYTHON",
    "importable": "installed in this Python",
    "private": "private environment",
}


@click.group("toolkit", help="Install rknn-toolkit2 into a private environment, or look at the one there is.")
def command() -> None:
    """Group of the toolkit's subcommands."""


@command.command("install")
@click.option("--python", metavar="PATH", help="The Python to build on (3.8 to 3.12). Default: the first that fits.")
@click.option("--force", is_flag=True, help="Throw away what is there and begin anew.")
@click.option("--pip", "use_pip", is_flag=True, help="Use venv and pip even where uv is found.")
@click.option(
    "--from",
    "wheels",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Install without a network, from a folder that `ort-rknn toolkit download` made.",
)
@click.option("--index-url", metavar="URL", help="A mirror of the package registry; files must have the known hashes.")
def install_command(python: str | None, force: bool, use_pip: bool, wheels: Path | None, index_url: str | None) -> None:
    """Make the private environment in the cache directory (about 300 MB)."""
    console = Console(stderr=True)
    if obstacle := npu_obstacle():
        console.print(
            f"[yellow]It will not compile on this machine:[/yellow] {lines_in_markup(obstacle)}", soft_wrap=True
        )
    with shown_lines(console, "looking for a Python that rknn-toolkit2 has wheels for") as show:
        try:
            made = install(
                show,
                prove=prove,
                python=python,
                force=force,
                use_uv=not use_pip,
                wheels=wheels,
                index=index_url,
            )
        except InstallFailed as error:
            show.stop()
            console.print(f"[red]Not installed:[/red] {lines_in_markup(str(error))}", soft_wrap=True)
            sys.exit(1)
    size = size_on_disk(toolkit_directory()) / 1e6
    if unproven := str((marker() or {}).get("unproven", "")) if made.source == "private" else "":
        console.print(
            f"[yellow]rknn-toolkit2 {in_markup(made.version)} is installed, and was not proven[/yellow]"
            f" ({size:.0f} MB): {in_markup(made.python)}. {lines_in_markup(unproven)}",
            soft_wrap=True,
        )
        return
    console.print(
        f"[green]rknn-toolkit2 {in_markup(made.version)} works[/green] ({size:.0f} MB): {in_markup(made.python)}"
    )
    if not COMPLETE:
        console.print(f"Converting also needs the packages onnx and onnx-ir: {in_markup(EXTRA)}", soft_wrap=True)


@command.command("download")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--platform", "machine", type=click.Choice(MACHINES), default="aarch64", show_default=True)
@click.option("--python", default="3.11", show_default=True, help="Of the machine it is for: 3.8 to 3.12.")
@click.option("--index-url", metavar="URL", help="A mirror of the package registry; files must have the known hashes.")
def download_command(folder: Path, machine: str, python: str, index_url: str | None) -> None:
    """Fetch the toolkit for a machine without a network into FOLDER (about 100 MB); there: toolkit install --from."""
    console = Console(stderr=True)
    with shown_lines(console, "fetching the wheels") as show:
        try:
            made = download(
                folder,
                toolkit=TOOLKIT_VERSION,
                requirements=REQUIREMENTS,
                machine=machine,
                python=python,
                index=index_url,
                progress=show,
            )
        except InstallFailed as error:
            show.stop()
            console.print(f"[red]Not downloaded:[/red] {lines_in_markup(str(error))}", soft_wrap=True)
            sys.exit(1)
    console.print(
        f"[green]{made.size / 1e6:.0f} MB for Python {made.python} on {made.machine}[/green] in {in_markup(folder)}."
        f" Copy the folder there, then: ort-rknn toolkit install --from {in_markup(folder.name)}",
        soft_wrap=True,
    )


@command.command("status")
def status_command() -> None:
    """Say what is there, and convert a model of two nodes to prove that it works (exit code 1 when it does not)."""
    console = Console()
    now = status()
    table = Table(show_header=False, box=None)
    if now.toolkit is not None:
        table.add_row("source", SOURCES[now.toolkit.source])
        table.add_row("python", in_markup(f"{now.toolkit.python} ({now.python_version or 'does not start'})"))
        table.add_row("rknn-toolkit2", in_markup(now.toolkit.version))
    table.add_row(
        "private environment", in_markup(f"{now.directory} ({now.size / 1e6:.0f} MB)" if now.size else "none")
    )
    works = f"[green]yes[/green], two nodes converted and simulated in {now.seconds:.1f} s"
    table.add_row("works", works if now.works else f"[red]no[/red]: {in_markup(now.problem)}")
    console.print(table)
    sys.exit(0 if now.works else 1)


@command.command("path")
def path_command() -> None:
    """Print the Python that would run the toolkit (exit code 1 when there is none)."""
    try:
        click.echo(find_python().python)
    except ToolkitMissing as error:
        click.echo(str(error), err=True)
        sys.exit(1)


@command.command("uninstall")
def uninstall_command() -> None:
    """Remove the private environment; compiled models stay, and so does a toolkit that was not installed here."""
    folder = toolkit_directory()
    size = size_on_disk(folder)
    if not folder.exists():
        click.echo(f"nothing to remove: there is no private environment in {folder}")
    else:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            click.echo(f"Error: {error.filename or folder} cannot be removed: {error.strerror}", err=True)
            sys.exit(1)
        click.echo(f"removed {folder} ({size / 1e6:.0f} MB)")
    try:
        left = find_python()
    except ToolkitMissing:
        return
    click.echo(f"rknn-toolkit2 {left.version} is still there, {SOURCES[left.source]}: {left.python}")
