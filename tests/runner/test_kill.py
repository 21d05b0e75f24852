"""kill -9 in the middle of a run, then the same command again: nothing twice, nothing lost, the same table."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def flags(checkpoint: Path, out: Path) -> list[str]:
    found = ["-c", str(checkpoint), "-o", str(out), "-b", "1", "-d", str(ROOT / "demo" / "data" / "mmlu")]
    return [*found, "--subjects", "business_ethics,nutrition,high_school_geography"]


def start(checkpoint: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "eval" / "evaluate_mmlu.py"), *flags(checkpoint, out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_killed_and_started_again(script, demo_checkpoint: Path, tmp_path: Path) -> None:
    samples = tmp_path / "killed" / "samples.jsonl"
    kills, seen = 0, b""
    for wanted in (5, 25):  # twice, at different places
        run = start(demo_checkpoint, tmp_path / "killed")
        while run.poll() is None:  # it ends by itself, however slow the machine is
            if samples.exists() and samples.read_bytes().count(b"\n") >= wanted:
                run.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        run.communicate()
        kills += run.returncode == -signal.SIGKILL
        now = samples.read_bytes()
        assert now.startswith(seen), "what was finished stays as it was"
        seen = now[: now.rfind(b"\n") + 1]
    assert kills, "killed at least once in the middle"

    with open(samples, "ab") as stream:  # and the power went in the middle of a line
        stream.write(b'{"id": "nutrition/3", "subject": "nutr')
    for folder in ("killed", "undisturbed"):
        ended = script("mmlu", *flags(demo_checkpoint, tmp_path / folder))
        assert ended.status == 0, ended.err
    assert samples.read_bytes().startswith(seen)
    lines = [(tmp_path / name / "samples.jsonl").read_text().splitlines() for name in ("killed", "undisturbed")]
    killed, undisturbed = ([json.loads(line) for line in part] for part in lines)
    assert max(Counter(row["id"] for row in killed).values()) == 1, "none twice"
    answers = [{row["id"]: (row["prediction"], row["correct"]) for row in part} for part in (killed, undisturbed)]
    assert answers[0] == answers[1], "none lost"
    assert len(killed) == 18 + 22 + 21
    for name in ("table.md", "table.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
