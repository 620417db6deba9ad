"""Files of at most 800 lines, functions of at most 70. A list of values inside a function, such as a test's rows, is data:
its lines do not count."""
import ast
import re

from sources import Finding, Tree

FILE_LINES = 800
FUNCTION_LINES = 70

# Comments, string and character literals, raw strings: anything in which a brace is no brace.
NOISE = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)
ACCESS = re.compile(r"^\s*(?:(?:public|private|protected)\s*:\s*)+")
CONTAINER = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b")


def without_noise(text: str) -> str:
    """The text with every comment and literal blanked, line for line."""
    return NOISE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def is_container(head: str) -> bool:
    """`head` is what stands before a brace since the last statement: does it open a namespace or a type?"""
    return bool(CONTAINER.search(head)) and "(" not in re.sub(r"alignas\s*\([^)]*\)|__attribute__\s*\(\(.*?\)\)", "", head)


def is_list(head: str) -> bool:
    """Does the brace after `head` open a list of values: `rows{`, `= {`, `return {`?"""
    word = re.search(r"(\w+|=)\s*$", head)
    if word is None or "->" in head or CONTAINER.search(head):
        return False
    return word[1] not in ("else", "do", "try", "mutable", "noexcept", "const", "override")


def cpp_functions(text: str) -> list[tuple[int, int]]:
    """(first line, number of lines) of each outermost function body, from its head to its closing brace."""
    code = without_noise(text)
    code = re.sub(r"^[ \t]*#[^\n]*(?:\\\n[^\n]*)*", lambda m: re.sub(r"[^\n]", " ", m[0]), code, flags=re.MULTILINE)
    found, stack, head_start, line = [], [], 0, 1
    data = 0  # lines of lists in the function that is open
    for at, char in enumerate(code):
        if char == "\n":
            line += 1
        elif char == "{":
            head = ACCESS.sub("", code[head_start:at])
            stack.append((kind_of(head, [kind for kind, _ in stack]), line - head.lstrip().count("\n")))
            head_start = at + 1
        elif char == "}":
            kind, first = stack.pop() if stack else ("other", line)
            if kind == "list":
                data += max(0, line - first - 1)
            elif kind == "function":
                found.append((first, line - first + 1 - data))
                data = 0
            head_start = at + 1
        elif char == ";":
            head_start = at + 1
    return found


def kind_of(head: str, around: list[str]) -> str:
    """What a brace opens: container, function (the outermost), list (the outermost in a function), other."""
    if "list" in around:
        return "other"
    if "function" in around:
        return "list" if is_list(head) else "other"
    if is_container(head):
        return "container"
    return "function" if "(" in head else "other"


def python_functions(text: str) -> list[tuple[int, int]]:
    nodes = ast.walk(ast.parse(text))
    functions = [n for n in nodes if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [(n.lineno, n.end_lineno - n.lineno + 1) for n in functions]


def check_text(path: str, text: str) -> list[Finding]:
    findings = []
    lines = text.splitlines()
    if len(lines) > FILE_LINES:
        findings.append(Finding(path, len(lines), f"{len(lines)} lines, at most {FILE_LINES}: split it by its ideas"))
    try:
        functions = python_functions(text) if path.endswith(".py") else cpp_functions(text)
    except SyntaxError as error:
        return [Finding(path, error.lineno or 1, f"no Python: {error.msg}")]
    for first, count in functions:
        if count > FUNCTION_LINES:
            findings.append(Finding(path, first, f"a function of {count} lines, at most {FUNCTION_LINES}: split it"))
    return findings


def check(tree: Tree) -> list[Finding]:
    python = [f for f in tree.files if f.endswith(".py") or tree.read(f).startswith("#!/usr/bin/python3")]
    return [finding for path in (*tree.cpp(), *python) for finding in check_text(path, tree.read(path))]
