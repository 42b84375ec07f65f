"""One guest under QEMU: booted, watched, and gone when its time is over."""

import concurrent.futures
import dataclasses
import os
import pathlib
import re
import secrets
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

# What the kernel says on its console when it is not to be trusted any more.
FATAL = re.compile(
    r"Kernel panic|\bBUG: |\bOops\b|general protection fault|soft lockup|hard LOCKUP|blocked for more than"
    r"|rcu_\w+ (?:self-)?detected stall|Unable to mount root"
)

# One thread for all of a guest's CPUs. With one for each, a CPU may go on running an instruction that another has patched,
# for ever; and as many guests run at once as there are CPUs here, so that more threads would only be in each other's way.
EMULATED = ("-accel", "tcg,thread=single")

# A guest that has said it is done has this long to turn itself off.
OFF_S = 20

# Set when the lab is ended: so are its guests then.
OVER = threading.Event()

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass
class Hardware:
    """What a guest's machine is."""

    kernel: pathlib.Path
    root: pathlib.Path
    payload: pathlib.Path
    smp: str = "2"
    memory_mb: int = 1024
    append: str = ""
    engines: tuple[pathlib.Path, ...] = ()
    extra: tuple[str, ...] = ()
    accel: tuple[str, ...] = EMULATED

    def command(self, plan: pathlib.Path, serial: list[str]) -> list[str]:
        """QEMU's command line. No network, no display, no monitor; no disk is changed."""
        drives = []
        engines = [(path.stem, path) for path in self.engines]
        for name, path in (("root", self.root), ("payload", self.payload), ("plan", plan), *engines):
            # NVMe and ext4 are built into the kernel, so that it needs no initial RAM disk.
            drives += ["-drive", f"file={path},if=none,id={name},format=raw,snapshot=on"]
            drives += ["-device", f"nvme,drive={name},serial={name}"]
        # A panic, an oops or a reboot ends QEMU.
        # What hardens a kernel costs an emulated one twice.
        fast = "mitigations=off init_on_alloc=0 hardened_usercopy=off randomize_kstack_offset=off audit=0"
        append = f"console=ttyS0 panic=-1 oops=panic {fast} tsc=reliable norandmaps root=/dev/nvme0n1 rw {self.append}"
        return [
            # A lab that is killed takes its guests along.
            "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", *self.accel, "-smp", self.smp, "-m", str(self.memory_mb),
            "-nic", "none", "-display", "none", "-monitor", "none", "-no-reboot",
            "-kernel", str(self.kernel), "-append", append, *drives, *self.extra, *serial,
        ]  # fmt: skip


@dataclasses.dataclass
class Boot:
    """What one boot came to."""

    verdict: str
    seconds: float
    console: str
    lines: list[tuple[str, str]]
    """The guest's own lines as (word, rest), and what its programs said as ("", line)."""


def plan_file(folder: pathlib.Path, script: str) -> pathlib.Path:
    """A script as a disk: padded, since disks are made of blocks."""
    text = script.encode() + b"\n"
    path = folder / "plan"
    path.write_bytes(text.ljust(-(-len(text) // 4096) * 4096, b"\n"))
    return path


def shell(hardware: Hardware, script: str) -> None:
    """Boots a guest with its console on this terminal."""
    with tempfile.TemporaryDirectory(prefix="plimsoll-lab-") as folder:
        serial = ["-serial", "chardev:term", "-chardev", "stdio,id=term,signal=off", "-serial", "null"]
        subprocess.run(hardware.command(plan_file(pathlib.Path(folder), script), serial), check=False)


def boot(hardware: Hardware, script: str, limit_s: float, console: pathlib.Path) -> Boot:
    """Boots a guest with a plan and waits for its end, for its death, or for the time limit."""
    # Whoever runs in the guest cannot end its lines for it: this word is in the plan only.
    nonce = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="plimsoll-lab-") as name:
        folder = pathlib.Path(name)
        results = folder / "results"
        serial = ["-serial", f"file:{console}", "-serial", f"file:{results}"]
        command = hardware.command(plan_file(folder, f"nonce={nonce}\n{script}"), serial)
        begin = time.monotonic()
        guest = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            verdict = watch(guest, f"lab {nonce} done", results, limit_s)
        finally:
            guest.kill()
            said = guest.communicate()[1].strip()
        seconds = time.monotonic() - begin
        told = results.read_text(errors="replace") if results.exists() else ""
        heard = console.read_text(errors="replace") if console.exists() else ""
    if fatal := FATAL.search(heard):
        verdict = f"the kernel said: {line_of(heard, fatal.start())}"
    elif said and verdict:
        verdict = f"{verdict}; QEMU said: {said}"
    return Boot(verdict, seconds, heard, [own_line(line, nonce) for line in told.splitlines()])


def watch(guest: subprocess.Popen, end: str, results: pathlib.Path, limit_s: float) -> str:
    """Waits; returns what went wrong, or nothing."""
    deadline = time.monotonic() + limit_s
    is_done = False
    while guest.poll() is None:
        if not is_done and results.exists() and end in results.read_text(errors="replace"):
            is_done = True
            deadline = time.monotonic() + OFF_S
        if OVER.is_set():
            return "the lab was ended"
        if time.monotonic() > deadline:
            return "it did not turn itself off" if is_done else f"it was not done after {limit_s:.0f} s"
        time.sleep(0.1)
    is_done = is_done or (results.exists() and end in results.read_text(errors="replace"))
    return "" if is_done else "it ended before it was done"


def together(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Works on as many items at once as there are CPUs, in their order; yields each with its result when it is there."""
    pool = concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    futures = {pool.submit(work, item): item for item in items}
    try:
        for done in concurrent.futures.as_completed(futures):
            yield futures[done], done.result()
    except BaseException:
        OVER.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def own_line(line: str, nonce: str) -> tuple[str, str]:
    """The guest's own line, or a program's."""
    mark = f"lab {nonce} "
    if not line.startswith(mark):
        return "", line
    word, _, rest = line.removeprefix(mark).partition(" ")
    return word, rest


def line_of(text: str, position: int) -> str:
    """The line that a position is in."""
    begin = text.rfind("\n", 0, position) + 1
    return text[begin : text.find("\n", position)].strip()
