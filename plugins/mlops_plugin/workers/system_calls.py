"""System calls that a confined process may not make, by processor; `confinement` turns them into a filter.

Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux.
"""

from __future__ import annotations

from typing import NamedTuple


class Processor(NamedTuple):
    """How the kernel knows a processor, and the numbers of its system calls."""

    audit_arch: int
    clone: int
    fcntl: int
    ioctl: int
    kill: int
    mmap: int
    prlimit64: int
    tgkill: int
    denied: frozenset[int]


CLONE3 = 435
# The same on every processor: io_uring (it would make other calls unseen), signals to and views into other
# processes, mounts, changed permissions.
_DENIED_EVERYWHERE = frozenset((424, 425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 438, 440, 442, 452))

_X86_64 = {
    "new processes": (57, 58),  # fork, vfork
    "new programs": (59, 322),  # execve, execveat
    # socket, connect, accept, bind, listen, socketpair, accept4
    "sockets": (41, 42, 43, 49, 50, 53, 288),
    # ptrace, rt_sigqueueinfo, tkill, rt_tgsigqueueinfo, process_vm_readv, process_vm_writev, kcmp
    "other processes": (101, 129, 200, 297, 310, 311, 312),
    # setpriority, sched_setparam, sched_setscheduler, migrate_pages, move_pages
    "other processes' time": (141, 142, 144, 256, 279),
    # shmget, shmat, shmctl, semget, semop, semctl, msgget, msgsnd, msgrcv, msgctl, mq_open
    "shared memory": (29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 240),
    # chmod, fchmod, chown, fchown, lchown, utime, setxattr (3), removexattr (3), utimes, fchownat, futimesat,
    # fchmodat, utimensat, truncate: Landlock leaves them alone
    "attributes of files": (
        90,
        91,
        92,
        93,
        94,
        132,
        188,
        189,
        190,
        197,
        198,
        199,
        235,
        260,
        261,
        268,
        280,
        76,
    ),
    # modify_ldt, pivot_root, chroot, acct, mount, umount2, swapon, reboot, iopl, ioperm, init_module,
    # delete_module, quotactl, kexec_load, add_key, request_key, keyctl, unshare, perf_event_open,
    # fanotify_init, name_to_handle_at, open_by_handle_at, setns, finit_module, bpf, userfaultfd, personality
    "the system": (
        *(154, 155, 161, 163, 165, 166, 167, 169, 172, 173, 175, 176, 179, 246, 248, 249, 250, 272, 298, 300),
        *(303, 304, 308, 313, 321, 323, 135),
    ),
}
_AARCH64 = {
    "new programs": (221, 281),
    "sockets": (198, 199, 200, 201, 202, 203, 242),
    "other processes": (117, 130, 138, 240, 270, 271, 272),
    "other processes' time": (118, 119, 140, 238, 239),
    "shared memory": (180, 186, 187, 188, 189, 190, 191, 192, 193, 194, 195, 196),
    "attributes of files": (5, 6, 7, 14, 15, 16, 45, 52, 53, 54, 55, 88),
    "the system": (
        *(
            39,
            40,
            41,
            51,
            60,
            89,
            92,
            97,
            104,
            105,
            106,
            142,
            217,
            218,
            219,
            224,
            241,
            262,
            264,
            265,
            268,
            273,
        ),
        *(280, 282),
    ),
}


def _all(groups: dict[str, tuple[int, ...]]) -> frozenset[int]:
    return _DENIED_EVERYWHERE | {number for group in groups.values() for number in group}


PROCESSORS = {
    "x86_64": Processor(
        audit_arch=0xC000003E,
        clone=56,
        fcntl=72,
        ioctl=16,
        kill=62,
        mmap=9,
        prlimit64=302,
        tgkill=234,
        denied=_all(_X86_64),
    ),
    "aarch64": Processor(
        audit_arch=0xC00000B7,
        clone=220,
        fcntl=25,
        ioctl=29,
        kill=129,
        mmap=222,
        prlimit64=261,
        tgkill=131,
        denied=_all(_AARCH64),
    ),
}
