"""System calls that a confined process may not make, by processor; `confinement` turns them into a filter.

Numbers: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Processor(NamedTuple):
    """How the kernel knows a processor, and the numbers of its system calls by name."""

    audit_arch: int
    clone: int
    close: int
    dup: int
    dup2: int | None
    dup3: int
    fcntl: int
    flock: int
    ioctl: int
    kill: int
    mmap: int
    prlimit64: int
    sched_setaffinity: int
    setrlimit: int
    tgkill: int
    denied: Mapping[str, int]


CLONE3 = 435
CLOSE_RANGE = 436
# The same on every processor: io_uring (it would make other calls unseen), signals to and views into other
# processes, mounts, changed attributes of files, memory that no limit counts.

_DENIED_EVERYWHERE = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "memfd_secret": 447,
    "process_mrelease": 448,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_setattr": 469,
}

_X86_64 = {
    "new processes": {"fork": 57, "vfork": 58},
    "new programs": {"execve": 59, "execveat": 322, "uselib": 134},
    "sockets": {
        "socket": 41,
        "socketpair": 53,
        "connect": 42,
        "bind": 49,
        "listen": 50,
        "accept": 43,
        "accept4": 288,
        "getsockopt": 55,  # a handle of the caller, who has the other end
        "setsockopt": 54,
    },
    "other processes": {
        "ptrace": 101,
        "tkill": 200,
        "rt_sigqueueinfo": 129,
        "rt_tgsigqueueinfo": 297,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "kcmp": 312,
        "seccomp": 317,  # a filter of its own could put other files in the place of open ones
    },
    "other processes' time": {
        "setpriority": 141,
        "sched_setparam": 142,
        "sched_setscheduler": 144,
        "sched_setattr": 314,
        "ioprio_set": 251,
        "migrate_pages": 256,
        "move_pages": 279,
    },
    "memory that no limit counts": {
        "mremap": 25,  # of the stack; the C library copies instead
        "shmget": 29,
        "shmat": 30,
        "shmctl": 31,
        "semget": 64,
        "semop": 65,
        "semtimedop": 220,
        "semctl": 66,
        "msgget": 68,
        "msgsnd": 69,
        "msgrcv": 70,
        "msgctl": 71,
        "mq_open": 240,
        "mq_unlink": 241,
        "memfd_create": 319,  # of huge pages, which need no size
        "vmsplice": 278,
    },
    "attributes of files": {
        "chmod": 90,
        "fchmod": 91,
        "fchmodat": 268,
        "chown": 92,
        "fchown": 93,
        "lchown": 94,
        "fchownat": 260,
        "utime": 132,
        "utimes": 235,
        "futimesat": 261,
        "utimensat": 280,
        "truncate": 76,
        "setxattr": 188,
        "lsetxattr": 189,
        "fsetxattr": 190,
        "removexattr": 197,
        "lremovexattr": 198,
        "fremovexattr": 199,
        "getxattr": 191,
        "lgetxattr": 192,
        "listxattr": 194,
        "llistxattr": 195,
    },
    "what happens in folders": {"inotify_init": 253, "inotify_init1": 294, "inotify_add_watch": 254},
    "the system": {
        "mount": 165,
        "umount2": 166,
        "pivot_root": 155,
        "chroot": 161,
        "quotactl": 179,
        "acct": 163,
        "personality": 135,
        "unshare": 272,
        "setns": 308,
        "kexec_load": 246,
        "kexec_file_load": 320,
        "init_module": 175,
        "finit_module": 313,
        "delete_module": 176,
        "reboot": 169,
        "swapon": 167,
        "swapoff": 168,
        "add_key": 248,
        "request_key": 249,
        "keyctl": 250,
        "perf_event_open": 298,
        "bpf": 321,
        "userfaultfd": 323,
        "fanotify_init": 300,
        "name_to_handle_at": 303,
        "open_by_handle_at": 304,
        "lookup_dcookie": 212,
        "syslog": 103,
        "vhangup": 153,
        "sethostname": 170,
        "setdomainname": 171,
        "settimeofday": 164,
        "clock_settime": 227,
        "adjtimex": 159,
        "clock_adjtime": 305,
        "modify_ldt": 154,
        "iopl": 172,
        "ioperm": 173,
    },
}

_AARCH64 = {
    "new programs": {"execve": 221, "execveat": 281},
    "sockets": {
        "socket": 198,
        "socketpair": 199,
        "connect": 203,
        "bind": 200,
        "listen": 201,
        "accept": 202,
        "accept4": 242,
        "getsockopt": 209,
        "setsockopt": 208,
    },
    "other processes": {
        "ptrace": 117,
        "tkill": 130,
        "rt_sigqueueinfo": 138,
        "rt_tgsigqueueinfo": 240,
        "process_vm_readv": 270,
        "process_vm_writev": 271,
        "kcmp": 272,
        "seccomp": 277,  # a filter of its own could put other files in the place of open ones
    },
    "other processes' time": {
        "setpriority": 140,
        "sched_setparam": 118,
        "sched_setscheduler": 119,
        "sched_setattr": 274,
        "ioprio_set": 30,
        "migrate_pages": 238,
        "move_pages": 239,
    },
    "memory that no limit counts": {
        "mremap": 216,  # of the stack; the C library copies instead
        "shmget": 194,
        "shmat": 196,
        "shmctl": 195,
        "semget": 190,
        "semop": 193,
        "semtimedop": 192,
        "semctl": 191,
        "msgget": 186,
        "msgsnd": 189,
        "msgrcv": 188,
        "msgctl": 187,
        "mq_open": 180,
        "mq_unlink": 181,
        "memfd_create": 279,  # of huge pages, which need no size
        "vmsplice": 75,
    },
    "attributes of files": {
        "fchmod": 52,
        "fchmodat": 53,
        "fchown": 55,
        "fchownat": 54,
        "utimensat": 88,
        "truncate": 45,
        "setxattr": 5,
        "lsetxattr": 6,
        "fsetxattr": 7,
        "removexattr": 14,
        "lremovexattr": 15,
        "fremovexattr": 16,
        "getxattr": 8,
        "lgetxattr": 9,
        "listxattr": 11,
        "llistxattr": 12,
    },
    "what happens in folders": {"inotify_init1": 26, "inotify_add_watch": 27},
    "the system": {
        "mount": 40,
        "umount2": 39,
        "pivot_root": 41,
        "chroot": 51,
        "quotactl": 60,
        "acct": 89,
        "personality": 92,
        "unshare": 97,
        "setns": 268,
        "kexec_load": 104,
        "kexec_file_load": 294,
        "init_module": 105,
        "finit_module": 273,
        "delete_module": 106,
        "reboot": 142,
        "swapon": 224,
        "swapoff": 225,
        "add_key": 217,
        "request_key": 218,
        "keyctl": 219,
        "perf_event_open": 241,
        "bpf": 280,
        "userfaultfd": 282,
        "fanotify_init": 262,
        "name_to_handle_at": 264,
        "open_by_handle_at": 265,
        "lookup_dcookie": 18,
        "syslog": 116,
        "vhangup": 58,
        "sethostname": 161,
        "setdomainname": 162,
        "settimeofday": 170,
        "clock_settime": 112,
        "adjtimex": 171,
        "clock_adjtime": 266,
    },
}


def _all(groups: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    return _DENIED_EVERYWHERE | {name: number for group in groups.values() for name, number in group.items()}


PROCESSORS = {
    "x86_64": Processor(
        audit_arch=0xC000003E,
        clone=56,
        close=3,
        dup=32,
        dup2=33,
        dup3=292,
        fcntl=72,
        flock=73,
        ioctl=16,
        kill=62,
        mmap=9,
        prlimit64=302,
        sched_setaffinity=203,
        setrlimit=160,
        tgkill=234,
        denied=_all(_X86_64),
    ),
    "aarch64": Processor(
        audit_arch=0xC00000B7,
        clone=220,
        close=57,
        dup=23,
        dup2=None,
        dup3=24,
        fcntl=25,
        flock=32,
        ioctl=29,
        kill=129,
        mmap=222,
        prlimit64=261,
        sched_setaffinity=122,
        setrlimit=164,
        tgkill=131,
        denied=_all(_AARCH64),
    ),
}
