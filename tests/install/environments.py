"""Virtual environments that hold what a package asks for and nothing else, without a download.

Each installed package that is asked for, and what it asks for in turn, is linked from the
environment that runs the tests. So a new environment is there in a second, a requirement that
nobody declared is missing there, and pip checks the declared ones. What pip would choose from an
index, and whether that installs, is not tried.
"""

import os
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed(requirements):
    """The installed packages that meet the requirements, with all that they ask for in turn."""
    found: dict[str, Distribution] = {}
    waiting, seen = [Requirement(text) for text in requirements], set()
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        if (name, *sorted(asked.extras)) in seen or not _applies(asked, ()):
            continue
        seen.add((name, *sorted(asked.extras)))
        found[name] = distribution(name)
        more = [Requirement(text) for text in found[name].requires or ()]
        for other in more:
            if _applies(other, asked.extras):
                other.marker = None
                waiting.append(other)
    return found


def _applies(requirement, extras):
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


LONGEST_S = 480
"""For one command, on a machine that is busy."""


class Environment:
    """A new virtual environment with the packages that meet the requirements."""

    def __init__(self, folder: Path, requirements) -> None:
        venv.create(folder, symlinks=True)
        self.folder, self.bin = folder, folder / "bin"
        names = {"base": str(folder), "platbase": str(folder)}
        self.packages = Path(sysconfig.get_path("purelib", vars=names))
        for package in needed(requirements).values():
            self._link(package)

    def _link(self, package):
        home = Path(str(package.locate_file("")))
        tops = {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}
        for top in tops:
            if not (link := self.packages / top).is_symlink():  # Namespaces are shared.
                link.symlink_to(home / top)

    def pip(self, *arguments):
        """Runs pip on it, without any index or settings: nothing that is linked can be replaced."""
        command = ["-m", "pip", "--python", self.bin / "python", "--isolated", *arguments]
        return self._run([sys.executable, *command], self.folder)

    def install(self, wheel):
        """Installs a wheel; what it requires must be there."""
        done = self.pip("install", "--quiet", "--no-index", wheel)
        assert done.returncode == 0, done.stderr

    def versions(self):
        """The packages in it, each with its version."""
        return {path.stem for path in self.packages.glob("*.dist-info")}

    def run(self, name, *arguments, cwd):
        """A command of it, called from the folder `cwd`, with nothing of the checkout in reach."""
        return self._run([self.bin / name, *arguments], cwd)

    @staticmethod
    def _run(command, cwd):
        return subprocess.run(
            list(map(str, command)),
            cwd=cwd,
            env=surroundings(),
            text=True,
            capture_output=True,
            timeout=LONGEST_S,
        )


def surroundings():
    """The environment variables of a user who has no checkout."""
    hidden = ("PYTHON", "PIP_", "VIRTUAL_ENV", "FASTSLOW")
    return {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
