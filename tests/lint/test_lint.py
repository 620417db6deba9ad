"""Each check catches what it is for, at the right line, and lets the right form pass."""
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import check_docs  # noqa: E402
import check_headers  # noqa: E402
import check_includes  # noqa: E402
import check_size  # noqa: E402
import check_words  # noqa: E402
from sources import Tree  # noqa: E402


def tree_of(folder: Path, files: dict[str, str]) -> Tree:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Tree(folder)


OURS = {"dataplane/api/types.h": "", "dataplane/core/hash.h": "", "dataplane/stages/batch.h": "", "dataplane/io/eal.h": "",
        "config/model.h": "", "config/load.h": "", "control/plan/plan.h": "", "control/app/app.h": "", "control/api/client.h": "",
        "tests/support/packets.h": ""}

ALLOWED = [
    ("dataplane/core/x.cpp", '#include "dataplane/api/types.h"'), ("dataplane/core/x.cpp", "#include <vector>"),
    ("dataplane/io/x.cpp", "#include <rte_mbuf.h>"), ("dataplane/io/x.cpp", '#include "dataplane/stages/batch.h"'),
    ("config/load.cpp", "#include <toml++/toml.h>"), ("control/app/x.cpp", "#include <boost/asio/post.hpp>"),
    ("control/plan/x.cpp", '#include "dataplane/core/hash.h"'), ("control/plan/x.cpp", '#include "config/model.h"'),
    ("tools/lbctl/x.cpp", '#include "control/api/client.h"'), ("tests/unit/x.cpp", '#include "tests/support/packets.h"'),
    ("dataplane/core/x.cpp", '// #include <rte_mbuf.h>'),
]
FORBIDDEN = [
    ("dataplane/core/x.cpp", "#include <rte_mbuf.h>"), ("dataplane/stages/x.h", "# include <rte_mbuf.h>"),
    ("dataplane/core/x.cpp", '#include "dataplane/stages/batch.h"'), ("dataplane/stages/x.cpp", '#include "dataplane/io/eal.h"'),
    ("dataplane/api/x.h", '#include "dataplane/core/hash.h"'), ("dataplane/io/x.cpp", '#include "config/model.h"'),
    ("dataplane/io/x.cpp", '#include "control/app/app.h"'), ("config/validate.cpp", "#include <toml++/toml.h>"),
    ("config/model.h", '#include "control/plan/plan.h"'), ("control/plan/x.cpp", "#include <sys/socket.h>"),
    ("control/plan/x.cpp", "#include <boost/asio/post.hpp>"), ("control/failover/x.cpp", '#include "control/app/app.h"'),
    ("control/app/x.cpp", "#include <rte_mbuf.h>"), ("control/app/x.cpp", '#include "dataplane/core/hash.h"'),
    ("tools/lbctl/x.cpp", '#include "control/app/app.h"'), ("control/app/x.cpp", '#include "tests/support/packets.h"'),
    ("dataplane/core/x.cpp", '#include "hash.h"'), ("dataplane/core/x.cpp", "#include <dataplane/core/hash.h>"),
    ("nowhere/x.cpp", "#include <vector>"),
]


@pytest.mark.parametrize("path, line", ALLOWED)
def test_an_include_of_the_table_passes(tmp_path, path, line):
    assert check_includes.check(tree_of(tmp_path, {**OURS, path: f"// x\n{line}\n"})) == []


@pytest.mark.parametrize("path, line", FORBIDDEN)
def test_an_include_outside_the_table_is_caught(tmp_path, path, line):
    findings = check_includes.check(tree_of(tmp_path, {**OURS, path: f"// x\n{line}\n"}))
    assert [(f.path, f.line) for f in findings] == [(path, 1 if path.startswith("nowhere") else 2)]


def function(lines: int, head: str = "int f(int a)") -> str:
    """A function of exactly that many lines, its head and closing brace counted."""
    return f"{head} {{\n" + "  a += 1; // }\n" * (lines - 2) + "}\n"


@pytest.mark.parametrize("head", ["int f(int a)", "void C::f(int a) const noexcept", "auto f(int a) -> std::vector<int>",
                                  "template <class T> void f(T a)", 'TEST_CASE("a { b")', "C::C(int a) : x_(a)"])
def test_a_function_of_71_lines_is_caught_one_of_70_is_not(head):
    inside = "namespace a {\nclass C final : public B {\n public:\n"
    assert check_size.check_text("x.cpp", inside + function(70, head) + "};\n}\n") == []
    findings = check_size.check_text("x.cpp", inside + function(71, head) + "};\n}\n")
    assert [(f.line, "71 lines" in f.what) for f in findings] == [(4, True)]


def test_braces_in_strings_comments_and_lists_are_no_functions():
    text = 'const char* a = "{";\n/* { */\nconst std::array<int, 2> b{{f(1), g(2)}};\nconst char c = \'{\';\n' + "int x;\n" * 100
    assert check_size.check_text("x.cpp", text + function(70)) == []


def test_the_rows_of_a_table_do_not_count_what_stands_beside_them_does():
    rows = "const std::vector<Row> rows{\n" + "  {1, f(2), [](int a) { g(a); }},\n" * 300 + "};\n"
    block = "if (a) {\n" + "  a += 1;\n" * 68 + "}\n"
    assert check_size.check_text("x.cpp", "void f(int a) {\n" + rows + "}\n") == []
    assert check_size.check_text("x.cpp", "Rows f(int a) {\nreturn {\n" + "  {1, 2},\n" * 300 + "};\n}\n") == []
    assert [f.line for f in check_size.check_text("x.cpp", "void f(int a) {\n" + rows + block + "}\n")] == [1]


def test_a_python_function_of_71_lines_is_caught():
    assert check_size.check_text("x.py", "def f():\n" + "    a = 1\n" * 69) == []
    assert [f.line for f in check_size.check_text("x.py", "\ndef f():\n" + "    a = 1\n" * 70)] == [2]


def test_a_file_of_801_lines_is_caught():
    assert check_size.check_text("x.cpp", "int a;\n" * 800) == []
    assert [f.line for f in check_size.check_text("x.cpp", "int a;\n" * 801)] == [801]


@pytest.mark.parametrize("text", ["// TO" + "DO: later\n", "// FIX" + "ME\n", 'open("/wo' + 'rk/x")\n', 'open("/ho' + 'me/me/x")\n',
                                  "int a; \n", "int a;"])
def test_a_forbidden_word_is_caught(text):
    assert [f.line for f in check_words.check_text("x.cpp", "ok\n" + text)] == [2]


@pytest.mark.parametrize("path", ["control/utils.h", "control/string_helpers.cpp", "common/x.h", "control/site_manager.h"])
def test_a_vague_name_is_caught(path):
    assert len(check_words.check_name(path)) == 1


@pytest.mark.parametrize("path", ["control/health/prober.h", "dataplane/core/maglev.h", "docs/commonwealth.md"])
def test_a_plain_name_passes(path):
    assert check_words.check_name(path) == []


COUNTERS = '{Reason::kNoSite, kDropped, "no_site", "x"},\n{Reason::kNew,\n kForwarded, "new",\n "y"},\n'
MANUAL = "| `no_site` | dropped | x |\n| `new` | forwarded | y |\n"


@pytest.mark.parametrize("manual, wrong", [
    (MANUAL, []), (MANUAL + "| `gone` | dropped | z |\n", ["gone"]), ("| `no_site` | dropped | x |\n", ["new"]),
    (MANUAL.replace("dropped", "answered"), ["no_site"]),
])
def test_reasons_and_their_manual_agree(tmp_path, manual, wrong):
    tree = tree_of(tmp_path, {check_docs.CODE: COUNTERS, check_docs.MANUAL: manual})
    assert [word in f.what for f, word in zip(check_docs.check(tree), wrong, strict=True)] == [True] * len(wrong)


def test_a_dead_link_is_caught(tmp_path):
    text = "[a](docs/a.md) [b](docs/b.md#x) [c](https://example.org/) [d](#here)\n![e](none.png)\n"
    findings = check_docs.check(tree_of(tmp_path, {"README.md": text, "docs/a.md": "[up](../README.md)\n"}))
    assert [(f.line, "b.md" in f.what or "none.png" in f.what) for f in findings] == [(1, True), (2, True)]


def test_an_unsorted_or_unexplained_package_is_caught(tmp_path):
    tree = tree_of(tmp_path, {"tools/packages.txt": "# list\nb  # why\na  # why\nc\n"})
    assert sorted(f.line for f in check_docs.check(tree)) == [3, 4]


def test_a_header_that_needs_another_first_is_caught_and_remembered_only_when_good(tmp_path):
    build = tmp_path / "build"
    build.mkdir()
    good, bad = "#pragma once\n#include <vector>\nstd::vector<int> a();\n", "#pragma once\nstd::vector<int> b();\n"
    tree = tree_of(tmp_path, {"a/good.h": good, "a/bad.h": bad, "a/x.cpp": ""})
    (build / "compile_commands.json").write_text(
        f'[{{"directory": "{build}", "file": "../a/x.cpp", "command": "g++ -I.. -std=c++20 -o x.o -c ../a/x.cpp"}}]')
    for _ in range(2):
        assert [f.path for f in check_headers.check(tree, build)] == ["a/bad.h"]
    (tmp_path / "a/good.h").write_text("#pragma once\nnonsense\n")
    assert [f.path for f in check_headers.check(tree, build)] == ["a/bad.h", "a/good.h"]


def test_the_command_fails_when_there_is_a_finding(tmp_path):
    tree_of(tmp_path, {".clang-format": "BasedOnStyle: Google\n", "a/x.cpp": "int   a ;\n"})
    command = [sys.executable, str(HERE / "lint.py"), "format", "--root", str(tmp_path)]
    bad = subprocess.run(command, capture_output=True, text=True)
    assert bad.returncode == 1
    assert bad.stdout.startswith("a/x.cpp:1: not as clang-format writes it")
    (tmp_path / "a/x.cpp").write_text("int a;\n")
    assert subprocess.run(command, capture_output=True, text=True).returncode == 0
