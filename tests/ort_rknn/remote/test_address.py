"""Addresses of models on other machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from ort_rknn.errors import InvalidOption
from ort_rknn.remote.address import Address, is_address


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ORT_RKNN_TOKEN", "ORT_RKNN_TOKEN_FILE", "ORT_RKNN_CA_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_what_is_an_address() -> None:
    assert all(map(is_address, ["grpc://a/m", "GRPCS://a/m", "http://a/m", "https://a/m", "grpc+unix:/s/m"]))
    assert not any(map(is_address, ["model.onnx", "C:\\m.onnx", "a:b.onnx", "ftp://a/m", b"grpc://a/m", None, ""]))


@pytest.mark.parametrize(
    ("text", "hosts", "model"),
    [
        ("grpc://board/yolo", ("board:8001",), "yolo"),
        ("http://board/yolo", ("board:8000",), "yolo"),
        ("grpc://a:1,b/yolo.rknn", ("a:1", "b:8001"), "yolo.rknn"),
        ("grpc://[::1]:9/yolo", ("[::1]:9",), "yolo"),
        ("grpc://10.0.0.2/a%20b", ("10.0.0.2:8001",), "a b"),
        ("grpc+unix:/run/x.sock/yolo", ("/run/x.sock",), "yolo"),
        ("grpc+unix:///run/x.sock/yolo", ("/run/x.sock",), "yolo"),
    ],
)
def test_parts(text: str, hosts: tuple[str, ...], model: str) -> None:
    address = Address.parse(text)
    assert (address.hosts, address.model) == (hosts, model)
    assert address.unix == text.startswith("grpc+unix")


def test_settings(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    address = Address.parse(f"grpcs://a/m?timeout=2.5&token_file={tmp_path}/token&priority=high")
    assert (address.tls, address.timeout, address.token(), address.priority) == (True, 2.5, "secret", "high")
    assert Address.parse("grpc://a/m").timeout is None
    assert Address.parse("grpc://a/m").token() == ""


def test_the_token_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_RKNN_TOKEN", "from the environment")
    assert Address.parse("grpc://a/m").token() == "from the environment"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("grpc://board", "is no address of a model"),
        ("grpc://board/a/b", "is no address of a model"),
        ("grpc:///m", "is no address of a model"),
        ("grpc://a:b/m", "is no host:port"),
        ("grpc://a:99999/m", "is no host:port"),
        ("grpc://user:secret@a/m", "no place for a user or a secret"),
        ("grpc://a/m?timeout=0", "timeout must be a number of seconds above 0"),
        ("grpc://a/m?timeout=soon", "timeout must be a number of seconds above 0"),
        ("grpc://a/m?limit=3", "has a setting 'limit'; there are timeout, token_file"),
        ("grpc+unix:model", "is no address of a model"),
    ],
)
def test_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidOption, match=why):
        Address.parse(text)


def test_files_that_are_not_there() -> None:
    with pytest.raises(InvalidOption, match="cannot be read: No such file"):
        Address.parse("grpc://a/m?token_file=/no/such/file").token()
