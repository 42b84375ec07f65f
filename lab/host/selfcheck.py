"""What the lab says about guests that come to a bad end: a pass would be worth nothing if these passed."""

import pathlib

from . import machine

# What a guest does in place of its tests, how long it has, and what has to be said of it.
ENDS = {
    "a kernel that panics": ("echo c >/proc/sysrq-trigger; sleep 600", 60, "the kernel said: "),
    "a guest that hangs": ("sleep 600", 20, "it was not done after 20 s"),
    "a guest that ends early": ("echo o >/proc/sysrq-trigger; sleep 600", 60, "it ended before it was done"),
    "a test that says it is the end": (
        "echo 'lab 0123456789abcdef0123456789abcdef done' >/dev/ttyS1; sleep 1; echo o >/proc/sysrq-trigger; sleep 600",
        60,
        "it ended before it was done",
    ),
}


def check(hardware: machine.Hardware, folder: pathlib.Path) -> list[str]:
    """Boots a guest to each of these ends; returns what was said wrongly."""

    def end(what: str) -> str:
        script, limit_s, _ = ENDS[what]
        plan = f"cgroup=v2 starts=0 each_s=1 interactive=no modules='' engines=''\nruns() {{ {script}; }}"
        console = folder / f"{what.replace(' ', '-')}.console"
        return machine.boot(hardware, plan, limit_s, console).verdict

    wrong = []
    for what, verdict in machine.together(end, ENDS):
        if not verdict.startswith(ENDS[what][2]):
            wrong.append(f"{what}: {verdict or 'a pass'}")
        print(f"  {what:<32} {verdict or 'A PASS'}", flush=True)
    return wrong
