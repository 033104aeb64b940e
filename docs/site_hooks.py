"""Hooks of mkdocs: the README is the front page, and links out of docs/ lead to the repository."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\(([^)\s#]*)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Put the README before all pages."""
    files.append(File.generated(config, "index.md", content=(ROOT / "README.md").read_text("utf8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Turn links that are relative to the repository into those of the site."""
    source = page.file.src_uri
    folder = "" if source == "index.md" else posixpath.join("docs", posixpath.dirname(source))

    def link(match: re.Match[str]) -> str:
        target, anchor = match.group(1), match.group(2) or ""
        if not target or "://" in target or target.startswith("mailto:"):
            return match.group(0)
        path = posixpath.normpath(posixpath.join(folder, target))
        if path.startswith("docs/"):
            start = posixpath.dirname(source) or "."
            return f"]({posixpath.relpath(path.removeprefix('docs/'), start)}{anchor})"
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"]({config.repo_url}/{kind}/main/{path}{anchor})"

    return LINK.sub(link, markdown)
