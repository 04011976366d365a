"""The configuration file: where it is, what it gives, what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ort_rknn.errors import InvalidOption
from ort_rknn.options.config_file import config_path
from ort_rknn.options.table import OPTIONS, RknnOptions, make_provider_options


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that is read; it is not there yet."""
    monkeypatch.setenv("ORT_RKNN_CONFIG", str(tmp_path / "config.toml"))
    for option in OPTIONS.values():
        if option.env:
            monkeypatch.delenv(option.env, raising=False)
    return tmp_path / "config.toml"


def test_it_is_where_platformdirs_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from platformdirs import user_config_path

    monkeypatch.delenv("ORT_RKNN_CONFIG", raising=False)
    for folder in (None, str(tmp_path)):
        if folder is None:
            monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        else:
            monkeypatch.setenv("XDG_CONFIG_HOME", folder)
        assert config_path() == user_config_path("ort_rknn") / "config.toml"


def test_without_a_file_the_table_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ORT_RKNN_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert RknnOptions.parse({"device": "cpu", "min_gain": 1}) == RknnOptions(device="cpu")


def test_an_empty_name_means_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "ort_rknn").mkdir()
    (tmp_path / "ort_rknn" / "config.toml").write_text("threads_per_core = 7")
    monkeypatch.delenv("ORT_RKNN_CONFIG", raising=False)
    assert RknnOptions.parse().threads_per_core == 7
    monkeypatch.setenv("ORT_RKNN_CONFIG", "")
    assert RknnOptions.parse().threads_per_core is None


def test_values_of_every_kind(file: Path) -> None:
    file.write_text(
        'target = "rk3576"\nschedule = [0, 1]\ncpu_ops = ["LSTM", "GRU"]\nenable_pacing = true\nmin_gain = 0.5\n'
        "dims = { batch = 2 }\n"
    )
    options = RknnOptions.parse()
    assert (options.target, options.schedule, options.enable_pacing) == ("rk3576", (0, 1), True)
    assert (options.cpu_ops, options.min_gain, dict(options.dims)) == ({"LSTM", "GRU"}, 0.5, {"batch": 2})


def test_the_program_goes_before_the_environment_and_that_before_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('target = "rk3562"\n')
    assert RknnOptions.parse().target == "rk3562"
    monkeypatch.setenv("ORT_RKNN_TARGET", "rk3576")
    assert RknnOptions.parse().target == "rk3576"
    assert RknnOptions.parse({"target": "rk3588"}).target == "rk3588"


def test_options_that_exclude_each_other_do_not_meet(file: Path) -> None:
    file.write_text('tp_mode = "all"\n')
    assert RknnOptions.parse().tp_mode is not None
    options = RknnOptions.parse({"schedule": "0,1"})
    assert (options.tp_mode, options.schedule) == (None, (0, 1))
    assert RknnOptions.parse({"performance_hint": "latency"}).tp_mode is None


def test_a_change_is_seen(file: Path) -> None:
    file.write_text("threads_per_core = 2")
    assert RknnOptions.parse().threads_per_core == 2
    file.write_text("threads_per_core = 3")
    os.utime(file, ns=(1, 1))
    assert RknnOptions.parse().threads_per_core == 3


def test_only_what_the_caller_gives_becomes_provider_options(file: Path) -> None:
    file.write_text("threads_per_core = 2")
    assert make_provider_options(enable_pacing=True) == {"enable_pacing": "1"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("no toml", "config.toml is no TOML file"),
        (b"\xff\xfe", "config.toml is no TOML file"),
        ("devise = 'npu'", "unknown RKNNExecutionProvider option 'devise' in .*config.toml. Known options: device, "),
        ("threads_per_core = 0", "threads_per_core in .*config.toml must be a whole number from 1 up, not 0"),
        ('device = "gpu"', "device in .*config.toml must be one of auto"),
        ('tp_mode = "all"\nschedule = [0]', "exclude each other"),
    ],
)
def test_what_is_wrong_is_said(file: Path, content: str | bytes, says: str) -> None:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidOption, match=says):
        RknnOptions.parse()


def test_a_named_file_must_exist(file: Path) -> None:
    with pytest.raises(InvalidOption, match=r"ORT_RKNN_CONFIG names .*config\.toml: No such file"):
        RknnOptions.parse()
    file.mkdir()
    with pytest.raises(InvalidOption, match=r"cannot be read: Is a directory"):
        RknnOptions.parse()
