"""Every wait has a limit, or says beside it why it needs none: ``# no limit: REASON`` (in C the same in ``/* */``).

A peer may be stopped, a process may be gone, an NPU may hang: a wait that nothing bounds keeps the program for ever.
The reason stands on the line of the call, or in the comment above its statement. Plain ``with lock:`` is left out:
locks are held while memory is changed, never while user code runs or something is waited for.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("ort_rknn", "converters/ort_rknn_converters", "conformance/ort_rknn_conformance")
PYTHON = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))
C = sorted(file for kind in ("*.c", "*.h") for file in (ROOT / "ort_rknn/native").rglob(kind))

MARK = re.compile(r"no limit: \w[^\n]{9,}")

LIMIT_FIRST = {"wait": 0, "join": 0, "result": 0, "exception": 0, "acquire": 1, "wait_for": 1, "get": 1, "put": 2}
"""Methods that wait without a limit unless something is given, and the place of the limit among their arguments."""

NO_LIMIT = frozenset(
    {"recv", "recv_bytes", "communicate", "wait_for_termination", "serve_forever", "sigwait", "pause", "getresponse"}
)
"""Methods that wait without a limit, or only with one given by name, or set on the connection before."""

BY_NAME = frozenset(
    {
        *("subprocess.run", "subprocess.call", "subprocess.check_call", "subprocess.check_output"),
        *("urllib.request.urlopen", "urlopen", "socket.create_connection", "futures.wait", "futures.as_completed"),
        *("concurrent.futures.wait", "concurrent.futures.as_completed", "ray.get", "ray.wait", "connection.wait"),
    }
)
"""Functions that wait for ever unless ``timeout`` is given."""

IN_C = re.compile(
    r"\b(pthread_cond_wait|pthread_join|sem_wait|sigwait|waitpid|pause|flock|lockf|accept|recv|recvfrom|select|poll|"
    r"epoll_wait|F_SETLKW|FUTEX_WAIT|system|popen)\b *\("
)


def dotted(node: ast.expr) -> str:
    """``a.b.c`` of such an expression."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def given(call: ast.Call, place: int) -> bool:
    """Whether a limit, or "do not wait", is among the arguments."""
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    if None in named:  # ``**arguments``
        return True
    for name in ("timeout", "timeout_s"):
        if name in named:
            return not (isinstance(named[name], ast.Constant) and named[name].value is None)  # type: ignore[attr-defined]
    blocking = named.get("blocking", named.get("block", call.args[0] if call.args and place else None))
    if isinstance(blocking, ast.Constant) and blocking.value is False:
        return True
    found = call.args[place : place + 1]
    return bool(found) and not (isinstance(found[0], ast.Constant) and found[0].value is None)


def waits(call: ast.Call) -> bool:
    """Whether a call may wait, and nothing in it says how long."""
    name, method = dotted(call.func), call.func.attr if isinstance(call.func, ast.Attribute) else ""
    named = {keyword.arg for keyword in call.keywords}
    if name in BY_NAME:
        return "timeout" not in named
    if name in ("fcntl.flock", "fcntl.lockf"):
        return "LOCK_NB" not in ast.dump(call) and "LOCK_UN" not in ast.dump(call)
    if name == "select.select":
        return len(call.args) < 4
    if name in ("os.waitpid", "os.wait4"):
        return "WNOHANG" not in ast.dump(call)
    if name in ("os.wait", "input"):
        return True
    if method in NO_LIMIT:
        return "timeout" not in named and "MSG_DONTWAIT" not in ast.dump(call)
    if method == "get" and (call.args or named - {"timeout", "block"}):
        return False  # of a mapping
    if method == "join" and call.args:
        return False  # of a text, or with a limit
    if method == "put" and (len(call.args) != 1 or name.startswith("ray.")):
        return False  # of a report; of Ray's store
    if name == "capture.get":
        return False  # what rich wrote
    if method == "wait_for" and name.startswith("asyncio."):
        return False
    return method in LIMIT_FIRST and not given(call, LIMIT_FIRST[method])


def unexplained(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of the waits in a module that have neither a limit nor a reason."""
    tree, lines = ast.parse(text), text.splitlines()
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not waits(call):
            continue
        around = [one for one in statements if one.lineno <= call.lineno <= (one.end_lineno or 0)]
        start = max(one.lineno for one in around)
        above = start - 1
        while above and lines[above - 1].lstrip().startswith("#"):
            above -= 1
        if not MARK.search("\n".join(lines[above : call.end_lineno])):
            yield call.lineno, ast.unparse(call)


@pytest.mark.parametrize("file", PYTHON, ids=lambda file: str(file.relative_to(ROOT)))
def test_waits_in_python_have_a_limit_or_a_reason(file: Path) -> None:
    found = [f"{file.relative_to(ROOT)}:{line}: {text}" for line, text in unexplained(file.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("file", C, ids=lambda file: str(file.relative_to(ROOT)))
def test_waits_in_c_have_a_limit_or_a_reason(file: Path) -> None:
    lines = file.read_text().splitlines()
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for number, line in enumerate(lines, 1)
        if IN_C.search(re.sub(r'"[^"]*"|/\*.*?\*/|//.*', "", line))
        and not MARK.search("\n".join(lines[max(0, number - 3) : number]))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "event.wait()",
        "event.wait(None)",
        "event.wait(timeout=None)",
        "lock.acquire()",
        "lock.acquire(True)",
        "thread.join()",
        "queue.get()",
        "queue.put(1)",
        "future.result()",
        "changed.wait_for(lambda: done)",
        "process.communicate()",
        "pipe.recv()",
        "subprocess.run(['true'], check=True)",
        "fcntl.flock(file, fcntl.LOCK_EX)",
        "select.select([one], [], [])",
        "os.waitpid(pid, 0)",
        "socket.create_connection(address)",
        "# something else\nevent.wait()",
        "event.wait()  # no limit: x",
    ],
)
def test_a_wait_without_a_limit_is_found(text: str) -> None:
    assert len([*unexplained(text)]) == 1


@pytest.mark.parametrize(
    "text",
    [
        "event.wait(1)",
        "event.wait(timeout=limit)",
        "lock.acquire(timeout=1)",
        "lock.acquire(blocking=False)",
        "lock.acquire(False)",
        "thread.join(3)",
        "', '.join(names)",
        "table.get(key)",
        "queue.get(timeout=1)",
        "changed.wait_for(lambda: done, 1)",
        "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "select.select([one], [], [], 1)",
        "os.waitpid(pid, os.WNOHANG)",
        "subprocess.run(['true'], timeout=3)",
        "event.wait()  # no limit: the thread ends with its last block",
        "# no limit: whoever closes it sets this event\nevent.wait()",
    ],
)
def test_a_wait_with_a_limit_or_a_reason_is_let_through(text: str) -> None:
    assert not [*unexplained(text)]
