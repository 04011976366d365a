"""Converts on another machine: plain ssh, the same command there, and tar for the files there and back.

What goes there: the model, the files of its weights, the calibration, the options file. It lies in a temporary folder
that is removed in any case. What comes back are the files that the command wrote, checked for plain names.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import click

from ort_rknn_converters.errors import ConvertError
from ort_rknn_converters.onnx_file.protobuf_wire import NotProtobuf, fields
from ort_rknn_converters.util.foreign_text import shown, shown_lines
from ort_rknn_converters.util.frozen import frozen
from ort_rknn_converters.util.own_files import is_file, is_plain_name, open_regular, read_regular

__all__ = ["COMMAND_VARIABLE", "SSH_VARIABLE", "RemoteJob", "convert_on", "options_of"]

SSH_VARIABLE = "ORT_RKNN_SSH"
"""Environment variable: what stands for ``ssh``, with options, such as ``ssh -p 2222``."""

COMMAND_VARIABLE = "ORT_RKNN_REMOTE_COMMAND"
"""Environment variable: what stands for ``ort-rknn`` there, such as ``venv/bin/ort-rknn``."""

_SCRIPT = """
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT HUP INT TERM
tar -xf - -C "$folder"
mkdir "$folder/out"
command -v {command} >/dev/null || {{
    echo "{host} has no {command}: install it there (pip install 'ort-rknn[convert]'; ort-rknn toolkit install)" >&2
    echo "or name it with {variable}, such as venv/bin/ort-rknn" >&2
    exit 127
}}
home=$PWD
status=0
(
    cd "$home"
    exec {command} convert "$folder/in/"{model} -o "$folder/out/"{output} {options}
) >"$folder/out/{said}" || status=$?
[ "$status" = 0 ] || {{ cat "$folder/out/{said}" >&2; exit "$status"; }}
printf %s "$folder/out" >"$folder/out/{where}"
tar -cf - -C "$folder/out" .
"""
_SAID, _WHERE = "ort-rknn.said", "ort-rknn.folder"
_ALIVE = ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]
"""Ends ssh a minute after the other machine went silent; by itself it would wait for ever. A guess."""

_END_S = 5.0  # seconds that ssh gets to end before it is killed; a guess

_LOCAL = ("on", "output")
"""Options that are not passed on as they are."""
_PATHS = ("calibration", "options_file")
"""Options that name files of this machine."""
_MOST_LIST = 1 << 26  # bytes of a list of files; a guess: half a million names
_MODEL_GRAPH, _EXTERNAL = 7, b"location"


@frozen
class RemoteJob:
    """A conversion for another machine.

    Attributes:
        host: For ssh: ``user@pc``.
        model: The file.
        output: Where the result goes.
        options: Raw values by the options' names, as given on the command line.
    """

    host: str
    model: Path
    output: Path
    options: dict[str, Any]


def options_of(command: click.Command, context: click.Context, arguments: Sequence[str]) -> dict[str, Any]:
    """Reads a command line again: the raw values of the options that were given."""
    given, _, _ = command.make_parser(context).parse_args(list(arguments))
    return {name: value for name, value in given.items() if name != "model"}


def convert_on(job: RemoteJob, command: click.Command) -> None:
    """Convert there, and write the result here: all of it, or nothing.

    Args:
        job: What to convert.
        command: The command ``convert``, whose options are passed on.

    Raises:
        ConvertError: The other machine cannot be reached. Where the conversion fails there, its exit code is ours.
        OSError: A file cannot be read or written.
    """
    if job.host.startswith("-") or not job.host.strip():
        raise ConvertError(f"--on takes what ssh takes, such as user@pc, not {job.host!r}")
    parts = dict(_parts(job))
    words = [word for name, value in job.options.items() for word in _words(command, name, value)]
    script = _SCRIPT.format(
        command=os.environ.get(COMMAND_VARIABLE) or "ort-rknn",
        variable=COMMAND_VARIABLE,
        host=shlex.quote(job.host).replace('"', ""),
        model=shlex.quote(job.model.name),
        output=shlex.quote(job.output.name),
        options=" ".join(words),
        said=_SAID,
        where=_WHERE,
    )
    ssh = shlex.split(os.environ.get(SSH_VARIABLE, "")) or ["ssh", *_ALIVE]
    with tempfile.TemporaryFile() as answer:
        try:
            process = subprocess.Popen([*ssh, job.host, script], stdin=subprocess.PIPE, stdout=answer)
        except OSError as error:
            raise ConvertError(f"{ssh[0]} cannot be started: {error.strerror}. {SSH_VARIABLE} names another") from error
        assert process.stdin is not None
        sender = threading.Thread(target=_send, args=(process.stdin, parts), daemon=True)
        sender.start()
        try:
            # no limit: the conversion there has its own, and ssh ends when the machine answers no more (_ALIVE)
            status = process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
        if status == 255:
            raise ConvertError(f"{job.host} cannot be reached by {ssh[0]} (what it says stands above)")
        if status:
            sys.exit(status)  # the reason was said there, and stands above
        answer.seek(0)
        _receive(answer, job)


def _parts(job: RemoteJob) -> Iterator[tuple[str, Path]]:
    """Name there and file here, of all that the conversion reads."""
    yield f"in/{job.model.name}", job.model
    for location in external_files(job.model):
        yield f"in/{location}", job.model.parent / location
    for name in _PATHS:
        value = job.options.get(name)
        if value is None:
            continue
        path = Path(value)
        if not path.exists():
            raise ConvertError(f"{path} is not there")
        yield f"in/{name}/{path.name}", path
        if path.suffix == ".txt":  # a list of other files
            for line in read_regular(path, _MOST_LIST).decode("utf-8", errors="replace").split():
                if not Path(line).is_absolute() and is_file(path.parent / line):
                    yield f"in/{name}/{line}", path.parent / line


def external_files(model: Path) -> list[str]:
    """Finds the files beside a model that hold its weights, by the places their names have in the message.

    Raises:
        ConvertError: One would lie outside the model's folder.
        OSError: The model cannot be read.
    """
    from ort_rknn_converters.onnx_file.schema import ModelProto
    from ort_rknn_converters.onnx_file.split_model import tensors

    with open_regular(model) as stream:
        data = stream.read()
    if b"\x0a\x08" + _EXTERNAL not in data:
        return []
    try:
        kept = b"".join(data[low:high] for number, _, low, high in fields(data, 0, len(data)) if number == _MODEL_GRAPH)
        proto = ModelProto()
        proto.graph.MergeFromString(kept)
    except (NotProtobuf, ValueError):
        return []  # whoever converts it says what is wrong
    found: dict[str, None] = {}
    for tensor in tensors(proto):
        for entry in tensor.external_data:
            if entry.key == "location":
                found[entry.value] = None
    for location in found:
        if Path(location).is_absolute() or ".." in Path(location).parts:
            raise ConvertError(f"{model} has weights in {location}, outside its folder: copy them beside it")
    return list(found)


def _words(command: click.Command, name: str, value: Any) -> Iterator[str]:
    """An option as words of a shell."""
    if name in _LOCAL or value is None or value is False:
        return
    options = [one for one in command.params if one.name == name and isinstance(one, click.Option)]
    option = min(options, key=lambda one: one.is_flag)  # --int8 is another word for --precision int8
    flag = max(option.opts, key=len)
    if option.is_flag:
        yield flag
        return
    for one in value if isinstance(value, (list, tuple)) else [value]:
        text = f"{name}/{Path(str(one)).name}" if name in _PATHS else str(one)
        yield f'{flag} "$folder/in/"{shlex.quote(text)}' if name in _PATHS else f"{flag} {shlex.quote(text)}"


def _send(stream: IO[bytes], parts: dict[str, Path]) -> None:
    """Write the files as a tar; an end of the other side is noticed by its exit status."""
    try:
        with stream, tarfile.open(fileobj=stream, mode="w|", dereference=True) as archive:
            for name, path in parts.items():
                archive.add(path, name)
    except (BrokenPipeError, ConnectionResetError):
        return


def _receive(answer: IO[bytes], job: RemoteJob) -> None:
    """Write what came back: beside the output first, then all files into place, the model last."""
    contents: dict[str, bytes] = {}
    room = answer.seek(0, os.SEEK_END)
    answer.seek(0)
    try:
        with tarfile.open(fileobj=answer, mode="r:") as archive:  # not compressed: a little could become a lot
            for member in archive:
                name = member.name.removeprefix("./")
                if not member.isreg() or member.issparse():
                    continue
                if not is_plain_name(name) or not (name in (_SAID, _WHERE) or name.startswith(job.output.stem)):
                    raise ConvertError(f"{job.host} sent {shown(name)}, which is no file of {job.output.name}")
                if (stream := archive.extractfile(member)) is not None:
                    contents[name] = stream.read(room)
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise ConvertError(f"{job.host} sent something else than files ({error}): is its shell silent?") from error
    said, folder = contents.pop(_SAID, b""), contents.pop(_WHERE, b"")
    if folder:
        said = said.replace(folder, os.fsencode(job.output.parent))
    for name in sorted(contents, key=lambda one: one == job.output.name):
        part = job.output.with_name(f".{name}.part")
        part.write_bytes(contents[name])
        part.replace(job.output.with_name(name))
    sys.stdout.write(shown_lines(said.decode("utf-8", errors="replace"), len(said)))
    sys.stdout.flush()
    if job.output.name in contents:
        click.echo(f"converted on {job.host}: {job.output} ({len(contents[job.output.name]) / 1e3:.0f} kB)", err=True)
