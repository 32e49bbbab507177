"""A folder in which the blocks of one page are run, one after the other, as a reader would."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from pages import ROOT, Block
from stand_in import stop_server

HERE = Path(__file__).parent
PATIENCE = 600
"""Seconds that a block may take."""


class Session:
    """Where blocks leave files for those after them; `close` ends the server that one has started.

    There, `fastslow` is the stand-in, `curl` fails where a server refuses, and `pip` does nothing:
    what it would install is there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        programs = folder / ".bin"
        programs.mkdir()
        stands_in = {
            "fastslow": f'"{sys.executable}" "{HERE / "stand_in.py"}" "$@"',
            "curl": f'"{shutil.which("curl")}" --fail-with-body "$@"',
            "pip": "true",
        }
        for name, line in stands_in.items():
            (programs / name).write_text(f"#!/bin/sh\nexec {line}\n")
            (programs / name).chmod(0o755)
        own = {
            "PATH": os.pathsep.join(
                [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
            ),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "XDG_CACHE_HOME": str(folder / ".cache"),
            "DOCS_PORT": str(self.port),
        }
        self.environment = os.environ | own

    def run(self, block: Block) -> str:
        """Run a block and give all that it printed. Raises AssertionError where it fails."""
        printed = self._bash(block.marks.get("first", ""), block)
        if block.language == "python":
            return printed + self._python(block)
        if block.language == "yaml":
            return printed + self._recipe(block)
        return printed + self._bash(block.script, block)

    def close(self) -> None:
        stop_server(self.folder)

    def _bash(self, script: str, block: Block) -> str:
        """Variables that it sets are there for the blocks behind it."""
        script = script.replace(":8000", f":{self.port}")
        kept = "[ ! -f .variables ] || . ./.variables"
        script = f"set -aeuo pipefail\n{kept}\n{script}\nexport -p > .variables"
        return self._ended(["bash", "-c", script], block)

    def _python(self, block: Block) -> str:
        code = block.text.replace(":8000", f":{self.port}")
        if named := re.match(r"# (\w+\.py)\n", code):
            (self.folder / named[1]).write_text(code)
        (self.folder / ".block.py").write_text(code)
        return self._bash("python .block.py", block)

    def _recipe(self, block: Block) -> str:
        """A recipe that begins with the command that trains it."""
        command = block.text.splitlines()[0].removeprefix("# ")
        (self.folder / re.search(r"\w+\.yaml", command)[0]).write_text(block.text)
        return self._bash(command, block)

    def _ended(self, command: list[str], block: Block) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | {"DOCS_WITH": block.marks.get("with", "")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, f"{block}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout
