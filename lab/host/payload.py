"""The second disk of every guest: the binaries that are shipped, the test programs, and what these need."""

import json
import os
import pathlib
import shutil
import subprocess

from . import debian


def cargo(top: pathlib.Path, *words: str) -> str:
    """Runs cargo; what it says goes to the terminal."""
    command = [str(top / "scripts/with-rust"), "cargo", *words]
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout


def test_programs(top: pathlib.Path, names: set[str]) -> dict[str, pathlib.Path]:
    """The static test programs, by name."""
    triple = debian.call(top / "scripts/with-rust", top / "scripts/target").strip()
    if not triple.endswith("-musl"):
        os.environ["RUSTFLAGS"] = f"{os.environ.get('RUSTFLAGS', '')} -C target-feature=+crt-static"
    # What nobody debugs in a guest takes half the time to build without what debuggers need.
    os.environ["CARGO_PROFILE_DEV_DEBUG"] = "0"
    wanted = [word for name in sorted(names) for word in ("--test", name)]
    form = ("--message-format", "json-render-diagnostics")
    told = cargo(top, "test", "--locked", "--no-run", "--target", triple, *form, *wanted)
    messages = [json.loads(line) for line in told.splitlines()]
    return {
        message["target"]["name"]: pathlib.Path(message["executable"])
        for message in messages
        if message.get("executable") and message["target"]["kind"] == ["test"]
    }


def build(top: pathlib.Path, cache: pathlib.Path, tests: set[str], modules: list[pathlib.Path]) -> pathlib.Path:
    """Makes the disk, with these test programs and kernel modules."""
    folder = cache / "payload"
    image = cache / "payload.img"
    helpers = cache / "helpers"
    with debian.fresh(folder) as new:
        for name in ("bin", "tests", "modules"):
            (new / name).mkdir()
        for binary in sorted((top / "target/dist").iterdir()):
            shutil.copy2(binary, new / "bin")
        for name, program in test_programs(top, tests).items():
            debian.call("strip", "-o", new / "tests" / name, program)
        for module in modules:
            shutil.copy2(module, new / "modules")
        shutil.copytree(top / "lab/guest", new / "guest", ignore=shutil.ignore_patterns("root"))
        # No guest has a compiler: the helpers are built here, by the harness itself.
        helpers.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PLIMSOLL_TEST_HELPERS": str(helpers)}
        debian.call(new / "tests/harness", "--exact", "the_helpers_are_built_and_run", env=environment)
        shutil.copytree(helpers, new / "helpers", symlinks=True)
        debian.disk(new, image)
    return image
