"""Words and names that have no place in the tree."""
import os
import re

from sources import Finding, Tree

# Written in pieces, so that this file does not find itself.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
MACHINE = re.compile(r"(?<![\w.])/(work|ho" + r"me|Users)/\w+")
TERMS = ("service_manager",)  # standard terms: systemd calls itself one
VAGUE = re.compile(r"(^|[_-])(utils?|common|helpers?|managers?)([_.-]|$)")


def check_name(path: str) -> list[Finding]:
    vague = [part for part in path.split(os.sep) if VAGUE.search(part) and not part.startswith(TERMS)]
    if not vague:
        return []
    return [Finding(path, 1, f'"{vague[0]}" says nothing: name the file after the one noun that it holds')]


def check_text(path: str, text: str) -> list[Finding]:
    findings = []
    for number, line in enumerate(text.splitlines(), 1):
        if match := UNFINISHED.search(line):
            findings.append(Finding(path, number, f"{match[0]}: do it, or file an issue and say here what does not work"))
        if match := MACHINE.search(line):
            findings.append(Finding(path, number, f"{match[0]} is a path of one machine: make it relative"))
        if line != line.rstrip() and not path.endswith(".md"):
            findings.append(Finding(path, number, "blanks at the end of the line"))
    if text and not text.endswith("\n"):
        findings.append(Finding(path, text.count("\n") + 1, "no newline at the end of the file"))
    return findings


def check(tree: Tree) -> list[Finding]:
    names = [finding for path in tree.files for finding in check_name(path)]
    texts = [finding for path in tree.texts() for finding in check_text(path, tree.read(path))]
    return names + texts
