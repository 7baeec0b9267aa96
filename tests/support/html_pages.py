"""A page of edgeclf as a test reads it."""

import re
from html.parser import HTMLParser

EMPTY = {"meta", "img", "br", "rect", "line", "circle", "polyline"}
OUTSIDE = re.compile(r"https?:|<script|<link|@import|url\(|src=\"(?!data:)|\bon\w+=|javascript:")
"""What would run, or ask another host."""


class Page(HTMLParser):
    """Rows of cells, words, and the words of each figure; fails where a tag is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.figures, self.images, self.words = [], [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in EMPTY:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "figure":
            self.figures.append([])
        if tag == "img":
            self.images.append(dict(attributes)["src"])

    def handle_startendtag(self, tag, attributes):
        assert tag in EMPTY

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data
        if "figure" in self.open and data.strip():
            self.figures[-1].append(data.strip())
