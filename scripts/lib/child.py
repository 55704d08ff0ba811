"""What a program does for the programs it starts."""

import ctypes
import signal

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def die_with_parent():
    """In a child (preexec_fn): the kernel ends it when its parent ends, however that comes about."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
