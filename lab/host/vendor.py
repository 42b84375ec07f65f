"""The kernel module of lab/vendor, built for the guests' kernel."""

import pathlib
import shutil

from . import debian


def build(source: pathlib.Path, suite: debian.Suite, image: str) -> pathlib.Path:
    """The module for a kernel package; built anew where its source is newer."""
    headers = image.replace("linux-image-", "linux-headers-")
    common = suite.depends(headers, "linux-headers-")
    unpacked = suite.unpacked(headers, common, suite.depends(headers, "linux-kbuild-"))
    folder = suite.cache / "vendor"
    module = folder / "plimsoll_vendor.ko"
    text = (source / "plimsoll_vendor.c").read_bytes()
    known = folder / "plimsoll_vendor.c"
    if not module.exists() or known.read_bytes() != text or not (folder / image).exists():
        debian.need("make", "gcc")
        with debian.fresh(folder) as new:
            for name in ("plimsoll_vendor.c", "Makefile"):
                shutil.copy(source / name, new)
            # The package names its other half by the place where it would be installed.
            tree = unpacked / "usr/src" / headers
            (tree / "Makefile").write_text(f"include {unpacked}/usr/src/{common}/Makefile\n")
            debian.call("make", "-C", tree, f"M={new}", "modules")
            (new / image).touch()
    return module
