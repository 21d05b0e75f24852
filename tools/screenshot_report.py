"""Make docs/report.png, the picture of the report page in the README: figures and charts of two runs of the demo.

make .venv/.browser-ready && .venv/bin/python tools/screenshot_report.py
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNS = {"mmlu": ["-c", "demo"], "gsm8k-chat": ["-c", "demo-chat"]}
SIZE = {"width": 1280, "height": 1240}


def make_page(folder: Path) -> Path:
    """The report of the runs."""
    for name, flags in RUNS.items():
        script = ROOT / "eval" / f"evaluate_{name.removesuffix('-chat')}.py"
        subprocess.run([sys.executable, script, *flags, "-o", folder / name], check=True)
    page = folder / "report.html"
    subprocess.run(
        [sys.executable, ROOT / "eval/report.py", folder / "mmlu", folder / "gsm8k-chat", "-o", page], check=True
    )
    return page


def take(page: Path, picture: Path) -> None:
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        view = browser.new_page(viewport=SIZE, color_scheme="light")
        view.goto(page.as_uri())
        view.wait_for_selector("html[data-ready=true]", state="attached")
        view.locator("#contents a", has_text="mmlu").click()
        view.wait_for_timeout(500)  # the charts are drawn once they have a width
        view.screenshot(path=picture)
        browser.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        take(make_page(Path(made)), ROOT / "docs" / "report.png")


if __name__ == "__main__":
    main()
