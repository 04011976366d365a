"""``ort-rknn serve FOLDER``: the command."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import click

from ort_rknn.errors import InvalidOption
from ort_rknn.serving.security import Listen
from ort_rknn.serving.server import Server, ServeSettings
from ort_rknn.serving.statistics import access_logger
from ort_rknn_converters.util.foreign_text import shown, shown_lines
from ort_rknn_converters.util.log import logger

__all__ = ["command"]

BAD_INPUT, NOT_ALL_ENDED = 2, 1  # exit codes
_SHOWN = 8  # names of models in the first line


@click.command("serve")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--listen",
    multiple=True,
    default=("127.0.0.1:8001",),
    show_default=True,
    metavar="PLACE",
    help="Where gRPC listens: host:port or unix:/path; repeatable.",
)
@click.option("--http", metavar="PLACE", help="Where HTTP listens too: 8000 or host:port.")
@click.option("--token-file", default="", metavar="FILE", help="Tokens that clients must show, one a line.")
@click.option("--insecure", is_flag=True, help="Let other machines in without a token.")
@click.option("--tls-certificate", default="", metavar="FILE", help="Certificate chain (PEM): serve over TLS.")
@click.option("--tls-key", default="", metavar="FILE", help="Its private key.")
@click.option("--load", multiple=True, metavar="NAME", help="Open this model before being ready; repeatable.")
@click.option("--keep", multiple=True, metavar="NAME", help="Likewise, and never close it; repeatable.")
@click.option(
    "--idle",
    type=click.FloatRange(0),
    default=300.0,
    show_default=True,
    help="Seconds without a call after which a model is closed; 0 keeps all.",
)
@click.option("--pending", type=click.IntRange(1), help="Calls under way at once.  [default: by memory, 4 to 128]")
@click.option("--max-message", type=click.FloatRange(0, min_open=True), help="MB of a request.  [default: by models]")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds a call may take when its client does not say.",
)
@click.option(
    "--grace", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds to finish in after SIGTERM."
)
@click.option("--device", help="The option device: npu, simulator, cpu ...")
@click.option("-o", "--option", "more", multiple=True, metavar="KEY=VALUE", help="Any provider option of the sessions.")
@click.option("--access-log", is_flag=True, help="One line on stderr for each call.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only.")
def command(folder: Path, **given: Any) -> None:
    """Serve the models of FOLDER (.onnx, compiled, .rknn) to other programs and machines.

    Speaks the Open Inference Protocol v2, gRPC and HTTP, as Triton does. SIGTERM finishes what was accepted. Exit code
    0: all of it ended. 1: not within --grace. 2: the arguments are no good.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # whose lines about a port that is taken say less than ours
    try:
        server = Server(_settings(folder, given))
    except InvalidOption as reason:
        click.echo(f"Error: {shown_lines(reason)}", err=True)
        sys.exit(BAD_INPUT)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("grpc", "tritonclient", "google", "prometheus_client"):
            raise
        from ort_rknn_converters.extras import install_command

        click.echo(f"Error: {missing} is not installed: {install_command('serve')}", err=True)
        sys.exit(BAD_INPUT)
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # the last: the terminal it was started in is closed
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores that
            signal.signal(number, lambda *_: end.set())
    _log(access=given["access_log"], quiet=given["quiet"])
    click.echo(_served(folder, list(server.repository.files())), err=True)
    for place, port in zip(given["listen"], server.grpc_ports, strict=True):
        where = place if place.startswith("unix:") else f"{Listen.parse(place).host}:{port}"
        click.echo(f"gRPC at {where}", err=True)
    if server.http_port is not None:
        click.echo(f"HTTP at {Listen.parse(given['http']).host}:{server.http_port}", err=True)
    server.start()
    while not end.wait(3600):
        pass
    logger().info("going down: no more calls, finishing %d", server.service.under_way)
    ended = server.stop()
    if ended:
        logger().info("ended")
    else:
        logger().warning("not all calls ended within %g s", given["grace"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if ended else NOT_ALL_ENDED)  # threads that hang in a runtime must not keep the process


def _served(folder: Path, names: list[str]) -> str:
    if not names:
        return f"{folder} has no models yet (.onnx, .rknn): one that comes later is found"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (
        f"serving {len(names)} model{'s' * (len(names) > 1)} of {folder}: {', '.join(map(shown, names[:_SHOWN]))}{more}"
    )


def _settings(folder: Path, given: dict[str, Any]) -> ServeSettings:
    options: dict[str, str] = {}
    for pair in given["more"]:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise InvalidOption(f"--option takes KEY=VALUE, not {pair!r}")
        options[key.strip()] = value
    if given["device"]:
        options["device"] = given["device"]
    from ort_rknn.options.table import RknnOptions

    RknnOptions.parse(options)  # now, not at the first call
    return ServeSettings(
        folder,
        tuple(Listen.parse(place) for place in given["listen"]),
        Listen.parse(given["http"]) if given["http"] else None,
        token_file=given["token_file"],
        insecure=given["insecure"],
        tls_certificate=given["tls_certificate"],
        tls_key=given["tls_key"],
        load=given["load"],
        keep=given["keep"],
        idle=given["idle"],
        pending=given["pending"],
        most_bytes=int(given["max_message"] * 1e6) if given["max_message"] else None,
        grace=given["grace"],
        limit=given["timeout"],
        options=options,
    )


def _log(*, access: bool, quiet: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    own = logger()
    own.handlers = [handler]
    own.propagate = False
    own.setLevel(logging.WARNING if quiet else logging.INFO)
    if access:
        log = access_logger()
        log.handlers, log.propagate = [handler], False
        log.setLevel(logging.INFO)
