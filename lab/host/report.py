"""What the guests told: for the terminal, and as docs/matrix.md."""

import dataclasses
import json
import pathlib
import re

from .guests import Guest
from .machine import Boot

# The longest line worth printing.
WIDEST = 2000

# The engines of a suite that tests in guests use.
ENGINES = ("containerd", "podman")

TEST = re.compile(r"^test (\S+).* \.\.\. (ok|FAILED|ignored)")


@dataclasses.dataclass
class Ran:
    """One test program in one guest."""

    runtime: str
    driver: str
    engine: str
    program: str
    status: str = "cut off"
    seconds: str = "?"
    said: list[str] = dataclasses.field(default_factory=list)

    def counted(self, word: str) -> int:
        """How many tests came to this end."""
        ends = [found.group(2) for line in self.said if (found := TEST.match(line))]
        return ends.count(word)

    @property
    def is_good(self) -> bool:
        """Whether it came to its end, ran something, and nothing failed."""
        return self.status == "0" and self.counted("ok") > 0 and self.counted("FAILED") == 0


@dataclasses.dataclass
class Result:
    """One guest."""

    guest: Guest
    boot: Boot
    facts: dict[str, str]
    ran: list[Ran]

    @property
    def is_good(self) -> bool:
        """Whether the guest lived to its end and all its programs passed, all that were planned."""
        planned = sum(len(run.tests) for run in self.guest.run)
        good = [run for run in self.ran if run.is_good]
        return not self.boot.verdict and len(good) == len(self.ran) == planned and "failure" not in self.facts


def read(guest: Guest, boot: Boot) -> Result:
    """Sorts a guest's lines."""
    facts: dict[str, str] = {}
    ran: list[Ran] = []
    for word, rest in boot.lines:
        if word == "fact":
            name, _, value = rest.partition(" ")
            facts[name] = value
        elif word == "begin":
            runtime, driver, engine, program, *words = rest.split()
            named = " ".join([program, *(word for word in words if "::" in word)])
            ran.append(Ran(runtime, driver, engine.strip("-"), named))
        elif word == "end":
            ran[-1].status, ran[-1].seconds = rest.split()
        elif word == "" and ran:
            ran[-1].said.append(rest)
    return Result(guest, boot, facts, ran)


def version(facts: dict[str, str], engine: str, program: str) -> str:
    """A program's name and version, of the guest itself or of the suite that an engine is from."""
    return f"{program} {facts.get(f'{engine}/{program}' if engine else program, '?')}"


def show(result: Result, console: pathlib.Path) -> None:
    """Prints a guest's result, with all that is to be known where something went wrong."""
    for run in result.ran:
        end = "" if run.is_good else f"  exit status {run.status}: NOT GOOD"
        name = f"{version(result.facts, run.engine, run.runtime)} {run.driver}"
        counts = f"{run.counted('ok'):>4} passed {run.counted('FAILED'):>3} failed {run.seconds:>4} s"
        print(f"  {name:<24}{run.program:<16}{counts}{end}")
    for run in result.ran:
        if not run.is_good:
            said = (line if len(line) <= WIDEST else f"{line[:WIDEST]} …" for line in run.said)
            print(f"\n---- {result.guest.name}: {run.program} with {run.runtime}", *said, sep="\n")
    if result.boot.verdict:
        print(f"\n---- {result.guest.name}: {result.boot.verdict}; the end of its console ({console}):")
        print(*result.boot.console.splitlines()[-60:], sep="\n")
    if "failure" in result.facts:
        print(f"\n---- {result.guest.name}: failed: {result.facts['failure']}")
    passed = sum(run.counted("ok") for run in result.ran)
    ignored = sum(run.counted("ignored") for run in result.ran)
    # A program that was cut off, or a guest that died, is a failure by itself.
    failed = sum(max(run.counted("FAILED"), 0 if run.is_good else 1) for run in result.ran)
    failed = failed or (0 if result.is_good else 1)
    closing(passed, failed, ignored, result.boot.seconds)


def closing(passed: int, failed: int, ignored: int, seconds: float | None) -> bool:
    """Prints the line that ends every test program; whether nothing failed."""
    word = "FAILED" if failed else "ok"
    time = "" if seconds is None else f"; finished in {seconds:.2f}s"
    print(
        f"test result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 filtered out{time}\n",
        flush=True,
    )
    return not failed


def keep(result: Result, folder: pathlib.Path) -> None:
    """Writes a guest's result down for the matrix."""
    cells: dict[tuple[str, str, str], dict] = {}
    for run in result.ran:
        key = (version(result.facts, run.engine, run.runtime), run.driver, run.engine)
        cell = cells.setdefault(key, {"passed": 0, "failed": 0, "programs": []})
        cell["passed"] += run.counted("ok")
        cell["failed"] += max(run.counted("FAILED"), 0 if run.is_good else 1)
        cell["programs"].append(run.program)
    text = {
        "about": result.guest.about,
        "cgroup": result.guest.cgroup,
        "verdict": result.boot.verdict,
        "facts": result.facts,
        "seconds": round(result.boot.seconds),
        "cells": [
            {
                "runtime": runtime,
                "driver": driver,
                "engine": ", ".join(version(result.facts, engine, name) for name in ENGINES) if engine else "–",
                **cell,
            }
            for (runtime, driver, engine), cell in cells.items()
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{result.guest.name}.json").write_text(json.dumps(text, indent=1))
