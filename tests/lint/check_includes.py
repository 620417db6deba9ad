"""The include table: who may include what."""
import re
from fnmatch import fnmatchcase

from include_table import RULES, STANDARD, Rule
from sources import Finding, Tree

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def rule_of(path: str) -> Rule | None:
    prefixes = [prefix for prefix in RULES if path.startswith(prefix)]
    return RULES[max(prefixes, key=len)] if prefixes else None


def check_line(path: str, kind: str, header: str, rule: Rule, known: set[str]) -> str | None:
    """What is wrong with one include, if anything."""
    generated = header.endswith((".skel.h", ".pb.h"))
    if kind == '"':
        if header not in known and not generated:
            return f'"{header}" is no file of ours: write the path from the root, or <…> for a library'
        if any(header.startswith(prefix) for prefix in rule.own):
            return None
        return f'"{header}" may not be included here ({rule.why}); see tests/lint/include_table.py'
    if header in known:
        return f'<{header}> is ours: write it in quotes'
    if header in STANDARD or any(fnmatchcase(header, pattern) for pattern in rule.system):
        return None
    return f"<{header}> may not be included here ({rule.why}); see tests/lint/include_table.py"


def check(tree: Tree) -> list[Finding]:
    known = set(tree.cpp())
    findings = []
    for path in tree.cpp():
        rule = rule_of(path)
        if rule is None:
            findings.append(Finding(path, 1, "no row of tests/lint/include_table.py covers this folder: add one"))
            continue
        for number, line in enumerate(tree.lines(path), 1):
            match = INCLUDE.match(line)
            what = check_line(path, match[1], match[2], rule, known) if match else None
            if what:
                findings.append(Finding(path, number, what))
    return findings
