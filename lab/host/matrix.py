"""docs/matrix.md, from what the guests told and from nothing else."""

import json
import pathlib

HEAD = """\
# What was run where

Made by `make lab` from its results; not written by hand. Each row is one guest with one container runtime: a real
kernel under QEMU, with the shipped static binaries and the tests of `tests/` inside it.

| guest | kernel | hierarchies | driver | runtime | engine | test programs | result |
|---|---|---|---|---|---|---|---|
"""


def rows(name: str, told: dict) -> list[str]:
    """A guest's rows."""
    facts = told["facts"]
    lines = []
    for cell in told["cells"]:
        result = f"{cell['passed']} passed"
        if cell["failed"]:
            result += f", **{cell['failed']} failed**"
        if told["verdict"]:
            result += f"; **{told['verdict']}**"
        driver = cell["driver"] + (f" (systemd {facts['systemd']})" if "systemd" in facts else "")
        programs = ", ".join(f"`{program}`" for program in cell["programs"])
        cells = [name, facts.get("kernel", "?"), hierarchies(told), driver, cell["runtime"], cell["engine"], programs, result]
        lines.append("| " + " | ".join(cells) + " |")
    return lines or [f"| {name} | ? | {hierarchies(told)} | – | – | – | – | **{told['verdict'] or 'nothing ran'}** |"]


def hierarchies(told: dict) -> str:
    """What a guest has; systemd takes v2."""
    return "v2" if told["cgroup"] == "systemd" else told["cgroup"]


def burst(facts: dict[str, str]) -> str:
    """What the kernel does to a burst when the limit is written."""
    if "burst" not in facts:
        return ""
    kept = "stands" if facts["burst"] == "50000" else f"is {facts['burst']}"
    return f" (A burst of 50000 {kept} after a write of `cpu.max`.)"


def write(results: pathlib.Path, names: list[str], file: pathlib.Path) -> None:
    """Writes the page."""
    told = {name: json.loads((results / f"{name}.json").read_text()) for name in names}
    lines = [line for name in names for line in rows(name, told[name])]
    abouts = [f"- **{name}**: {told[name]['about']}.{burst(told[name]['facts'])}" for name in names]
    file.parent.mkdir(exist_ok=True)
    file.write_text(HEAD + "\n".join([*lines, "", "The guests:", "", *abouts]) + "\n")
