"""``ort-rknn toolkit``: make the vendor toolkit's private environment, and say whether it works."""

from __future__ import annotations

import shutil
import sys

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ort_rknn_converters.errors import ToolkitMissing
from ort_rknn_converters.toolkit.setup.environment import find_python
from ort_rknn_converters.toolkit.setup.install import InstallFailed, install
from ort_rknn_converters.toolkit.status import prove, status
from ort_rknn_converters.util.user_dirs import size_on_disk, toolkit_directory

__all__ = ["command"]

SOURCES = {
    "env": "named by ORT_RKNN_TOOLKIT_PYTHON",
    "importable": "installed in this Python",
    "private": "private environment",
}
LINE = 100  # of pip's or uv's lines, as much as is shown


@click.group("toolkit", help="Install rknn-toolkit2 into a private environment, or look at the one there is.")
def command() -> None:
    """Group of the toolkit's subcommands."""


@command.command("install")
@click.option("--python", metavar="PATH", help="The Python to build on (3.8 to 3.12). Default: the first that fits.")
@click.option("--force", is_flag=True, help="Throw away what is there and begin anew.")
@click.option("--pip", "use_pip", is_flag=True, help="Use venv and pip even where uv is found.")
def install_command(python: str | None, force: bool, use_pip: bool) -> None:
    """Make the private environment in the cache directory (about 300 MB)."""
    console = Console(stderr=True)
    with console.status("looking for a Python that rknn-toolkit2 has wheels for") as spinner:

        def show(line: str) -> None:
            if line:
                spinner.update(escape(line[:LINE]))

        try:
            made = install(show, prove=prove, python=python, force=force, use_uv=not use_pip)
        except InstallFailed as error:
            spinner.stop()
            console.print(f"[red]Not installed:[/red] {escape(str(error))}", soft_wrap=True)
            sys.exit(1)
    size = size_on_disk(toolkit_directory()) / 1e6
    console.print(f"[green]rknn-toolkit2 {escape(made.version)} works[/green] ({size:.0f} MB): {escape(made.python)}")


@command.command("status")
def status_command() -> None:
    """Say what is there, and convert a model of two nodes to prove that it works (exit code 1 when it does not)."""
    console = Console()
    now = status()
    table = Table(show_header=False, box=None)
    if now.toolkit is not None:
        table.add_row("source", SOURCES[now.toolkit.source])
        table.add_row("python", escape(f"{now.toolkit.python} ({now.python_version or 'does not start'})"))
        table.add_row("rknn-toolkit2", escape(now.toolkit.version))
    table.add_row("private environment", escape(f"{now.directory} ({now.size / 1e6:.0f} MB)" if now.size else "none"))
    works = f"[green]yes[/green], two nodes converted and simulated in {now.seconds:.1f} s"
    table.add_row("works", works if now.works else f"[red]no[/red]: {escape(now.problem)}")
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
