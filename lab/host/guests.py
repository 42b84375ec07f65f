"""The guests: one file each in lab/guests."""

import dataclasses
import pathlib
import tomllib


@dataclasses.dataclass
class Run:
    """Test programs with one container runtime under one cgroup driver."""

    tests: list[str]
    """Programs of tests/; one that is followed by words runs those of its tests that have one of them in their names,
    also those that are ignored on other machines."""
    runtime: str = "runc"
    driver: str = "cgroupfs"
    engine: str = ""
    """The suite whose container engines and runtimes the tests take (`make engines` has them), where they are of engines."""
    skip: list[str] = dataclasses.field(default_factory=list)

    def lines(self) -> list[str]:
        """The plan's lines."""
        skip = " ".join(f"--skip {name}" for name in self.skip)
        lines = []
        for test in self.tests:
            program, _, word = test.partition(" ")
            lines.append(f"run {self.runtime} {self.driver} {self.engine or '-'} {program} {word and f'--include-ignored {word}'} {skip}")
        return lines


@dataclasses.dataclass
class Guest:
    """What a file says."""

    name: str
    about: str
    cgroup: str
    """v1, v2 or hybrid, as the lab mounts it; systemd where that is PID 1."""
    limit_s: int
    run: list[Run]
    suite: str = "bookworm"
    packages: list[str] = dataclasses.field(default_factory=list)
    append: str = ""
    smp: str = "2"
    memory_mb: int = 1024
    qemu: list[str] = dataclasses.field(default_factory=list)
    modules: list[str] = dataclasses.field(default_factory=list)
    """Kernel modules in the order they are loaded in, with parameters after colons: the kernel's own, or lab/vendor's."""
    starts: int = 20
    """How many container starts stand for SPECIFICATION.md's thousand: the machine is an emulated one."""
    each_s: int = 300
    """The time limit of one test program."""
    pending: str = ""
    """Why a whole run leaves it out: what is not yet right with it."""

    def only(self, test: str) -> "Guest":
        """The same guest with one of its test programs."""
        kept = [dataclasses.replace(run, tests=[name for name in run.tests if test in name]) for run in self.run]
        return dataclasses.replace(self, run=[run for run in kept if run.tests])

    @property
    def engines(self) -> list[str]:
        """The suites whose engines it needs, in the order of their disks."""
        return sorted({run.engine for run in self.run if run.engine})

    def script(self, interactive: bool) -> str:
        """The guest's plan."""
        lines = [
            f"cgroup={self.cgroup} starts={self.starts} each_s={self.each_s}",
            f"interactive={'yes' if interactive else 'no'}",
            f"modules='{' '.join(self.modules)}'",
            f"engines='{' '.join(self.engines)}'",
            "runs() {",
        ]
        for run in self.run:
            lines += run.lines()
        return "\n".join([*lines, ":", "}"])


def load(folder: pathlib.Path) -> dict[str, Guest]:
    """All guests, by name, in their files' order."""
    guests = {}
    for file in sorted(folder.glob("*.toml")):
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        runs = [Run(**run) for run in table.pop("run")]
        name = file.stem.partition("-")[2]
        guests[name] = Guest(name=name, run=runs, **table)
    return guests
