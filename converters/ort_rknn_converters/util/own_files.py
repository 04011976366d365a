"""Opens files and folders that somebody else may have prepared, without following links and without waiting.

Three kinds of files are opened: a user's (a model, calibration data: anywhere, links allowed, but a file and no pipe,
device or folder, which would hang or never end); those this package wrote itself (caches, temporary folders: of our own
user, real, and in folders nobody else writes to); and those a user names for a secret or a report, where a pipe is good
(a shell's ``<(...)`` and ``>(...)`` are pipes), but nobody waits for its other end without a limit.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

__all__ = [
    "NoRegularFile",
    "blocks_of_open",
    "is_file",
    "is_folder",
    "is_plain_name",
    "is_there",
    "make_private",
    "not_ours",
    "open_own",
    "open_regular",
    "read_given",
    "read_own",
    "read_regular",
    "read_said",
    "write_given",
    "write_own",
]

OTHER_END_S = 30.0
"""Longest wait for the other end of a pipe, each time. A guess: whoever asks a password manager types a password."""

_BLOCK = 1 << 16

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600
_MOST_SAID = 1 << 16  # bytes; /proc/meminfo and the device tree's names have 2 kB
_MOST_LINKS = 40  # in a path: Linux follows no more
_OVERFLOW = 65534
"""Owner that Linux shows for users a container has no name for: there also for the system's own folders."""


class NoRegularFile(OSError):
    """Raised for a pipe, a device, a folder, or a name that no file can have."""


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a user's file for reading; links are followed, nothing is waited for.

    Raises:
        NoRegularFile: It is a pipe, a socket, a device or a folder, or its name holds a NUL.
        OSError: It is not there, or may not be read.
    """
    return _opened(path, os.O_RDONLY)


def read_regular(path: str | os.PathLike[str], most: int) -> bytes:
    """Read a user's file that holds text.

    Args:
        path: Where it is.
        most: Bytes such a file has at most.

    Raises:
        OSError: As :func:`open_regular`, or it is larger.
    """
    with open_regular(path) as file:
        return _content(file, path, most)


def open_own(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a file of our own: not a link, and of this user or the system's.

    Raises:
        NoRegularFile: It is something else than a file.
        OSError: It is not there, it is somebody else's, or it is a link.
    """
    file = _opened(path, os.O_RDONLY | os.O_NOFOLLOW)
    owner = os.fstat(file.fileno()).st_uid
    if owner not in (os.geteuid(), 0):
        file.close()
        raise PermissionError(errno.EPERM, f"it belongs to user {owner}", os.fspath(path))
    return file


def read_own(path: str | os.PathLike[str], most: int) -> bytes:
    """Read a file of our own that holds text; see :func:`open_own`.

    Raises:
        OSError: As :func:`open_own`, or it is larger than ``most`` bytes.
    """
    with open_own(path) as file:
        return _content(file, path, most)


def write_own(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write a new file that only this user can read.

    Raises:
        OSError: It exists, or cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, _FILE_MODE), "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(data.encode() if isinstance(data, str) else data)


def make_private(folder: Path) -> Path:
    """Make a folder, and those above it that are missing, for this user alone; returns it.

    Raises:
        OSError: It cannot be made, or something that is no folder has its name.
    """
    try:
        folder.mkdir(_FOLDER_MODE)
        folder.chmod(_FOLDER_MODE)  # some have a umask that takes their own rights
    except FileNotFoundError:
        make_private(folder.parent)
        folder.mkdir(_FOLDER_MODE, exist_ok=True)
        folder.chmod(_FOLDER_MODE)
    except FileExistsError:
        if not folder.is_dir():
            raise
    return folder


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a name from outside is that of a file: not where no file can have it, or where nobody may look."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - Path.is_file raises for names that are too long
    except (OSError, ValueError):
        return False


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a name from outside is that of a folder; see :func:`is_file`."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116 - as above
    except (OSError, ValueError):
        return False


def is_there(path: str | os.PathLike[str]) -> bool:
    """Whether something has this name, as far as one may look: ``/sys/kernel/debug`` is root's on most systems."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises where one may not look


def read_said(path: str | os.PathLike[str]) -> str:
    """Reads what the kernel, or a board whose files are mounted here, says of itself; empty where it says nothing."""
    try:
        with open_regular(path) as file:
            return (file.read(_MOST_SAID) or b"").decode("utf-8", errors="replace")
    except OSError:
        return ""


def is_plain_name(name: object) -> bool:
    """Whether a text read from a file names a file beside it, and nothing elsewhere."""
    return isinstance(name, str) and 0 < len(name) < 256 and not {"/", "\0"} & {*name} and name not in (".", "..")


def not_ours(folder: Path) -> str:
    """Reason why others could have put files into a folder, as the rest of a sentence; empty where they cannot.

    The folder, where it exists, must belong to this user or to the system and be writable by nobody else; those above
    it may only be writable by all if they are like ``/tmp``, where everybody can remove just what is theirs. Links on
    the way must be this user's or the system's, too: whoever made one can let it lead elsewhere a moment later.
    """
    me = os.geteuid()
    path = Path(os.path.realpath(folder))
    for at in _way_to(folder):
        try:
            found = at.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            return f"{at} cannot be looked at ({error.strerror})"
        if stat.S_ISLNK(found.st_mode) and found.st_uid not in (me, 0):
            return f"{at} is a link that user {found.st_uid} made, and this is user {me}"
        if not stat.S_ISDIR(found.st_mode):
            continue  # nothing can be opened below it
        if found.st_uid not in (me, 0) and not (found.st_uid == _OVERFLOW and at != path and _has_nameless_users()):
            return f"{at} belongs to user {found.st_uid}, and this is user {me}"
        sticky = at != path and found.st_mode & stat.S_ISVTX
        if found.st_mode & _OTHERS_WRITE and not sticky and not _is_own_group(found):
            return f"others can write to {at} (its mode is {stat.S_IMODE(found.st_mode):o}; chmod go-w {at})"
    return ""


def _way_to(folder: Path) -> list[Path]:
    """Everything that is passed on the way to a folder, itself first: folders, and links with what they lead to."""
    found, at, links = [], Path("/"), 0
    todo = [*reversed(folder.absolute().parts[1:])]
    while todo:
        part = todo.pop()
        here = at.parent if part == ".." else at / part
        found.append(here)
        try:
            leads_to = here.readlink()
        except OSError:  # no link, or nothing
            at = here
            continue
        links += 1
        if links > _MOST_LINKS:
            break  # nobody can open it
        at = Path("/") if leads_to.is_absolute() else at
        todo += reversed(leads_to.parts[leads_to.is_absolute() :])
    return [*reversed(found), Path("/")]


def _opened(path: str | os.PathLike[str], flags: int) -> BufferedReader:
    try:
        # Without O_NONBLOCK, opening a pipe waits until somebody writes to it.
        handle = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
    except ValueError:
        raise NoRegularFile(errno.EINVAL, "no file can have this name", os.fspath(path).replace("\0", "\\0")) from None
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(mode):
            raise NoRegularFile(errno.EINVAL, f"it is no file but {_kind(mode)}", os.fspath(path))
        return open(handle, "rb")  # noqa: PTH123 - a descriptor
    except BaseException:
        os.close(handle)
        raise


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a disk"}
    return kinds.get(stat.S_IFMT(mode), "something else")


def _content(file: BufferedReader, path: str | os.PathLike[str], most: int) -> bytes:
    data = file.read(most + 1)
    if data is None:  # the kernel's log is a file, and has nothing to say now
        raise NoRegularFile(errno.EAGAIN, "it gives nothing", os.fspath(path))
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most:,} bytes", os.fspath(path))
    return data


def _is_own_group(found: os.stat_result) -> bool:
    """Whether a folder's group cannot bring anybody else in: many systems give each user a group of one."""
    if found.st_mode & stat.S_IWOTH:
        return False
    import grp  # only for folders that a group may write to
    import pwd

    try:
        user, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
    except KeyError:
        return False
    return user.pw_gid == found.st_gid and set(group.gr_mem) <= {user.pw_name} and group.gr_name == user.pw_name


def _has_nameless_users() -> bool:
    """Whether this process is in a container that has no name for some users of the machine."""
    try:
        return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]
    except OSError:
        return False


def blocks_of_open(fd: int, size: int = 1 << 18) -> Iterator[bytes]:
    """Yields the content of an open file, wherever its position is; raises :class:`OSError`.

    Args:
        fd: Its descriptor.
        size: Bytes read at a time.
    """
    place = 0
    while chunk := os.pread(fd, size, place):
        place += len(chunk)
        yield chunk


def read_given(path: str | os.PathLike[str], most: int) -> bytes:
    """Read a small file, or what comes through a pipe.

    Args:
        path: Where it is.
        most: Bytes it has at most.

    Raises:
        OSError: It is not there, may not be read, is too large, or nobody writes into the pipe.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except ValueError:
        raise OSError(errno.EINVAL, "no file can have this name", os.fspath(path).replace("\0", "\\0")) from None
    try:
        parts, size = [], 0
        while part := _read(handle, path):
            parts.append(part)
            size += len(part)
            if size > most:
                raise OSError(errno.EFBIG, f"it is larger than {most:,} bytes", os.fspath(path))
        return b"".join(parts)
    finally:
        os.close(handle)


def write_given(path: str | os.PathLike[str], text: str) -> None:
    """Write a file anew, or into a pipe or a device.

    Raises:
        OSError: It cannot be written, or nobody reads the pipe.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "nobody reads the pipe", os.fspath(path)) from None
        raise
    try:
        rest = memoryview(text.encode("utf-8", errors="backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(handle, rest[:_BLOCK]) :]
            except BlockingIOError:
                _wait(handle, path, writing=True)
            except OSError as error:
                raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    finally:
        os.close(handle)


def _read(handle: int, path: str | os.PathLike[str]) -> bytes:
    while True:
        if stat.S_ISFIFO(os.fstat(handle).st_mode):  # where nobody has opened the other end yet, it looks as ended
            _wait(handle, path)
        try:
            return os.read(handle, _BLOCK)
        except BlockingIOError:
            _wait(handle, path)


def _wait(handle: int, path: str | os.PathLike[str], *, writing: bool = False) -> None:
    import select  # files are no pipes

    poll = select.poll()
    poll.register(handle, select.POLLOUT if writing else select.POLLIN)
    if not poll.poll(OTHER_END_S * 1000):
        raise OSError(errno.ETIMEDOUT, f"nothing came through the pipe for {OTHER_END_S:g} s", os.fspath(path))
