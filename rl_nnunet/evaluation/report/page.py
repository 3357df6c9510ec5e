"""A report as Markdown, and as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import pandas as pd

from rl_nnunet.evaluation.subsets import markdown_table

STYLE = """
body { font-family: sans-serif; color: black; background: white; max-width: 75rem; margin: 1rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-size: 0.9rem; margin: 0.5rem 0 1rem; }
th, td { border: 1px solid #666; padding: 0.2rem 0.5rem; text-align: right; white-space: nowrap; }
th { background: #eee; }
th.text, td.text { text-align: left; }
img { max-width: 100%; display: block; }
figure { margin: 0 0 1rem; break-inside: avoid; }
figcaption { font-weight: bold; margin-bottom: 0.3rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #666; padding: 0.5rem; }
.wide { overflow-x: auto; }
@page { margin: 1.5cm 1cm; }
@media print {
  body { max-width: none; }
  .wide { overflow: visible; }
  table { font-size: 0.6rem; }
  th, td { white-space: normal; padding: 0.1rem 0.3rem; }
  img { max-height: 25cm; }
  tr { break-inside: avoid; }
}
"""


class Table(NamedTuple):
    """A table of texts; the first `left` columns are words, aligned to the left."""

    texts: pd.DataFrame
    left: int


class Picture(NamedTuple):
    """A PNG and what is on it."""

    caption: str
    png: bytes


class Section(NamedTuple):
    """A title, and below it paragraphs, tables, code and pictures."""

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    code: str = ""
    pictures: Sequence[Picture] = ()


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """Return the sections as Markdown, without those that are only pictures."""
    parts = [f"# {title}"]
    for section in sections:
        body = [*section.paragraphs]
        body += [markdown_table(table.texts.columns, table.texts.to_numpy(), table.left) for table in section.tables]
        body += [f"```\n{section.code}\n```"] if section.code else []
        if section.tables or section.code:
            parts += [f"## {section.title}", *body]
    return "\n\n".join(parts) + "\n"


def to_html(title: str, sections: Sequence[Section]) -> str:
    """Return the sections as one page; pictures are in it, and nothing is loaded from anywhere."""
    contents = "".join(
        f'<li><a href="#section-{number}">{escape(section.title)}</a></li>' for number, section in enumerate(sections)
    )
    body = "\n".join(_section(section, number) for number, section in enumerate(sections))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n<ul>{contents}</ul>\n{body}\n</body>\n</html>\n"
    )


def _section(section: Section, number: int) -> str:
    parts = [f'<h2 id="section-{number}">{escape(section.title)}</h2>']
    parts += [f"<p>{escape(text)}</p>" for text in section.paragraphs]
    parts += [_table(table) for table in section.tables]
    parts += [f"<pre>{escape(section.code)}</pre>"] if section.code else []
    parts += [
        f'<figure><figcaption>{escape(picture.caption)}</figcaption><img alt="{escape(picture.caption)}" '
        f'src="data:image/png;base64,{base64.b64encode(picture.png).decode()}"></figure>'
        for picture in section.pictures
    ]
    return "\n".join(parts)


def _table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        classes = [' class="text"' if place < table.left else "" for place in range(len(cells))]
        return "".join(f"<{tag}{kind}>{escape(str(cell))}</{tag}>" for kind, cell in zip(classes, cells, strict=True))

    rows = "\n".join(f"<tr>{row(cells, 'td')}</tr>" for cells in table.texts.to_numpy())
    head = f"<thead><tr>{row(list(table.texts.columns), 'th')}</tr></thead>"
    return f'<div class="wide"><table>{head}\n<tbody>{rows}</tbody></table></div>'
