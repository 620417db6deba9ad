"""One lint check over the tree: lint.py CHECK [--root DIR] [--build DIR]. Exit 1 when it finds something."""
import argparse
import sys
from pathlib import Path

import check_docs
import check_format
import check_headers
import check_includes
import check_size
import check_words
from sources import Tree

CHECKS = {"includes": check_includes, "format": check_format, "headers": check_headers, "size": check_size,
          "words": check_words, "docs": check_docs}


def main() -> int:
    parser = argparse.ArgumentParser(prog="lint.py")
    parser.add_argument("check", choices=list(CHECKS))
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--build", type=Path, help="configured build folder (headers only)")
    options = parser.parse_args()
    tree = Tree(options.root)
    arguments = (tree, options.build) if options.check == "headers" else (tree,)
    findings = CHECKS[options.check].check(*arguments)
    for finding in sorted(findings):
        print(finding)
    print(f"{options.check}: {len(findings)} findings in {len(tree.files)} files")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
