"""What the tests here share: the emulator under test, its options, the guest's files, skipping.

Every test takes --emulator FILE. It is Stag as a rule, but Debian's qemu-system-riscv64 takes the same options
and passes the same tests, which shows that a test asks for what a machine does and not for what Stag does. The
few options that the two spell differently are translated here.
"""

import os
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77    # the exit status that meson counts as a skipped test

GUEST = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "stag", "guest")
SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts")
sys.path.insert(0, os.path.join(SCRIPTS, "lib"))


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


def guest(name):
    """The path of one of the guest's files; skips the test where scripts/lib/guest-files has not run."""
    path = os.path.join(GUEST, name)
    if not os.path.exists(path):
        skip(f"the guest's {name} is not in the cache folder; run scripts/lib/guest-files")
    return path


class Emulator:
    """The emulator under test."""

    def __init__(self, path):
        self.path = shutil.which(path)
        if not self.path:
            sys.exit(f"there is no emulator {path}")
        self.is_qemu = "qemu" in os.path.basename(path)

    def options(self, tb_size=None, accel=None):
        """Options that choose the size of the code cache in MiB and the engine (jit or interp)."""
        if self.is_qemu:
            return ["-accel", f"tcg,tb-size={tb_size}" if tb_size else "tcg"]
        return (["-tb-size", str(tb_size)] if tb_size else []) + (["-accel", accel] if accel else [])

    def linux(self, *options, initrd=None, append="", memory="512M"):
        """A command that boots Debian's kernel on OpenSBI to a shell."""
        return [self.path, "-M", "virt", "-m", memory, "-nographic", "-bios", guest("opensbi/fw_dynamic.bin"),
                "-kernel", guest("Image"), "-initrd", initrd or guest("initramfs.cpio.gz"),
                "-append", append, *options]


def cross_compiler():
    for name in ("riscv64-unknown-elf-gcc", "riscv64-linux-gnu-gcc"):
        if shutil.which(name):
            return name
    skip("there is no riscv64 cross compiler; scripts/lib/install-deps test brings one")


def assemble(source, out, *, base=0x80000000):
    """Makes an ELF that runs at `base` from assembly text."""
    with tempfile.NamedTemporaryFile("w", suffix=".S") as file:
        file.write(source)
        file.flush()
        subprocess.run([cross_compiler(), "-march=rv64imac_zicsr", "-mabi=lp64", "-mcmodel=medany", "-nostdlib",
                        "-static", "-Wl,--nmagic,--build-id=none", f"-Wl,-Ttext={base:#x}", "-o", out, file.name],
                       check=True)
    return out
