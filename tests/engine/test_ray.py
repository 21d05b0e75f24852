"""`--ray`: copies of the model on the nodes of a cluster change no answer, and a node that dies loses none.

The heavy tests start a cluster of two nodes on this machine; .ci/run installs Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qwen_eval import extras, ray_runs
from qwen_eval.engines import ray_cluster
from qwen_eval.engines.ray_cluster import AUTO, Node, Places, places
from qwen_eval.errors import UserError

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 300  # seconds
SECOND = "127.0.0.2"  # the address of the node that is killed; the run itself belongs to the first one


# -- where copies go, and what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "wanted", "gpus", "found"),
    [
        ([Node(64, 8), Node(64, 8)], AUTO, 1, Places(16, 0, 1)),
        ([Node(64, 8), Node(64, 8)], AUTO, 8, Places(2, 0, 8)),
        ([Node(64, 8), Node(64, 6), Node(16, 0)], AUTO, 4, Places(3, 0, 4)),
        ([Node(64, 8)], 3, 2, Places(3, 0, 2)),
        ([Node(16, 0), Node(16, 0)], AUTO, 0, Places(2, 16, 0)),
        ([Node(16, 0), Node(4, 0)], AUTO, 0, Places(2, 8, 0, 2)),
        ([Node(3, 0), Node(1, 0)], 2, 0, Places(2, 1, 0, 2)),
        ([Node(0, 0), Node(8, 0)], AUTO, 0, Places(1, 8, 0)),
    ],
)
def test_copies_go_where_there_is_room(nodes: list[Node], wanted: Any, gpus: int, found: Places) -> None:
    assert places(nodes, wanted, gpus) == found


@pytest.mark.parametrize(
    ("nodes", "wanted", "gpus", "said"),
    [
        ([Node(64, 4), Node(64, 4)], 1, 8, "takes 8 of one node's GPUs, and the nodes have 4, 4: room for 0"),
        ([Node(64, 4), Node(64, 4)], 9, 1, "room for 8"),
        ([Node(64, 4)], AUTO, 8, "room for 0"),
        ([Node(1, 0), Node(1, 0)], 3, 0, "takes a core, and the nodes have 1, 1"),
    ],
)
def test_more_copies_than_fit_are_one_line(nodes: list[Node], wanted: Any, gpus: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        places(nodes, wanted, gpus)


def refused(script: Any, out: Path, said: str, *flags: object) -> None:
    ended = script("mmlu", "-c", "demo", "-o", out, *flags)
    assert (ended.status, ended.err.count("\n")) == (2, 1) and said in ended.err, ended.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--ray", AUTO, "--engine", "openai", "--base-url", "http://x/v1"), "several --base-url share the work"),
        (("--ray", AUTO, "--device-map", "auto"), "give one of them"),
        (("--ray", AUTO, "--device", "cuda:1"), "--device cuda:1 is one device"),
    ],
)
def test_flags_that_make_no_sense_with_it(script, tmp_path: Path, monkeypatch, flags: Any, said: str) -> None:
    monkeypatch.setattr(ray_runs, "need", lambda extra: None)
    refused(script, tmp_path / "out", said, *flags)


def test_without_ray_it_says_how_to_get_it(script, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "ray" else object())
    refused(script, tmp_path / "out", "ray is not installed; pip install 'qwen-eval[cluster]'", "--ray", AUTO)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("10.0.0.1", "give HOST:PORT of the cluster's head"),
        ("ray://10.0.0.1:10001", "run this on a node of the cluster"),
        ("127.0.0.1:1", "nothing answers there"),
    ],
)
def test_an_address_where_no_cluster_is_ends_at_once(address: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        ray_cluster._check_reachable(address)


# -- two nodes ---------------------------------------------------------------------------------------------------------


def ray(*words: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", *words], check=True, capture_output=True, timeout=LIMIT
    )


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes with a core each."""
    pytest.importorskip("ray", reason="Ray comes with the cluster extra; .ci/run installs it")
    node = ("--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats")
    port = 20000 + os.getpid() % 10000
    try:
        ray("start", "--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false", *node)
        ray("start", f"--address=127.0.0.1:{port}", f"--node-ip-address={SECOND}", *node)
        yield f"127.0.0.1:{port}"
    finally:
        ray("stop", "--force")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Questions for half a minute, in which both nodes load the model: the demo's, each in a few ways."""
    rows = [json.loads(line) for line in (ROOT / "demo/data/gsm8k/test.jsonl").read_text(encoding="utf-8").splitlines()]
    found = [{**row, "question": f"{row['question']} ({number})"} for number in range(16) for row in rows]
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    return tmp_path / "gsm8k"


def command(data: Path, out: Path, *flags: str) -> list[str]:
    given = ["-c", "demo-chat", "-d", str(data), "-b", "1", "-o", str(out), *flags]
    return [sys.executable, str(ROOT / "eval/evaluate_gsm8k.py"), *given]


def lines(out: Path) -> dict[str, Any]:
    found = (out / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return {line["id"]: (line["response"], line["correct"]) for line in map(json.loads, found)}


def answers(out: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((out / "results.json").read_text(encoding="utf-8"))["manifest"]["answers"]
    return found


def kill_the_second_node() -> None:
    for folder in Path("/proc").glob("[0-9]*"):
        words = (folder / "cmdline").read_bytes() if (folder / "cmdline").exists() else b""
        if b"raylet/raylet" in words and f"node_ip_address={SECOND}".encode() in words:
            os.kill(int(folder.name), signal.SIGKILL)


@pytest.mark.heavy
@pytest.mark.timeout(2 * LIMIT)
def test_two_nodes_share_the_work_and_one_that_dies_changes_nothing(cluster: str, data: Path, tmp_path: Path) -> None:
    alone, both, one_dies = (tmp_path / name for name in ("alone", "both", "one_dies"))
    done = subprocess.run(command(data, alone), capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(command(data, both, "--ray", cluster), capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert lines(both) == lines(alone) and (both / "table.csv").read_bytes() == (alone / "table.csv").read_bytes()
    assert len(answers(both)) == 2 and min(answers(both).values()) > 0, "both had work"
    assert sum(answers(both).values()) == len(lines(alone))

    run = subprocess.Popen(command(data, one_dies, "--ray", cluster), stderr=subprocess.PIPE, text=True)
    samples, until = one_dies / "samples.jsonl", time.monotonic() + LIMIT
    while not samples.exists() or samples.read_bytes().count(b"\n") < 10:
        assert run.poll() is None and time.monotonic() < until, "it has begun"
        time.sleep(0.05)
    kill_the_second_node()
    _, err = run.communicate(timeout=LIMIT)
    assert run.returncode == 0, err
    assert "lost copy" in err and SECOND in err and "the other takes over its requests" in err
    assert lines(one_dies) == lines(alone)
    assert (one_dies / "table.csv").read_bytes() == (alone / "table.csv").read_bytes()

    left = command(data, tmp_path / "left", "--ray", cluster, "--data-parallel", "2")
    refused = subprocess.run(left, capture_output=True, text=True, timeout=LIMIT)
    assert refused.returncode == 2 and "takes a core, and the nodes have 1" in refused.stderr, "one node is left"
