"""System calls that Python has no name for. x86-64 Linux."""

import ctypes
import os

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 36, 38
PIVOT_ROOT, MOUNT_SETATTR = 155, 442  # numbers of calls
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
LAST_CAPABILITY = 63

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(name: str, result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    _checked("unshare", _libc.unshare(ctypes.c_int(flags)))


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    texts = [os.fsencode(t) if t else None for t in (source, target, kind)]
    _checked(f"mount {target}", _libc.mount(*texts, ctypes.c_ulong(flags), os.fsencode(data) if data else None))


def unmount(target: str) -> None:
    _checked(f"umount {target}", _libc.umount2(os.fsencode(target), MNT_DETACH))


def pivot_root(new: str, old: str) -> None:
    _checked("pivot_root", _libc.syscall(PIVOT_ROOT, os.fsencode(new), os.fsencode(old)))


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def restrict_mount(target: str, flags: int, *, recursive: bool) -> None:
    """Adds read-only and the like to a mount, and with `recursive` to all that is mounted below it."""
    attributes = _MountAttributes(flags, 0, 0, 0)  # MOUNT_ATTR_RDONLY and its like have the numbers of MS_RDONLY
    how = AT_RECURSIVE if recursive else 0
    result = _libc.syscall(
        MOUNT_SETATTR, AT_FDCWD, os.fsencode(target), how, ctypes.byref(attributes), ctypes.sizeof(attributes)
    )
    _checked(f"mount_setattr {target}", result)


def prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _checked(f"prctl {option}", _libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero))


def drop_capabilities() -> None:
    """None may come back: neither from the bounding set nor with a program that is started."""
    for capability in range(LAST_CAPABILITY + 1):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:  # the kernel knows no more of them, or this process may not
            break
    prctl(PR_SET_NO_NEW_PRIVS, 1)
