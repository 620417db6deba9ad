"""The short list of tests that may be skipped: tests/allowed_skips.txt."""
from fnmatch import fnmatchcase
from pathlib import Path


class AllowedSkips:
    """Lines `suite/test` or `suite/test::case`, `*` allowed, each with `# the need that may really be missing`."""

    def __init__(self, path: Path):
        self.patterns: list[str] = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            pattern, hash_sign, reason = line.partition("#")
            if not pattern.strip():
                continue
            if not hash_sign or not reason.strip():
                raise SystemExit(f"{path}:{number}: a line needs its reason: PATTERN  # what may be missing")
            self.patterns.append(pattern.strip())

    def allows(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)
