"""The second disk of every guest: the binaries that are shipped, the test programs, and what these need."""

import hashlib
import json
import os
import pathlib
import shutil
import struct
import subprocess

from . import debian


# The version that is tested, and what is asked for of it: by itself it knows no cgroups at all.
YOUKI = "0.7.0"
YOUKI_FEATURES = "v1,v2"


def with_rust(top: pathlib.Path, *words: str) -> str:
    """Runs a command that needs Rust; what it says goes to the terminal."""
    command = [str(top / "scripts/with-rust"), *words]
    done = subprocess.run(command, check=True, cwd=top, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    return done.stdout


def target(top: pathlib.Path) -> str:
    """The target of static binaries, for which cargo is told what it needs to hear."""
    triple = debian.call(top / "scripts/with-rust", top / "scripts/target").strip()
    if not triple.endswith("-musl"):
        os.environ["RUSTFLAGS"] = f"{os.environ.get('RUSTFLAGS', '')} -C target-feature=+crt-static"
    return triple


def youki(top: pathlib.Path, cache: pathlib.Path) -> pathlib.Path | None:
    """The runtime that is no Debian package, from its published crate; None, and why, where that cannot be built."""
    folder = cache / f"youki-{YOUKI}+{YOUKI_FEATURES}"
    if not folder.exists():
        # Unpublished profiles: it is to be tested with, and not waited for.
        quick = {"LTO": "off", "OPT_LEVEL": "1", "DEBUG": "0", "STRIP": "symbols", "CODEGEN_UNITS": "16"}
        os.environ.update({f"CARGO_PROFILE_RELEASE_{key}": value for key, value in quick.items()})
        try:
            with debian.fresh(folder) as new:
                place = ("--root", str(new), "--target-dir", str(new / "target"), "--target", target(top))
                with_rust(top, "cargo", "install", "--quiet", "--locked", "--version", YOUKI, "--features", YOUKI_FEATURES, *place, "youki")
                shutil.rmtree(new / "target")
        except subprocess.CalledProcessError as error:
            print(f"!! lab: SKIPPED: youki {YOUKI} is not tested, since it could not be built: {error}", flush=True)
            return None
    return folder / "bin/youki"


def test_programs(top: pathlib.Path, names: set[str]) -> dict[str, pathlib.Path]:
    """The static test programs, by name."""
    wanted = [word for name in sorted(names) for word in ("--test", name)]
    form = ("--message-format", "json-render-diagnostics")
    told = with_rust(top, "scripts/test", "--no-run", *form, *wanted)
    messages = [json.loads(line) for line in told.splitlines()]
    return {
        message["target"]["name"]: pathlib.Path(message["executable"])
        for message in messages
        if message.get("executable") and message["target"]["kind"] == ["test"]
    }


def engines(top: pathlib.Path, cache: pathlib.Path, suite: str) -> pathlib.Path:
    """A disk with a suite's container engines, made anew where scripts/engines made these anew."""
    root = top / "target/engines" / suite
    mark = root / ".made-by"
    if not mark.exists():
        raise debian.Missing(f"{root} is not there; run make engines")
    name = hashlib.sha256(mark.read_bytes()).hexdigest()[:12]
    image = cache / "engines" / f"{suite}-{name}.img"
    if not image.exists():
        image.parent.mkdir(exist_ok=True)
        for old in image.parent.glob(f"{suite}-*.img"):
            old.unlink()
        debian.disk(root, image)
    return image


def unpacked(kernel: pathlib.Path) -> bytes:
    """What is compressed in a bzImage (Documentation/arch/x86/boot.rst): an ELF file that boots without unpacking itself."""
    image = kernel.read_bytes()
    setup = (image[0x1F1] or 4) + 1
    offset, length = struct.unpack_from("<II", image, 0x248)
    begin = setup * 512 + offset
    done = subprocess.run(["lz4", "-dc"], input=image[begin : begin + length], capture_output=True, check=False)
    if not done.stdout.startswith(b"\x7fELF"):
        raise RuntimeError(f"{kernel}: no ELF file compressed by LZ4 is in it: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def build(
    top: pathlib.Path,
    cache: pathlib.Path,
    tests: set[str],
    kernel: pathlib.Path,
    modules: list[pathlib.Path],
    runtimes: list[pathlib.Path],
) -> pathlib.Path:
    """Makes the disk, with these test programs, a kernel for guests of the guests, kernel modules, and runtimes that are
    not in the guests' systems."""
    folder = cache / "payload"
    image = cache / "payload.img"
    helpers = cache / "helpers"
    with debian.fresh(folder) as new:
        for name in ("bin", "tests", "modules", "runtimes", "engine"):
            (new / name).mkdir()
        for binary in sorted((top / "target/dist").iterdir()):
            shutil.copy2(binary, new / "bin")
        for name, program in test_programs(top, tests).items():
            debian.call("strip", "-o", new / "tests" / name, program)
        (new / "vmlinux").write_bytes(unpacked(kernel))
        for module in modules:
            shutil.copy2(module, new / "modules")
        for runtime in runtimes:
            shutil.copy2(runtime, new / "runtimes")
        shutil.copytree(top / "lab/guest", new / "guest", ignore=shutil.ignore_patterns("root"))
        # No guest has a compiler: the helpers are built here, by the harness itself.
        helpers.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PLIMSOLL_TEST_HELPERS": str(helpers)}
        debian.call(new / "tests/harness", "--exact", "the_helpers_are_built_and_run", env=environment)
        shutil.copytree(helpers, new / "helpers", symlinks=True)
        debian.disk(new, image)
    return image
