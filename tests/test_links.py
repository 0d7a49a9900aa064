"""Every link of every document leads somewhere: files, headings, images, addresses."""

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (".github", "bench", "docs", "kernels", "napkin_bench", "predict", "reports", "tests")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
FENCE = re.compile(r"^ *(`{3,}|~{3,}).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
LINKS = (
    re.compile(r"\]\(\s*<?([^)\s>]*)>?(?:\s+\"[^\"]*\")?\s*\)"),  # [text](target), ![alt](target "title")
    re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)>?", re.MULTILINE),  # [name]: target
    re.compile(r"<(https?:[^>\s]*)>"),
    re.compile(r"<(?:img|a)\b[^>]*?\b(?:src|href)=\"([^\"]*)\""),
)


def links(text):
    """The targets of a document's links, outside of code."""
    prose = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", FENCE.sub("", text))
    return [target for kind in LINKS for target in kind.findall(prose)]


def anchors(text):
    """The headings of a document as GitHub links them: small letters, hyphens for spaces, a number for a second one."""
    seen = Counter()
    found = set()
    for heading in re.findall(r"^ {0,3}#{1,6} +(.+?)(?: +#+)? *$", FENCE.sub("", text), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return found


def broken(document, text):
    """What is wrong with the links of a document at this path, whose text may be made up."""
    return [f"{target}: {fault}" for target in links(text) if (fault := _fault(document, text, target)) is not None]


def _fault(document, text, target):
    parts = urlsplit(target)
    if parts.scheme:
        named = re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc)
        return None if parts.scheme == "https" and named else "an address begins with https:// and a host"
    if not target:
        return "it is empty"
    path = document.parent / unquote(parts.path) if parts.path else document
    if parts.path and (parts.path.startswith("/") or not path.resolve().is_relative_to(ROOT)):
        return "it leaves the repository"
    if parts.path and not path.exists():
        return "no such file"
    if parts.fragment:
        linked = path.read_text(encoding="utf-8") if parts.path else text
        return None if parts.fragment in anchors(linked) else "no such heading"
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(document):
    assert broken(document, document.read_text(encoding="utf-8")) == []


def test_the_documents_with_links_are_found():
    names = {document.relative_to(ROOT).as_posix() for document in DOCUMENTS}
    assert {"README.md", "docs/reports.md", "docs/accuracy/matmul.md"} < names
    assert any(name.startswith("reports/data/") for name in names)
    assert "predict.md#a-whole-model" in links((ROOT / "docs" / "served.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[a](nowhere.md)", "no such file"),
        ('![a](nowhere.png "title")', "no such file"),
        ("![a](docs/nowhere.png)", "no such file"),
        ("[a][b]\n\n[b]: nowhere.md", "no such file"),
        ('<img src="nowhere.png">', "no such file"),
        ("[a](CONTRIBUTING.md#how-to-add-a-toy)", "no such heading"),
        ("# One\n\n[a](#two)", "no such heading"),
        ("```\n# Two\n```\n\n[a](#two)", "no such heading"),
        ("[a]()", "it is empty"),
        ("[a](../elsewhere.md)", "it leaves the repository"),
        ("[a](/etc/hosts)", "it leaves the repository"),
        ("[a](http://example.com)", "an address begins with https"),
        ("<http://example.com>", "an address begins with https"),
        ("[a](https://example)", "an address begins with https"),
        ("[a](https:///path)", "an address begins with https"),
    ],
)
def test_a_broken_link_is_found(text, fault):
    (said,) = broken(ROOT / "made-up.md", text)
    assert fault in said


def test_links_that_lead_somewhere_and_code_are_left_alone():
    text = """# Two words: `code`, [a link](README.md)

## Two words

## Two words

[a](#two-words-code-a-link) [b](#two-words) [c](#two-words-1) [d](CONTRIBUTING.md#house-rules) [e](docs)
[f](https://example.com/a_(b)#c) ![g](docs/figures/knees.png)

`[not](a-link)`

```
[neither](is-this)
```
"""
    assert links(text).count("#two-words") == 1
    assert broken(ROOT / "README.md", text) == []
