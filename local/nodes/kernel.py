"""What the kernel does for a node's processes and the standard library has no name for."""

import ctypes
import os
import struct

MS_RDONLY = 1
MS_REMOUNT = 32
MS_BIND = 4096
_MOUNT_SETATTR = 442  # the same number on every architecture
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_ATTR_RDONLY = 1

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Attach a file system, or with MS_BIND a part of one, or change how one is attached; raises OSError."""
    done = _libc.mount(
        source.encode(), target.encode(), kind.encode() or None, flags, options.encode() or None
    )
    if done != 0:
        _raise(target)


def make_read_only(path: str) -> None:
    """Make a mount and all that is mounted below it read-only, for this mount namespace; raises OSError."""
    attributes = struct.pack("QQQQ", _ATTR_RDONLY, 0, 0, 0)
    done = _libc.syscall(
        ctypes.c_long(_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(path.encode()),
        ctypes.c_uint(_AT_RECURSIVE),
        ctypes.c_char_p(attributes),
        ctypes.c_size_t(len(attributes)),
    )
    if done != 0:
        _raise(path)


def set_host_name(name: str) -> None:
    """Give this UTS namespace a host name; raises OSError."""
    if _libc.sethostname(name.encode(), len(name.encode())) != 0:
        _raise(name)


def _raise(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), what)
