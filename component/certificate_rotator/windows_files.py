"""The permission bits of Windows: access control lists, through advapi32 and kernel32.

A new file is open to its owner, to SYSTEM and to administrators from its first byte, whatever its folder would hand
down. A file that takes another's place takes its owner, group and list too (see ``System.set_attributes``).
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

OWNER_ONLY = "D:P(A;;FA;;;OW)(A;;FA;;;SY)(A;;FA;;;BA)"
"""In the security descriptor definition language: protected from inheritance; owner, SYSTEM, administrators: all."""

_OWNER_GROUP_DACL = 0x1 | 0x2 | 0x4
_GENERIC_WRITE = 0x40000000
_CREATE_NEW = 1
_NORMAL = 0x80
_REVISION = 1


class _SecurityAttributes(ctypes.Structure):
    """SECURITY_ATTRIBUTES of minwinbase.h."""

    _fields_ = [("length", ctypes.c_uint32), ("descriptor", ctypes.c_void_p), ("inherit", ctypes.c_int32)]


def create(path: Path, sddl: str = OWNER_ONLY) -> int:
    """Create a file that must not exist yet under the access control list ``sddl``; returns a descriptor to write to.

    Raises:
        OSError: as Windows reports it; FileExistsError if there is one.
    """
    import msvcrt  # noqa: PLC0415  # there on Windows alone

    kernel, advapi = _library("kernel32"), _library("advapi32")
    descriptor = ctypes.c_void_p()
    _checked(
        advapi.ConvertStringSecurityDescriptorToSecurityDescriptorW(
            ctypes.c_wchar_p(sddl), _REVISION, ctypes.byref(descriptor), None
        )
    )
    try:
        attributes = _SecurityAttributes(ctypes.sizeof(_SecurityAttributes), descriptor.value, 0)
        kernel.CreateFileW.restype = ctypes.c_void_p
        handle = kernel.CreateFileW(
            ctypes.c_wchar_p(str(path)), _GENERIC_WRITE, 0, ctypes.byref(attributes), _CREATE_NEW, _NORMAL, None
        )
        _checked(handle != ctypes.c_void_p(-1).value)
    finally:
        kernel.LocalFree(descriptor)
    return int(msvcrt.open_osfhandle(handle, os.O_WRONLY | os.O_BINARY))  # type: ignore[attr-defined,unused-ignore]


def security(path: Path) -> bytes:
    """Owner, group and access control list of a file, as a self-relative security descriptor."""
    advapi = _library("advapi32")
    name, needed = ctypes.c_wchar_p(str(path)), ctypes.c_uint32()
    advapi.GetFileSecurityW(name, _OWNER_GROUP_DACL, None, 0, ctypes.byref(needed))
    descriptor = ctypes.create_string_buffer(needed.value)
    _checked(advapi.GetFileSecurityW(name, _OWNER_GROUP_DACL, descriptor, needed, ctypes.byref(needed)))
    return descriptor.raw


def set_security(path: Path, descriptor: bytes) -> None:
    """Give a file the owner, group and access control list of a ``descriptor``."""
    _checked(_library("advapi32").SetFileSecurityW(ctypes.c_wchar_p(str(path)), _OWNER_GROUP_DACL, descriptor))


def _library(name: str) -> Any:
    return ctypes.WinDLL(name, use_last_error=True)  # type: ignore[attr-defined,unused-ignore]


def _checked(result: Any) -> None:
    if not result:
        raise ctypes.WinError(ctypes.get_last_error())  # type: ignore[attr-defined,unused-ignore]
