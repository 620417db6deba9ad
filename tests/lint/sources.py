"""The files that the checks look at, and the form of what they find."""
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

CPP = (".h", ".cpp", ".c", ".hpp", ".cc")
TEXT = (*CPP, ".py", ".md", ".toml", ".txt", ".proto", ".sh", ".build", ".service", ".html", ".js", ".css")
# Fuzz seeds and findings are data of any shape; the licence is as its authors wrote it.
DATA = ("tests/fuzz/corpus/", "LICENSE")


@dataclass(frozen=True, order=True)
class Finding:
    path: str
    line: int
    what: str  # what is wrong, and what to do

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


class Tree:
    """The repository's own files: what git knows and does not ignore, or everything when there is no git."""

    def __init__(self, root: Path):
        self.root = root.resolve()
        self.files = sorted(f for f in self._list() if not f.startswith(DATA) and (self.root / f).is_file())

    def _list(self) -> list[str]:
        if (self.root / ".git").exists():
            # The tree may belong to another user than the one who tests.
            command = ["git", "-c", f"safe.directory={self.root}", "-C", str(self.root), "ls-files", "--cached", "--others",
                       "--exclude-standard", "-z"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip("\0").split("\0")
        found = []
        for folder, folders, names in os.walk(self.root):
            folders[:] = [f for f in folders if not f.startswith("build") and f not in (".git", "__pycache__", ".cache")]
            found += [os.path.relpath(os.path.join(folder, name), self.root) for name in names]
        return found

    def cpp(self) -> list[str]:
        return [f for f in self.files if f.endswith(CPP)]

    def with_suffix(self, *suffixes: str) -> list[str]:
        return [f for f in self.files if f.endswith(suffixes)]

    def texts(self) -> list[str]:
        """Everything a person writes, the commands without a suffix too."""
        return [f for f in self.files if f.endswith(TEXT) or "." not in os.path.basename(f)]

    def read(self, path: str) -> str:
        return (self.root / path).read_text(errors="replace")

    def lines(self, path: str) -> list[str]:
        return self.read(path).splitlines()
