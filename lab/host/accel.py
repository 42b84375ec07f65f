"""How guests are run: by the processor where that really works, else emulated."""

import dataclasses
import os
import pathlib

from . import machine

KVM = ("-accel", "kvm", "-cpu", "host")

# A guest that does nothing takes two seconds with KVM. Where /dev/kvm is there and not fit for it, there is no error:
# the guest crawls, or dies somewhere on its way.
PROBE_S = 10


def choose(made: dict[str, machine.Hardware], cache: pathlib.Path) -> None:
    """Has all these machines run so. Where there is a /dev/kvm, one is booted with it, once for each boot of this
    machine, and believed only for its last word."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return
    booted = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    memory = cache / "kvm"
    known = memory.read_text().split() if memory.exists() else []
    if len(known) != 2 or known[0] != booted:
        hardware = next(iter(made.values()))
        trial = dataclasses.replace(hardware, accel=KVM, append=f"init=/sbin/lab-init {hardware.append}")
        script = "cgroup=v2 starts=0 each_s=1 interactive=no modules='' engines=''\nruns() { :; }"
        boot = machine.boot(trial, script, PROBE_S, cache / "kvm.console")
        works = "no" if boot.verdict else "yes"
        memory.write_text(f"{booted} {works}\n")
        known = [booted, works]
    if known[1] == "yes":
        for hardware in made.values():
            hardware.accel = KVM
