"""The container's files fit each other, and Compose takes its files where it is installed."""

from __future__ import annotations

import fnmatch
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "examples" / "container" / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "examples" / "container" / "compose.yaml").read_text(encoding="utf-8")
FILES = ("examples/container/compose.yaml", "examples/serving/compose.yaml")
KUBERNETES = ("examples/serving/k3s.yaml", "docs/containers.md")


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    """Without the list of exceptions an engine packs environments and builds: gigabytes."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    (copied,) = re.findall(r"^COPY (\S+) ", DOCKERFILE, re.MULTILINE)
    assert ignored == ["*", f"!{copied}"]
    assert fnmatch.fnmatch("dist/ort_rknn-0.1.0-py3-none-manylinux2014_aarch64.whl", copied)


def test_the_cache_s_volume_lies_on_a_folder_of_the_image_s_user() -> None:
    """A named volume takes over the owner of the folder it covers; without one it is root's, and nothing is kept."""
    (folder,) = re.findall(r"^ +- cache:(\S+)$", COMPOSE, re.MULTILINE)
    (made,) = re.findall(r"install -d -o user -g user -m 700 (.+)$", DOCKERFILE, re.MULTILINE)
    assert folder in made.split()


@pytest.mark.parametrize("name", [*FILES, *KUBERNETES])
def test_a_container_s_user_gets_the_nodes_groups_and_the_soc_s_name(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "group_add:" in text or "supplementalGroups:" in text
    assert "ORT_RKNN_TARGET" in text
    assert "/proc/device-tree:" not in text
    assert "mountPath: /proc" not in text, "it leads to /sys/firmware, which engines mask"


def test_a_missing_runtime_is_an_error_and_no_new_folder() -> None:
    assert "create_host_path: false" in COMPOSE
    page = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
    assert "-v /usr/lib/librknnrt.so" not in page
    assert re.search(r"hostPath: \{path: /usr/lib/librknnrt\.so, type: File\}", page)


@pytest.mark.parametrize("name", FILES)
def test_compose_takes_the_file(name: str) -> None:
    try:
        there = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False, timeout=30)
    except OSError:
        there = None
    if there is None or there.returncode:
        pytest.skip("there is no docker compose here")
    command = ["docker", "compose", "-f", name, "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert not done.returncode, done.stderr
