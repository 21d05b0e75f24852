"""How the zygote is started at each level: which paths it may see, and bubblewrap's command line."""

import importlib.util
import os
import shutil
import site
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
LIBRARY_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
FOREIGN = ("site-packages", "dist-packages")  # other packages: that of a benchmark holds its answers
PACKAGES = ("numpy", "numpy.libs")  # the one package that solutions commonly use
INSIDE = "/sandbox"

# PYTHONHASHSEED: the order of a set of strings must not change a score from one run to the next.
ENVIRONMENT = {"LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

HOME = "/tmp"  # inside: the folder that the zygote may write; every guest mounts its own over it
FILES = f"{INSIDE}/files"
FONTS = ("/usr/share/fonts", "/usr/local/share/fonts")


class KernelSetup(NamedTuple):
    """What a sandbox of Jupyter kernels has beyond one of candidates: every installed package, fonts, input files.

    warm: modules that the zygote imports, so that a kernel starts with them; files: all that any kernel may be given.
    """

    warm: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    def file(self, path: Path) -> str:
        """Where a file of `files` lies inside."""
        return f"{FILES}/{self.files.index(path)}"


def environment(kernels: KernelSetup | None, home: str) -> dict[str, str]:
    """The zygote's environment variables. home: the folder that it may write (matplotlib needs one)."""
    if kernels is None:
        return ENVIRONMENT
    return {**ENVIRONMENT, "HOME": home, "MPLCONFIGDIR": f"{home}/matplotlib", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


def installed() -> list[Path]:
    """The folders that third-party packages are installed in."""
    return sorted({Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")})


def installed_inside() -> list[str]:
    """Where those folders lie in a sandbox of kernels. At their own paths a guest's scratch folder could cover them."""
    return [f"{INSIDE}/installed/{number}" for number in range(len(installed()))]


def interpreter() -> str:
    """The real Python binary, not the virtual environment's link to it."""
    return os.path.realpath(sys.executable)


def standard_library() -> list[Path]:
    """The folders of the standard library: the modules, and the compiled ones if they lie elsewhere."""
    spec = importlib.util.find_spec("_ctypes")
    folders = {Path(os.__file__).resolve().parent}
    if (
        spec is not None
        and spec.origin is not None
        and (compiled := Path(spec.origin).resolve().parent).name == "lib-dynload"
    ):
        folders.add(compiled.parent)
    return sorted(folders)


def shared_libraries() -> list[Path]:
    """The interpreter's own shared libraries (libpython; with conda all that its modules load)."""
    return sorted((Path(sys.base_prefix) / "lib").glob("*.so*"))


def packages() -> dict[str, Path]:
    """The third-party packages that a candidate may import, as far as they are installed: name -> folder."""
    found = {}
    for folder in (Path(path) for path in [*site.getsitepackages(), *sys.path] if path):
        for name in PACKAGES:
            if name not in found and (folder / name).is_dir():
                found[name] = (folder / name).resolve()
    return found


def readable() -> list[str]:
    """For Landlock, which knows only what is allowed: everything Python needs, path by path, and no other package."""
    paths = [Path("/etc/ld.so.cache"), Path("/usr/share/zoneinfo"), *shared_libraries(), *packages().values()]
    for folder in sorted({Path(name).resolve() for name in LIBRARY_FOLDERS if os.path.isdir(name)}):
        paths += [child for child in folder.iterdir() if not child.name.startswith("python")]
    for folder in standard_library():
        paths += [child for child in folder.iterdir() if child.name not in FOREIGN]
    return sorted({str(path) for path in paths})


def command(descriptor: int, plan: str) -> list[str]:
    """The zygote. `-s -S`: no site-packages; the environment is ours, so no `-I`, which would drop the hash seed."""
    return [interpreter(), "-s", "-S", "-B", "-m", "guest", str(descriptor), plan]


def bubblewrap(inner: list[str], kernels: KernelSetup | None = None) -> list[str]:
    """bubblewrap's command line: new namespaces of every kind, a root with nothing but Python in it, all read-only.

    The zygote keeps CAP_SYS_ADMIN *inside its own user namespace*: it gives each candidate namespaces of its own. The
    guests give up every capability. No --die-with-parent, which would go by the thread that started it: the zygote
    ends when its control socket closes, and everything else ends with the zygote.
    """
    spaces = [
        "--unshare-user",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
    ]
    identity = [
        "--uid",
        "1000",
        "--gid",
        "1000",
        "--hostname",
        "sandbox",
        "--new-session",
        "--cap-add",
        "CAP_SYS_ADMIN",
    ]
    return [
        "bwrap", *spaces, *identity, *_library_mounts(), *_python_mounts(),
        "--proc", "/proc", "--tmpfs" if kernels else "--dir", HOME, "--dir", "/dev", *_devices(),
        "--ro-bind", str(HERE / "guest"), f"{INSIDE}/guest",
        *(_kernel_mounts(kernels) if kernels else _package_mounts()),
        "--chdir", INSIDE, "--remount-ro", "/", *inner,
    ]  # fmt: skip


def _bind(paths: Iterable[Path]) -> list[str]:
    return [word for path in paths for word in ("--ro-bind-try", str(path), str(path))]


def _library_mounts() -> list[str]:
    """The system's libraries as on the host, links included, with other packages covered up."""
    words: list[str] = []
    for name in LIBRARY_FOLDERS:
        if os.path.islink(name):
            words += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            words += _bind([Path(name)])
    covered = [
        path for name in LIBRARY_FOLDERS if not os.path.islink(name) for path in Path(name).glob("python*/*-packages")
    ]
    return words + _cover(covered) + _bind([Path("/etc/ld.so.cache"), Path("/usr/share/zoneinfo")])


def _python_mounts() -> list[str]:
    words: list[str] = []
    for folder in standard_library():
        words += _bind([folder]) + _cover(folder / name for name in FOREIGN if (folder / name).is_dir())
    outside = [path for path in shared_libraries() if not str(path).startswith(LIBRARY_FOLDERS)]
    return words + _bind([*outside, Path(interpreter())])


def _package_mounts() -> list[str]:
    return [word for name, path in packages().items() for word in ("--ro-bind", str(path), f"{INSIDE}/packages/{name}")]


def _kernel_mounts(kernels: KernelSetup) -> list[str]:
    """Packages, fonts as on the host, and each input file under a number."""
    folders = zip(installed(), installed_inside(), strict=True)
    words = [word for path, inside in folders for word in ("--ro-bind", str(path), inside)]
    words += [*_bind(map(Path, FONTS)), "--dir", FILES]
    return words + [word for path in kernels.files for word in ("--ro-bind", str(path.resolve()), kernels.file(path))]


def _cover(folders: Iterable[Path]) -> list[str]:
    return [word for folder in folders for word in ("--tmpfs", str(folder), "--remount-ro", str(folder))]


def _devices() -> list[str]:
    names = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
    return [word for name in names for word in ("--dev-bind-try", name, name)]


def link_packages(folder: Path) -> None:
    """A folder of links to the packages that may be imported: their own folder has others beside them."""
    for name, path in packages().items():
        (folder / name).symlink_to(path)


def bubblewrap_installed() -> bool:
    """Whether there is a `bwrap` on the PATH."""
    return shutil.which("bwrap") is not None
