"""System calls that no solution needs: doors to other processes, to the kernel, and to memory that nobody counts."""

import ctypes
import errno
import os
import struct

from seal_ray.sandbox.inside import calls

DENIED = {
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "pidfd_getfd": 438,
    "memfd_create": 319, "memfd_secret": 447, "shmget": 29, "shmat": 30, "shmctl": 31, "msgget": 68, "semget": 64,
    "mq_open": 240, "socket": 41, "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155,
    "chroot": 161, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "mount_setattr": 442, "keyctl": 250, "add_key": 248, "request_key": 249, "bpf": 321, "perf_event_open": 298,
    "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "name_to_handle_at": 303, "open_by_handle_at": 304, "kexec_load": 246, "kexec_file_load": 320, "init_module": 175,
    "finit_module": 313, "delete_module": 176, "swapon": 167, "swapoff": 168, "reboot": 169, "acct": 163,
    "quotactl": 179, "personality": 135, "vmsplice": 278, "settimeofday": 164, "clock_settime": 227,
    "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "modify_ldt": 154, "syslog": 103,
    "fanotify_init": 300, "lookup_dcookie": 212, "uselib": 134,
    # a process may do these to any other of its user, and so to the one that watches it
    "setpriority": 141, "ioprio_set": 251, "sched_setparam": 142, "sched_setscheduler": 144, "sched_setattr": 314,
    "sched_setaffinity": 203, "migrate_pages": 256, "move_pages": 279, "process_madvise": 440, "process_mrelease": 448,
}  # fmt: skip
CLONE, CLONE3, PRLIMIT64 = 56, 435, 302
ARCHITECTURE = 0xC000003E  # x86-64
OTHER_NUMBERS = 0x40000000  # of the x32 interface
KILL, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCH, FIRST_ARGUMENT = 0, 4, 16  # where they stand in what the filter is shown
PR_SET_SECCOMP, FILTER = 22, 2


def program() -> bytes:
    """The filter, as the kernel takes it."""
    denied = [(RETURN, 0, 0, ERRNO | errno.EPERM)]
    steps = [(LOAD, 0, 0, ARCH), (EQUAL, 1, 0, ARCHITECTURE), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    steps += [(AT_LEAST, 0, 1, OTHER_NUMBERS), *denied]
    for number in DENIED.values():
        steps += [(EQUAL, 0, 1, number), *denied]
    # the C library tries clone3 first, whose flags no filter can read, and takes clone where there is none
    steps += [(EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    # limits: a process's own, which the C library calls 0, and of no other
    steps += [(EQUAL, 0, 3, PRLIMIT64), (LOAD, 0, 0, FIRST_ARGUMENT), (EQUAL, 1, 0, 0), *denied]
    steps += [
        (LOAD, 0, 0, NUMBER),
        (EQUAL, 0, 3, CLONE),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (ANY_BIT, 0, 1, calls.CLONE_NEWUSER),
        *denied,
    ]
    steps.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def install() -> None:
    """For this process and whatever it starts. It can't be taken back."""
    filter_ = program()
    buffer = ctypes.create_string_buffer(filter_, len(filter_))
    # struct sock_fprog: the number of steps, and where they are
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(filter_) // 8, ctypes.addressof(buffer)), 16)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, FILTER, ctypes.byref(header), 0, 0) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")
