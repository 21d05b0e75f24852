"""The demo: every script on the embedded samples with the embedded checkpoint, then all figures in one table.

    make demo            or  python demo/run.py

Results go to demo/out/{benchmark}; the checkpoint is built from its seed on the first run (demo/build_checkpoint.py).
"""

import json
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
BENCHMARKS = ("mmlu", "ceval", "cmmlu")


def run_script(benchmark: str) -> dict:
    """Run one script as a user would; its results.json. Its own tables go to the screen."""
    script = HERE.parent / "eval" / f"evaluate_{benchmark}.py"
    command = [sys.executable, str(script), "-c", "demo", "-o", str(OUT / benchmark), "--overwrite"]
    print(f"\n$ python eval/{script.name} -c demo", flush=True)
    if (status := subprocess.run(command).returncode) != 0:
        sys.exit(status)
    return json.loads((OUT / benchmark / "results.json").read_text(encoding="utf-8"))


def main() -> None:
    started = time.time()
    results = [run_script(benchmark) for benchmark in BENCHMARKS]
    print("\nThe demo's figures (random weights from a seed: about 25 % is chance)\n")
    print("| benchmark | value | 95 % interval | n | reported | verdict |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    for result in results:
        score = result["scores"]["acc"]
        low, high = score["ci95"]
        beside = "-" if score["reported"] is None else score["reported"]
        print(
            f"| {result['benchmark']} | {score['value']:.2f} | {low:.1f} to {high:.1f} | {score['n']} "
            f"| {beside} | {score['verdict'] or '-'} |"
        )
    print(f"\n{time.time() - started:.0f} s; tables and every answer are in demo/out")


if __name__ == "__main__":
    main()
