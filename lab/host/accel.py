"""How guests are run: by the processor where that really works, else emulated."""

import dataclasses
import os
import pathlib

from . import machine

TCG = ("-accel", "tcg")
KVM = ("-accel", "kvm", "-cpu", "host")

# A guest that does nothing takes two seconds with KVM. Where /dev/kvm is there and not fit for it, there is no error:
# the guest crawls, or dies somewhere on its way.
PROBE_S = 10


def choose(hardware: machine.Hardware, cache: pathlib.Path) -> tuple[str, ...]:
    """Boots a guest with KVM, once for each boot of this machine, and believes only its last word."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return TCG
    booted = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    memory = cache / "kvm"
    known = memory.read_text().split() if memory.exists() else []
    if len(known) != 2 or known[0] != booted:
        trial = dataclasses.replace(hardware, accel=KVM, append=f"init=/sbin/lab-init {hardware.append}")
        script = "cgroup=v2 starts=0 each_s=1 interactive=no modules=''\nruns() { :; }"
        boot = machine.boot(trial, script, PROBE_S, cache / "kvm.console")
        works = "no" if boot.verdict else "yes"
        memory.write_text(f"{booted} {works}\n")
        known = [booted, works]
    return KVM if known[1] == "yes" else TCG
