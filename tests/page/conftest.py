"""Runs to make a page of, and what a page has in it."""

import base64
import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

ODD = "</script><script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">\u202e\u2028 end"


class Page:
    """A page as text, with its data unpacked."""

    def __init__(self, path: Path) -> None:
        self.path, self.text = path, path.read_text(encoding="utf-8")
        (about,) = re.findall(r'<script type="application/json" id="about">(.*?)</script>', self.text, re.S)
        self.about: dict[str, Any] = json.loads(about)
        packed = re.findall(r'<script type="application/gzip" class="items">(.*?)</script>', self.text, re.S)
        self.items = [json.loads(gzip.decompress(base64.b64decode(part))) for part in packed]

    def prompts(self, run: int) -> list[str]:
        """The whole prompts of a run's items, shared beginnings put back."""
        columns, found = self.items[run], []
        for at, own in columns["prompt"]:
            while at >= 0:
                at, part = columns["beginnings"][at]
                own = part + own
            found.append(own)
        return found


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").split("\n") if line]


def write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    """Other items, all of which the figures are of."""
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    results["items"] = {"whole": len(lines), "answered": len(lines)}
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")


@pytest.fixture
def runs(script, tmp_path, made_runs) -> Path:
    """Runs of the demo, of this test's own: MMLU base and chat, GSM8K with an odd reply, perplexities."""
    top = made_runs / "results"
    if not top.exists():
        make_runs(script, top)
    return Path(shutil.copytree(top, tmp_path / "results"))


@pytest.fixture(scope="session")
def made_runs(tmp_path_factory) -> Path:
    """Where the runs are made once."""
    return tmp_path_factory.mktemp("page")


def make_runs(script, top: Path) -> None:
    for name, *flags in (
        ("mmlu", "-c", "demo", "--limit", "6"),
        ("mmlu-chat", "-c", "demo-chat", "--limit", "3"),
        ("gsm8k", "-c", "demo-chat", "--limit", "8"),
        ("ppl", "-c", "demo", "--lengths", "256,512", "--limit", "2"),
    ):
        assert script(name.removesuffix("-chat"), *flags, "-o", top / name).status == 0
    lines = lines_of(top / "gsm8k")
    lines[0]["response"] = ODD
    lines[1]["response"] = "half a pair \ud800, then " + "x" * 100_000
    write_lines(top / "gsm8k", lines)


@pytest.fixture
def make_page(script, tmp_path):
    """Make the page of some folders; returns it, or how report.py ended where that fails."""

    def make(*words):
        path = tmp_path / "report.html"
        ended = script("report", *words, "-o", path)
        return Page(path) if ended.status == 0 else ended

    return make
