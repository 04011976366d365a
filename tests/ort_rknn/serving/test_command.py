"""``ort-rknn serve``: its refusals, its log, TLS, and the commands that take an address."""

from __future__ import annotations

import shutil
import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import ort_rknn
from ort_rknn.bench.cli import command as bench
from ort_rknn.serving.cli import command as serve
from ort_rknn.serving.server import Server, ServeSettings
from ort_rknn_conformance.cli import check
from tests.helpers.serving import FREE, ServerProcess, put_models, served

A = np.ones((3, 2), np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return put_models(tmp_path / "models", "two")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--listen", "0.0.0.0:8001"], "other machines can reach 0.0.0.0:8001: give --token-file"),
        (["--listen", "nowhere"], "is no place to listen at"),
        (["--http", "a:b"], "is no place to listen at"),
        (["--load", "nope"], "there is no model 'nope'"),
        (["--keep", "../two"], "there is no model '../two'"),
        (["--tls-key", "x"], "TLS takes both"),
        (["--token-file", "/no/such"], "the token file /no/such cannot be read"),
        (["--option", "schedul=0"], "unknown RKNNExecutionProvider option 'schedul'"),
        (["--option", "x"], "--option takes KEY=VALUE"),
    ],
)
def test_refusals(arguments: list[str], why: str, folder: Path) -> None:
    done = CliRunner().invoke(serve, [str(folder), *arguments])
    assert (done.exit_code, why in done.output) == (2, True), done.output


def test_no_folder(tmp_path: Path) -> None:
    done = CliRunner().invoke(serve, [str(tmp_path / "nope")])
    assert (done.exit_code, "there is no folder" in done.output) == (2, True)
    file = put_models(tmp_path / "models", "two") / "two.onnx"
    done = CliRunner().invoke(serve, [str(file)])
    assert (done.exit_code, f"`ort-rknn serve {file.parent}`" in done.output) == (2, True)


def test_a_folder_in_which_nothing_is_yet(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        assert f"{tmp_path} has no models yet (.onnx, .rknn): one that comes later is found" in "".join(server.log)
        put_models(tmp_path, "two")
        with ort_rknn.InferenceSession(f"grpc://127.0.0.1:{server.port}/two") as session:
            assert session.run(["K"], {"A": A, "B": A})[0].shape == (3, 2)


def test_the_access_log(folder: Path) -> None:
    with ServerProcess(folder, "--access-log", "--http", "127.0.0.1:0", "--keep", "two") as server:
        server.wait_for("model two is open")
        with ort_rknn.InferenceSession(f"grpc://127.0.0.1:{server.port}/two") as session:
            session.run(None, {"A": A, "B": A})
        server.wait_for(r"grpc ipv4:127.0.0.1:\d+ ModelInfer 'two' OK \d")
        with urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}/v2/models/two", timeout=10) as answer:
            assert answer.status == 200
        server.wait_for(r"http 127.0.0.1 GET /v2/models/two 'two' OK")


def test_a_server_that_could_not_load_is_not_ready(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"garbage")
    with ServerProcess(tmp_path, "--http", "127.0.0.1:0", "--load", "bad") as server:
        server.wait_for("model bad could not be opened")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}/v2/health/ready", timeout=10)
        assert refused.value.code == 503
        refused.value.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_tls(scheme: str, folder: Path, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    with served(folder, tls_certificate=str(certificate), tls_key=str(key)) as server:
        port = server.grpc_ports[0] if scheme == "grpcs" else server.http_port
        address = f"{scheme}://localhost:{port}/two"
        with ort_rknn.InferenceSession(f"{address}?ca_file={certificate}") as session:
            assert session.run(["K"], {"A": A, "B": A})[0].shape == (3, 2)
        with pytest.raises(ort_rknn.DeviceUnavailable):
            ort_rknn.InferenceSession(f"{address}?timeout=3")  # nobody vouches for it


def test_bench_and_check_take_addresses(folder: Path) -> None:
    with served(folder) as server:
        address = f"grpc://127.0.0.1:{server.grpc_ports[0]}/two"
        done = CliRunner().invoke(bench, [address, "-n", "5", "--benchmark"])
        assert (done.exit_code, "Batches completed: 5 / 5" in done.output) == (0, True), done.output
        done = CliRunner().invoke(check, [str(folder / "two.onnx"), "--device", address])
        assert (done.exit_code, "PASS" in done.output) == (0, True), done.output
        done = CliRunner().invoke(check, [str(folder / "two.onnx"), "--device", address, "--layers"])
        assert (done.exit_code, "does not go with an address" in done.output) == (2, True), done.output
        done = CliRunner().invoke(bench, [address, "--device", "npu"])
        assert (done.exit_code, "ort-rknn serve --option device=npu" in done.output) == (2, True), done.output


def test_limits_come_from_the_shapes(tmp_path: Path) -> None:
    for name, least, most in (("two", 4 << 20, 4 << 20), ("dynamic", 32 << 20, 32 << 20)):
        server = Server(ServeSettings(put_models(tmp_path / name, name), (FREE,)))
        from ort_rknn.serving.server import largest_request

        assert least <= largest_request(server.repository) <= most
        server.stop()
