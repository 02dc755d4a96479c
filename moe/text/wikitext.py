"""Readable prose out of a MediaWiki XML export (the format of enwik8 and enwik9)."""

import bz2
import html
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

_DROPPED = [
    re.compile(pattern, re.DOTALL | re.IGNORECASE)
    for pattern in (
        r"<!--.*?-->",
        r"<ref[^<>]*/>",
        r"<(ref|math|gallery|source|syntaxhighlight|timeline|pre|code|imagemap)\b[^<>]*>.*?</\1\s*>",
    )
]
_NESTED = [re.compile(r"\{\{[^{}]*\}\}"), re.compile(r"\{\|(?:(?!\{\||\|\}).)*\|\}", re.DOTALL)]
_MEDIA = re.compile(r"\[\[(?:file|image|category)\s*:(?:[^\[\]]|\[\[[^\[\]]*\]\]|\[[^\[\]]*\])*\]\]", re.I)
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)*([^\[\]|]*)\]\]")
_WEB_LINK = re.compile(r"\[(?:https?:)?//[^\s\]]*\s*([^\]]*)\]")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_QUOTES = re.compile(r"'{2,}")
_HEADING = re.compile(r"^=+\s*(.*?)\s*=+\s*$", re.MULTILINE)
_BACK_MATTER = re.compile(
    r"^==\s*(?:references|external links|see also|further reading|notes|bibliography|footnotes|sources)\s*==",
    re.IGNORECASE | re.MULTILINE,
)
_LIST_MARK = re.compile(r"^[*#:;|!]+\s*", re.MULTILINE)
_MAGIC = re.compile(r"__[A-Z]+__")
_GAPS = (re.compile(r"[ \t\xa0]+"), re.compile(r"\s*\n\s*"))


def prose(wikitext: str) -> str:
    """The readable text of a page: no templates, tables, notes, files, tags, nor what follows the text."""
    text = _BACK_MATTER.split(wikitext, maxsplit=1)[0]
    for pattern in _DROPPED:
        text = pattern.sub("", text)
    for pattern in _NESTED:
        count = 1
        while count:
            text, count = pattern.subn("", text)
    text = _MEDIA.sub("", text)
    text = _WEB_LINK.sub(r"\1", _LINK.sub(r"\1", text))
    text = _QUOTES.sub("", _MAGIC.sub("", _TAG.sub("", text)))
    text = html.unescape(_LIST_MARK.sub("", _HEADING.sub(r"\1", text)))
    for pattern, gap in zip(_GAPS, (" ", "\n"), strict=True):
        text = pattern.sub(gap, text)
    return text.strip()


def wikipedia_pages(path: Path) -> Iterator[str]:
    """Title and prose of each article of a bz2-compressed export; redirects and other namespaces dropped."""
    with bz2.open(path, "rb") as stream:
        for _, element in ElementTree.iterparse(stream, events=("end",)):
            if not element.tag.endswith("}page"):
                continue
            text = element.findtext("{*}revision/{*}text") or ""
            is_article = element.findtext("{*}ns") == "0" and element.find("{*}redirect") is None
            body = prose(text) if is_article else ""
            if body:
                yield f"{element.findtext('{*}title')}\n{body}"
            element.clear()
