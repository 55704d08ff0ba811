"""Makes everything that is measured: compiles the programs of micro/, brings Debian's programs for the guest and for
this machine, writes the inputs, and packs the guest's initramfs.

What takes time lies in the cache folder: packages and the newest QEMU in trees/ (scripts/lib/debian-tree), compiled
programs and inputs in bench/. All is made again when what it comes from changes; delete the folder at any time.
"""

import concurrent.futures
import contextlib
import fcntl
import hashlib
import os
import re
import shlex
import stat
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LIB = os.path.join(HERE, "..", "scripts", "lib")
sys.path.insert(0, LIB)

import initramfs
import inputs

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "stag")
SUITE = "trixie"                # where the programs come from
QEMU_SUITES = ("sid", "forky")  # where the newest QEMU may be

FLAGS = ["-O2", "-fno-tree-vectorize", "-static", "-Wall"]
GUEST = "riscv64-linux-gnu-"
# The guest's processor has fused multiply-add, so the native one gets it too: else the results differ.
NATIVE_FLAGS = ["-march=x86-64-v3"]

ONCE_PROGRAMS, ONCE_FUNCTIONS, ONCE_LENGTH = 3, 6000, 60
# The first pass translates; the last one is measured beside it. The one between lets an emulator whose
# translations depend on the state of the floating-point unit (printing a time turns it on) translate again.
ONCE_PASSES = 3

# What every Debian program finds in its environment, besides where its libraries are.
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1",
               "PERL_HASH_SEED": "0", "PERL_PERTURB_KEYS": "0"}


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def digest(*parts):
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


def read(path):
    with open(path, "rb") as file:
        return file.read()


@contextlib.contextmanager
def alone():
    """Keeps other runs of the bench out of the cache folder."""
    folder = os.path.join(CACHE, "bench")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# --- programs of our own ---------------------------------------------------------------------------------------

class Compiler:
    """Compiles into the cache folder, under names that carry a digest of all that went in."""

    def __init__(self):
        self.folder = os.path.join(CACHE, "bench", "programs")
        os.makedirs(self.folder, exist_ok=True)
        micro = os.path.join(HERE, "micro")
        headers = [read(os.path.join(micro, name)) for name in sorted(os.listdir(micro)) if name.endswith(".h")]
        self.common = digest(headers, run(GUEST + "gcc", "--version"), run("gcc", "--version"))

    def compile(self, name, prefix, sources, flags, libraries):
        tool = prefix + ("g++" if any(source.endswith(".cc") for source in sources) else "gcc")
        command = [tool, *FLAGS, *([] if prefix else NATIVE_FLAGS), *flags]
        kind = "guest" if prefix else "native"
        start = f"{kind}-{name}-"
        recipe_of_it = digest(self.common, command, libraries, *map(read, sources))
        path = os.path.join(self.folder, start + recipe_of_it)
        if not os.path.exists(path):
            run(*command, "-o", path + ".new", *sources, *libraries)
            # Those of a day ago may go; younger ones may be those of another working copy.
            for old in os.listdir(self.folder):
                old_path = os.path.join(self.folder, old)
                if re.fullmatch(re.escape(start) + "[0-9a-f]{16}", old) and \
                        time.time() - os.stat(old_path).st_mtime > 86400:
                    os.remove(old_path)
            os.rename(path + ".new", path)
        return path


def compile_all(workloads):
    """Returns the paths of the compiled programs: {"guest": {name: path}, "native": {...}}, and the run-once ones."""
    compiler = Compiler()
    jobs = []
    for workload in workloads:
        if workload.source:
            for kind, prefix in (("guest", GUEST), ("native", "")):
                jobs.append((kind, workload.name, prefix, [os.path.join(HERE, "micro", workload.source)],
                             [f"-D{define}" for define in workload.defines], workload.libraries))
    for kind, prefix in (("guest", GUEST), ("native", "")):
        jobs.append((kind, "timed", prefix, [os.path.join(HERE, "timed.c")], [], ()))
    for seed in range(ONCE_PROGRAMS):
        assembly = os.path.join(compiler.folder, f"once{seed}.S")
        source = run(sys.executable, os.path.join(HERE, "micro", "once.py"), str(seed), str(ONCE_FUNCTIONS))
        if not os.path.exists(assembly) or read(assembly) != source.encode():
            with open(assembly, "w") as out:
                out.write(source)
        jobs.append(("guest", f"once{seed}", GUEST, [os.path.join(HERE, "micro", "once.c"), assembly], [], ()))
    paths = {"guest": {}, "native": {}}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for job, path in zip(jobs, pool.map(lambda job: compiler.compile(*job[1:]), jobs)):
            paths[job[0]][job[1]] = path
    return paths


# --- Debian's programs -----------------------------------------------------------------------------------------

def debian_tree(suite, architecture, name, packages):
    """A folder with the packages unpacked, or None and the reason."""
    result = subprocess.run([os.path.join(LIB, "debian-tree"), suite, architecture, name, *packages],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in result.stderr.splitlines():
        if line.startswith("==>"):
            print(line, file=sys.stderr)
    if result.returncode:
        return None, result.stderr.strip().splitlines()[-1]
    return result.stdout.strip(), ""


def loader(root):
    """The start of a command that runs an amd64 program of a tree with the tree's own C library."""
    libraries = os.path.join(root, "usr/lib/x86_64-linux-gnu")
    return [os.path.join(root, "usr/lib64/ld-linux-x86-64.so.2"), "--library-path", libraries]


class Trees:
    """Debian's programs for the guest and for this machine, the same versions."""

    def __init__(self, workloads):
        packages = sorted({workload.package for workload in workloads if workload.package})
        self.guest, why = debian_tree(SUITE, "riscv64", "guest", packages)
        self.native, why_native = debian_tree(SUITE, "amd64", "native", packages)
        if not self.guest or not self.native:
            raise SystemExit(f"bench: Debian's programs could not be brought here: {why or why_native}")
        self.guest, self.native = os.path.join(self.guest, "root"), os.path.join(self.native, "root")
        for tree in (self.guest, self.native):
            self.compile_python(tree)

    def compile_python(self, tree):
        """An installation would have compiled Python's library; byte code is the same for all processors."""
        library = os.path.join(tree, "usr/lib/python3.13")
        if os.path.isdir(library) and not os.path.exists(os.path.join(library, "__pycache__/os.cpython-313.pyc")):
            run(*self.native_command("usr/bin/python3.13"), "-m", "compileall", "-q", "--invalidation-mode",
                "unchecked-hash", library, env=self.native_environment())

    def native_command(self, path):
        return [*loader(self.native), os.path.join(self.native, path)]

    def native_environment(self):
        return {**ENVIRONMENT, "PYTHONHOME": os.path.join(self.native, "usr"),
                "PERL5LIB": os.path.join(self.native, "usr/lib/x86_64-linux-gnu/perl-base"),
                "OPENSSL_ia32cap": "0:0"}       # the guest's processor has no instructions for SHA either


def newest_qemu():
    """The path of a script that runs the newest QEMU that Debian has, or None and the reason it is not there."""
    for suite in QEMU_SUITES:
        tree, why = debian_tree(suite, "amd64", f"qemu-{suite}", ["qemu-system-riscv"])
        if not tree:
            continue
        root = os.path.join(tree, "root")
        path = os.path.join(tree, "qemu-system-riscv64")
        modules = os.path.join(root, "usr/lib/x86_64-linux-gnu/qemu")
        command = [*loader(root), os.path.join(root, "usr/bin/qemu-system-riscv64"),
                   "-L", os.path.join(root, "usr/share/qemu")]
        with open(path + ".new", "w") as out:
            out.write(f"#!/bin/sh\nQEMU_MODULE_DIR={shlex.quote(modules)} exec {shlex.join(command)} \"$@\"\n")
        os.chmod(path + ".new", 0o755)
        os.rename(path + ".new", path)
        if subprocess.run([path, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
            return path, ""
        why = f"QEMU of Debian {suite} does not start on this machine"
    return None, why


def recipe():
    """A digest of everything that decides what the workloads do: times are comparable where it is the same."""
    folders = [HERE, os.path.join(HERE, "micro"), os.path.join(HERE, "programs")]
    names = ("workloads.py", "inputs.py", "timed.c")
    return digest(*(read(os.path.join(folder, name)) for folder in folders for name in sorted(os.listdir(folder))
                    if folder != HERE or name in names))


# --- the guest -------------------------------------------------------------------------------------------------

def input_folder():
    folder = os.path.join(CACHE, "bench", "inputs")
    recipe = digest(read(inputs.__file__), *(read(os.path.join(HERE, "programs", name))
                                             for name in sorted(os.listdir(os.path.join(HERE, "programs")))))
    mark = os.path.join(folder, ".recipe")
    if not os.path.exists(mark) or read(mark) != recipe.encode():
        inputs.write_all(folder)
        with open(mark, "w") as out:
            out.write(recipe)
    return folder


def add_libraries(archive, root):
    """Adds the libraries and run-time files of a tree: /usr/lib without what no program here opens."""
    skip = ("gconv", "systemd", "gcc", "gcc-cross", "engines-3", "coreutils", "test", "terminfo", "libexec")
    archive.symlink("/lib", "usr/lib")
    for folder, folders, files in os.walk(os.path.join(root, "usr/lib")):
        folders[:] = sorted(name for name in folders if name not in skip)
        for name in [*folders, *sorted(files)]:
            path = os.path.join(folder, name)
            inside = "/" + os.path.relpath(path, root)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                archive.symlink(inside, os.readlink(path))
            elif stat.S_ISREG(mode):
                archive.add(inside, path)


def guest_commands(workloads):
    """The lines of a shell script that run the workloads in the guest."""
    lines = []
    for workload in workloads:
        if workload.source:
            lines.append(f"/bench/bin/{workload.name}")
        else:
            program = "/bench/bin/" + os.path.basename(workload.path)
            lines.append(shlex.join(["/bench/bin/timed", workload.name, program, *workload.arguments.split()]))
    return lines


def guest_initramfs(path, base, workloads, programs, trees):
    """Writes an initramfs: the base system, the programs, and /etc/autorun that runs everything and powers off."""
    archive = initramfs.Archive()
    used_inputs = input_folder()
    debian = [workload for workload in workloads if workload.package]
    script = ["#!/bin/sh", "cd /bench/input"]
    script += [f"export {name}={value}" for name, value in {**ENVIRONMENT, "PYTHONHOME": "/usr"}.items()]
    script += [f"/bench/bin/once{i} {ONCE_PASSES}" for i in range(ONCE_PROGRAMS)]
    script += guest_commands(workloads)
    # The host looks at the emulator's memory in that second.
    script.append("echo BENCH DONE; sleep 1; poweroff -f")
    for name, program in programs["guest"].items():
        archive.add(f"/bench/bin/{name}", program)
    if debian:
        add_libraries(archive, trees.guest)
        for program in sorted({workload.path for workload in debian}):
            archive.add("/bench/bin/" + os.path.basename(program), os.path.join(trees.guest, program))
    for name in sorted(os.listdir(used_inputs)):
        if not name.startswith("."):
            archive.add("/bench/input/" + name, os.path.join(used_inputs, name))
    archive.file("/etc/autorun", "\n".join(script).encode() + b"\n", 0o755)
    with open(base, "rb") as source, open(path, "wb") as out:
        data = source.read()
        out.write(data + b"\0" * (-len(data) % 4) + archive.raw())


def start_native(workload, programs, trees):
    """Starts a workload on this machine, on one processor, as the guest has one hart."""
    processor = max(os.sched_getaffinity(0))
    return subprocess.Popen(**native_command(workload, programs, trees), cwd=input_folder(),
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            preexec_fn=lambda: os.sched_setaffinity(0, {processor}))


def native_command(workload, programs, trees):
    """A workload's command, and its environment, as Popen takes them. Our programs learn their name from argv[0]."""
    if workload.source:
        return {"args": [workload.name], "executable": programs["native"][workload.name]}
    command = [programs["native"]["timed"], workload.name,
               *trees.native_command(workload.native_path or workload.path), *workload.arguments.split()]
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
    return {"args": command, "env": {**trees.native_environment(), "TMPDIR": folder}}
