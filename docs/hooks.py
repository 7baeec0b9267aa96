"""Brings pages from the rest of the repository into the site, and makes links between them work there.

Every page stays where its readers on GitHub look for it, in one copy.  Its links lead to files of the repository; in the site
they lead to the page made from that file, or to a copy of the file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# The site's name of each page that is outside of docs/.
PAGES = {
    "README.md": "index.md",
    "deploy/README.md": "device.md",
    "deploy/tensorrt.md": "tensorrt.md",
    "calibration/README.md": "calibration.md",
    "examples/README.md": "examples.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/NOTES.md": "benchmark-notes.md",
    "benchmarks/reliability/README.md": "reliability.md",
    "benchmarks/field/README.md": "field.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
}
HOMES = {name: path for path, name in PAGES.items()}
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
CODE = re.compile(r"(```.*?```)", re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside of docs/, and every file that a page links to."""
    for path, name in PAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    linked = {target for page in files.documentation_pages() for target in linked_files(page)}
    for path in sorted(linked):
        files.append(File.generated(config, f"files/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Let the links of a page lead to pages and files of the site."""
    home = home_of(page.file)
    parts = CODE.split(markdown)
    return "".join(part if CODE.match(part) else LINK.sub(lambda link: rewritten(link, home), part) for part in parts)


def home_of(file: File) -> str:
    """Return a page's path in the repository."""
    return HOMES.get(file.src_uri, f"docs/{file.src_uri}")


def resolved(target: str, home: str) -> tuple[str, str]:
    """Return the path in the repository that a link leads to, and its anchor; ("", "") for other hosts and this page."""
    if re.match(r"[a-z]+:|#", target):
        return "", ""
    path, _, anchor = target.partition("#")
    return os.path.normpath(os.path.join(os.path.dirname(home), path)), anchor


def linked_files(file: File) -> set[str]:
    """Return the files, other than pages, that a page links to."""
    home = home_of(file)
    text = CODE.sub("", (ROOT / home).read_text(encoding="utf-8"))
    found = {resolved(link["target"], home)[0] for link in LINK.finditer(text)}
    return {
        path for path in found if path and not path.endswith(".md") and not in_docs(path) and (ROOT / path).is_file()
    }


def in_docs(path: str) -> bool:
    """Return whether mkdocs takes a file by itself."""
    return path.startswith("docs/") and not path.endswith(".py")


def rewritten(link: re.Match[str], home: str) -> str:
    """Return a link as the site needs it; a folder, which the site lacks, keeps only its text."""
    path, anchor = resolved(link["target"], home)
    if not path:
        return link[0]
    if path in PAGES:
        target = PAGES[path]
    elif in_docs(path):
        target = path[len("docs/") :]
    elif (ROOT / path).is_dir():
        return link["text"]
    else:
        target = f"files/{path}"
    return f"{link['image']}[{link['text']}]({target}{'#' if anchor else ''}{anchor})"
