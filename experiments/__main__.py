"""List the programs, one per line: ``python -m experiments``."""

import ast
import re
from pathlib import Path


def programs() -> dict[str, str]:
    """Return module name -> the first sentence of its docstring, of every program."""
    found, package = {}, Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if '\nif __name__ == "__main__":' in text and path != Path(__file__):
            module = path.parent if path.stem == "__main__" else path.with_suffix("")
            name = ".".join(module.relative_to(package.parent).parts)
            documentation = ast.get_docstring(ast.parse(text)) or ""
            found[name] = " ".join(re.split(r"(?<=[.?!])\s", documentation, maxsplit=1)[0].split())
    return found


def main() -> None:
    """Print the list."""
    listed = programs()
    width = max(map(len, listed))
    for name, sentence in listed.items():
        print(f"python -m {name:<{width}}  {sentence}")


if __name__ == "__main__":
    main()
