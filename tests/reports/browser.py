"""A headless browser: what a page becomes, and what its console complains of."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def opened(page: Path) -> str:
    """The document as the browser leaves it, after failing the test on any complaint.

    Uncaught exceptions are complaints, and so is whatever the page's security policy refuses:
    scripts that are not its own, and anything from outside the file.
    """
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip("REPORT NOT OPENED IN A BROWSER: no chromium is installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}",
                "--enable-logging=stderr", "--v=0", "--virtual-time-budget=10000",
                "--dump-dom", page.resolve().as_uri(),
            ],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    complaints = re.findall(r".*CONSOLE.*", done.stderr)
    assert not complaints, "\n".join(complaints)
    assert "</html>" in done.stdout, done.stderr
    return done.stdout
