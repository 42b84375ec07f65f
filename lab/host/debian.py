"""Debian's packages and root file systems, from the mirror this machine's own apt uses, kept below target/lab/."""

import hashlib
import pathlib
import shutil
import subprocess
import tempfile

KEYRING = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SCRIPTS = pathlib.Path("/usr/share/debootstrap/scripts")


class Missing(Exception):
    """Something the lab needs is not on this machine; the text says what and how to get it."""


def call(*command: object, **options: object) -> str:
    """Runs a command and returns its stdout; its stderr goes into the error."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise RuntimeError(f"{' '.join(words)}: exit status {done.returncode}\n{said}")
    return done.stdout


def need(*programs: str) -> None:
    """Raises Missing unless every program is here."""
    missing = [name for name in programs if not shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")]
    if missing:
        raise Missing(f"{', '.join(missing)} not found; as root, scripts/deps lab installs what the lab needs")


def mirror() -> str:
    """The mirror of Debian's main archive in this machine's apt configuration."""
    need("apt-get", "debootstrap")
    lines = call("apt-get", "indextargets", "--format", "$(SITE)", "Origin: Debian", "Label: Debian").split()
    if not lines or not KEYRING.exists():
        raise Missing("apt has no Debian mirror or no archive keyring here; the lab's guests are made of Debian packages")
    return lines[0]


class Suite:
    """One suite of the archive, with an apt of its own: nothing of the machine's is read or changed."""

    def __init__(self, cache: pathlib.Path, name: str) -> None:
        self.cache = cache
        self.name = name
        self.home = cache / "apt" / name

    def apt(self, program: str, *words: str) -> str:
        """Runs an apt program on this suite alone."""
        options = {
            "Dir::State": self.home / "state",
            "Dir::Cache": self.home / "cache",
            "Dir::Etc::sourcelist": self.home / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::Etc::preferences": "-",
            "Dir::Etc::preferencesparts": "-",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        settings = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return call(program, "-q", *settings, *words, cwd=self.home)

    def update(self) -> None:
        """Fetches the suite's index unless it was fetched before."""
        if (self.home / "updated").exists():
            return
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        (self.home / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror()} {self.name} main\n")
        self.apt("apt-get", "update")
        (self.home / "updated").touch()

    def depends(self, package: str, prefix: str) -> str:
        """The dependency of a package whose name begins so: what a package without a version stands for."""
        self.update()
        for line in self.apt("apt-cache", "depends", package).splitlines():
            name = line.removeprefix("  Depends: ")
            if name != line and name.startswith(prefix):
                return name
        raise RuntimeError(f"{package} of {self.name} depends on nothing called {prefix}…")

    def unpacked(self, *packages: str) -> pathlib.Path:
        """A folder with the files of these packages, and of nothing they depend on."""
        folder = self.cache / "unpacked" / "+".join((self.name, *packages))
        if not folder.exists():
            self.update()
            with fresh(folder) as new:
                for package in packages:
                    try:
                        self.apt("apt-get", "download", package)
                    except RuntimeError:
                        # A mirror keeps no old versions: the next run asks what there is now.
                        (self.home / "updated").unlink()
                        raise
                    deb = next(self.home.glob(f"{package}_*.deb"))
                    call("dpkg", "-x", deb, new)
                    deb.unlink()
        return folder

    def root(self, packages: list[str], extra: pathlib.Path) -> pathlib.Path:
        """A disk image with the minimal system, these packages, and the files of a folder on top."""
        key = hashlib.sha256(" ".join(sorted(packages)).encode())
        for file in sorted(path for path in extra.rglob("*") if path.is_file()):
            key.update(str(file.relative_to(extra)).encode() + b"\0" + file.read_bytes())
        image = self.cache / "roots" / f"{self.name}-{key.hexdigest()[:12]}.img"
        if not image.exists():
            need("mke2fs")
            with fresh(image.with_suffix(".root")) as root:
                options = ["--variant=minbase", f"--keyring={KEYRING}", f"--include={','.join(packages)}"]
                # A suite that is younger than this debootstrap is made as the youngest it knows.
                script = self.name if (SCRIPTS / self.name).exists() else "sid"
                call("debootstrap", *options, self.name, root, mirror(), SCRIPTS / script)
                for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
                    shutil.rmtree(root / waste, ignore_errors=True)
                shutil.copytree(extra, root, dirs_exist_ok=True, symlinks=True)
                disk(root, image)
            shutil.rmtree(image.with_suffix(".root"))
        return image


def disk(folder: pathlib.Path, image: pathlib.Path) -> None:
    """Makes a disk image of a folder: whole, or not at all."""
    used = int(call("du", "-s", "--block-size=1M", folder).split()[0])
    new = image.with_suffix(".new")
    new.unlink(missing_ok=True)
    # The space beyond what is used costs nothing: the file is sparse.
    call("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", folder, new, f"{used * 5 // 4 + 256}M")
    new.rename(image)


def keep_only(folder: pathlib.Path, kept: set[pathlib.Path]) -> None:
    """Removes whatever else is in a folder: what an older lab made, and what one that was ended left half made."""
    for old in set(folder.iterdir()) - kept:
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink()


class fresh:
    """A new folder that gets its name only when all that was to be put into it is in it."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __enter__(self) -> pathlib.Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.new = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.path.name}.new-", dir=self.path.parent))
        self.new.chmod(0o755)
        return self.new

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            shutil.rmtree(self.path, ignore_errors=True)
            self.new.rename(self.path)
        else:
            shutil.rmtree(self.new, ignore_errors=True)
