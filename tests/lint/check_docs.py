"""Documentation against the code: drop reasons, links, the package list."""
import re
from pathlib import Path

from sources import Finding, Tree

REASON = re.compile(r'\{\s*Reason::\w+,\s*k(\w+),\s*"(\w+)"', re.DOTALL)
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
CODE = "dataplane/api/counters.cpp"
MANUAL = "docs/counters.md"


def check_reasons(tree: Tree) -> list[Finding]:
    if CODE not in tree.files and MANUAL not in tree.files:
        return []
    coded = {name: outcome.lower() for outcome, name in REASON.findall(tree.read(CODE))}
    rows = {}
    for number, line in enumerate(tree.lines(MANUAL), 1):
        if match := ROW.match(line):
            rows[match[1]] = (number, match[2])
    findings = [Finding(CODE, 1, f"reason {name} is not in {MANUAL}: add its row") for name in coded.keys() - rows.keys()]
    for name, (number, outcome) in rows.items():
        if name not in coded:
            findings.append(Finding(MANUAL, number, f"{name} is no reason of {CODE}: take the row out"))
        elif coded[name] != outcome:
            findings.append(Finding(MANUAL, number, f"{name} is {coded[name]} in {CODE}, not {outcome}"))
    if not coded:
        findings.append(Finding(CODE, 1, "no reason found: has its form changed? See tests/lint/check_docs.py"))
    return findings


def check_links(tree: Tree) -> list[Finding]:
    findings = []
    for path in tree.with_suffix(".md"):
        for number, line in enumerate(tree.lines(path), 1):
            for target in (a or b for a, b in LINK.findall(line)):
                place = target.split("#")[0]
                if "://" in target or not place or target.startswith("mailto:"):
                    continue
                if not (tree.root / path).parent.joinpath(place).exists():
                    findings.append(Finding(path, number, f"the link {target} leads nowhere"))
    return findings


def check_packages(tree: Tree) -> list[Finding]:
    path = "tools/packages.txt"
    if path not in tree.files:
        return []
    findings, previous = [], ""
    for number, line in enumerate(tree.lines(path), 1):
        name, _, why = line.partition("#")
        if not name.strip():
            continue
        if not why.strip():
            findings.append(Finding(path, number, f"{name.strip()}: say why after a #"))
        if name.strip() <= previous:
            findings.append(Finding(path, number, f"{name.strip()}: keep the list sorted, each package once"))
        previous = name.strip()
    return findings


def check(tree: Tree) -> list[Finding]:
    return check_reasons(tree) + check_links(tree) + check_packages(tree)
