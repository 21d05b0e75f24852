"""The JavaScript libraries of the HTML report: fetch them from the npm registry, write qwen_eval/page/vendor/ anew.

    python tools/vendor_page.py         # needs node and npm; the versions are pinned here

esbuild puts what the page uses of them into one file, without a module loader, so that it can stand in the page.
"""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

VENDOR = Path(__file__).resolve().parents[1] / "qwen_eval" / "page" / "vendor"
PACKAGES = {"@observablehq/plot": "0.6.17", "@tanstack/virtual-core": "3.19.11"}
TOOLS = {"esbuild": "0.28.2"}
ENTRY = """\
export {plot, barX, dot, lineY, ruleX, ruleY, text} from "@observablehq/plot";
export {Virtualizer, observeElementRect, observeElementOffset, elementScroll} from "@tanstack/virtual-core";
"""
README = """\
# Libraries of the HTML report

`libraries.min.js` is made by `tools/vendor_page.py`, never by hand: what the page uses of these packages of the npm
registry, as one script that sets `libraries`. Their licences are in [LICENSES.txt](LICENSES.txt).

| package | version | licence | for |
| --- | --- | --- | --- |
{rows}

Observable Plot draws the charts as SVG, TanStack Virtual keeps only the visible rows of a long list in the page. The
others are parts that Plot uses.
"""
PURPOSES = {"@observablehq/plot": "charts", "@tanstack/virtual-core": "virtual rows"}


def bundle(folder: Path) -> list[str]:
    """Write libraries.min.js into `folder`; returns the packages in it, by name."""
    (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": {**PACKAGES, **TOOLS}}))
    (folder / "entry.js").write_text(ENTRY)
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True)
    flags = ["--bundle", "--minify", "--format=iife", "--global-name=libraries", "--target=es2022"]
    flags += ["--legal-comments=none", "--outfile=libraries.min.js", "--metafile=meta.json"]
    subprocess.run(["node_modules/.bin/esbuild", "entry.js", *flags], cwd=folder, check=True)
    inputs = json.loads((folder / "meta.json").read_text())["outputs"]["libraries.min.js"]["inputs"]
    used = {name.rpartition("node_modules/")[2] for name, part in inputs.items() if part["bytesInOutput"]}
    used = {name for name in used if name != "entry.js"}
    return sorted({"/".join(name.split("/")[: 2 if name.startswith("@") else 1]) for name in used})


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        rows, licences = [], []
        for name in bundle(folder):
            place = folder / "node_modules" / name
            about = json.loads((place / "package.json").read_text(encoding="utf-8"))
            rows.append(f"| {name} | {about['version']} | {about['license']} | {PURPOSES.get(name, 'charts (part)')} |")
            text = next(place.glob("LICENSE*")).read_text(encoding="utf-8").strip()
            licences.append(f"{name} {about['version']}\n\n{text}\n")
        VENDOR.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "libraries.min.js", VENDOR)
    (VENDOR / "README.md").write_text(README.format(rows="\n".join(rows)), encoding="utf-8")
    (VENDOR / "LICENSES.txt").write_text(f"\n{'-' * 72}\n\n".join(licences), encoding="utf-8")


if __name__ == "__main__":
    main()
