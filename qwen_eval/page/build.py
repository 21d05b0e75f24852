"""The page as one text: template, style, libraries, program and data in one file.

Nothing in the data can run: it stands in script elements of a type that no browser executes, with every `<` escaped
(the items compressed, in base64); the program writes texts only as texts; and the page's Content-Security-Policy names
by hash the scripts that may run, and forbids every request.
"""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from qwen_eval.page.folders import Run
from qwen_eval.page.payload import columns, described, finite, flips, labels, pick_baselines

HERE = Path(__file__).parent
#: in this order: each uses what stands before it
PROGRAM = (
    "vendor/libraries.min.js",
    "text.js",
    "items.js",
    "figures.js",
    "charts.js",
    "detail.js",
    "list.js",
    "filters.js",
    "app.js",
)


def build(runs: Sequence[Run], baselines: Sequence[Run] = ()) -> str:
    """The page. baselines: runs, against which items are marked as gained or lost."""
    pairs = zip(runs, pick_baselines(runs, baselines), strict=True)
    compared = [None if base is None else flips(run, base) for run, base in pairs]
    named = zip(runs, labels(runs), compared, strict=True)
    about = {
        "made": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "baseline": bool(baselines),
        "runs": [described(run, label, found) for run, label, found in named],
    }
    items = [columns(run, found) for run, found in zip(runs, compared, strict=True)]
    scripts = [_source(name) for name in PROGRAM]
    style = _source("style.css")
    parts = {
        "title": _escaped(title(runs)),
        "policy": policy(scripts, style),
        "style": style,
        "about": as_data(about),
        "items": "\n".join(f'<script type="application/gzip" class="items">{packed(part)}</script>' for part in items),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    # one pass: what stands in the data is never taken for a place
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _source("template.html"))


def title(runs: Sequence[Run]) -> str:
    """Models and benchmarks, as far as they are few."""
    models, benchmarks = (
        list(dict.fromkeys(names)) for names in zip(*((r.model, r.benchmark) for r in runs), strict=True)
    )
    return f"{_few(models, 'models')}: {_few(benchmarks, 'benchmarks')}"


def _few(names: Sequence[str], what: str) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} {what}"


def as_data(value: Any) -> str:
    """JSON that stands in a script element without an end of it, or a comment, in it."""
    return json.dumps(finite(value), allow_nan=False).replace("<", "\\u003c")


def packed(value: Any) -> str:
    """JSON, gzipped, in base64. ASCII: half of a surrogate pair is an escape, which JavaScript reads back."""
    text = json.dumps(finite(value), allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("ascii"), mtime=0)).decode("ascii")


def policy(scripts: Sequence[str], style: str) -> str:
    """The Content-Security-Policy: these scripts and this style, no request, and no HTML made of texts."""
    allowed = " ".join(map(_hash, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _source(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _escaped(text: str) -> str:
    """For the title element."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("&", "&amp;").replace("<", "&lt;")
