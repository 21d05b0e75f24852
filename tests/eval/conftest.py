"""The benchmarks' data, whether the published ones are here or not."""

from collections.abc import Callable
from pathlib import Path

from tests.conftest import Shared
from tests.eval import stand_ins

import pytest

DataOf = Callable[[str], Path]


@pytest.fixture(scope="session")
def data_of(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> DataOf:
    """data_of("gsm8k"): the folder of the published data, or where it is not here, of the stand-in."""
    made: dict[str, Path] = {}

    def find(benchmark: str) -> Path:
        if real := shared.find(f"data/{benchmark}"):
            return real
        if benchmark not in made:
            made[benchmark] = stand_ins.write(benchmark, tmp_path_factory.mktemp("stand-in"))
        return made[benchmark]

    return find
