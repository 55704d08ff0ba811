"""The one table of what is measured: every class with the factor that Stag must be faster than QEMU, and every
workload with its class and how to run it.

A workload is either a program of ours below micro/, compiled for the guest and for this machine, or one of Debian's
programs on inputs that inputs.py writes. Sizes are such that Stag takes about a second: long enough that starting up
does not decide, short enough to run them all several times.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Class:
    """A class of workloads; must is the factor over the faster QEMU that the class's geomean has to reach."""
    name: str
    title: str
    must: float


@dataclass(frozen=True)
class Workload:
    """One program to run.

    quick       belongs to --quick's selection
    must        a factor of its own over the faster QEMU, where it has one
    source      a file below micro/; defines are its macros, libraries what it is linked with
    path        a Debian program in its package's tree, by architecture where that differs; arguments and input files
                are separated by spaces and relative to the folder of inputs
    """
    name: str
    group: str
    quick: bool = False
    must: float = None
    source: str = None
    defines: tuple = ()
    libraries: tuple = ("-lm",)
    package: str = None
    path: str = None
    native_path: str = None
    arguments: str = ""


CLASSES = [
    Class("integer", "integer, Debian's programs", 3.5),
    Class("calls", "calls and dispatch", 3.0),
    Class("memory", "memory", 1.3),
    Class("float", "floating point", 5.0),
    Class("system", "system", 2.0),
    Class("written", "code written by the guest", 5.0),
]
# What has a factor to reach and is no workload: its own measurement.
BOOT_MUST = 2.0
ONCE_MUST_NS = 100


def debian(name, package, path, arguments, **more):
    return Workload(name, "integer", package=package, path=path, arguments=arguments, **more)


def micro(group, name, source=None, *defines, **more):
    return Workload(name, group, source=source or name + ".c", defines=defines, **more)


CC1 = "usr/libexec/gcc/riscv64-linux-gnu/14/cc1"
CC1_CROSS = "usr/libexec/gcc-cross/riscv64-linux-gnu/14/cc1"

WORKLOADS = [
    debian("xz", "xz-utils", "usr/bin/xz", "-6 -T1 -k -c mixed", quick=True),
    debian("gzip", "gzip", "usr/bin/gzip", "-6 -n -k -c mixed-large", quick=True),
    debian("zstd", "zstd", "usr/bin/zstd", "-q -6 -T1 -k -c mixed-large", quick=True),
    debian("python3", "python3.13-minimal", "usr/bin/python3.13", "work.py text", quick=True, must=3.5),
    debian("perl", "perl-base", "usr/bin/perl", "work.pl text records.csv", quick=True, must=3.5),
    debian("lua", "lua5.4", "usr/bin/lua5.4", "work.lua text", quick=True, must=3.5),
    debian("sqlite3", "sqlite3", "usr/bin/sqlite3", "-batch -init work.sql :memory: .quit", quick=True, must=3.5),
    debian("cc1", "cpp-14-riscv64-linux-gnu", CC1, "-quiet -fpreprocessed -O2 -fno-ident work.c -o -",
           native_path=CC1_CROSS, quick=True, must=3.5),
    debian("awk", "mawk", "usr/bin/mawk", "-f work.awk records.csv"),
    debian("sort", "coreutils", "usr/bin/sort", "--parallel=1 -t, -k2,2 -k3,3nr records.csv records.csv records.csv"),
    debian("grep", "grep", "usr/bin/grep", "-n -i -E ([a-z])[aeiou]+\\1|th(is|at|ose).*[rs]t[aeiou]\\b text"),
    debian("openssl", "openssl", "usr/bin/openssl", "dgst -sha256 mixed-large mixed-large mixed-large"),

    micro("calls", "fib", quick=True),
    micro("calls", "qsort", quick=True),
    micro("calls", "interp-switch", quick=True),
    micro("calls", "interp-pointer"),
    micro("calls", "tree", quick=True),
    micro("calls", "exceptions", "exceptions.cc", quick=True),
    micro("calls", "virtual", "virtual.cc"),

    micro("memory", "sum"),
    micro("memory", "sieve"),
    micro("memory", "memcpy", quick=True),
    micro("memory", "random", quick=True),
    micro("memory", "stride", quick=True),
    micro("memory", "chase-64m", "chase.c", "MIB=64", "SPACE=64", quick=True),
    micro("memory", "chase-512m", "chase.c", "MIB=512", "SPACE=256"),

    micro("float", "nbody", quick=True),
    micro("float", "matmul", "matmul.c", "REAL=double", quick=True),
    micro("float", "matmul-float", "matmul.c", "REAL=float"),
    micro("float", "fft", quick=True),
    micro("float", "mandelbrot", "mandelbrot.c", "REAL=double"),
    micro("float", "mandelbrot-float", "mandelbrot.c", "REAL=float"),
    micro("float", "spectral"),
    micro("float", "libm", quick=True),

    micro("system", "fork-exec", quick=True),
    micro("system", "pipe", quick=True),
    micro("system", "page-fault", quick=True),
    micro("system", "mmap"),
    micro("system", "syscall", quick=True),
    micro("system", "signal"),
    micro("system", "thread-switch", quick=True, libraries=("-pthread",)),
    micro("system", "mutex", libraries=("-pthread",)),

    micro("written", "jit-rewrite", quick=True),
    micro("written", "jit-patch"),
    micro("written", "jit-fresh", quick=True),
    micro("written", "jit-loop", quick=True),
]
