"""Reading a text's shape: its blocks, headings and sentences, each with the lines it stands on.

Pure and streaming: everything takes an iterable of lines and holds at most one block, so a file of any size costs
memory for its longest paragraph only, and time in proportion to its length. It is no Markdown renderer: it knows as
much of Markdown and reStructuredText as is needed to tell prose from code, tables and headings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

import attrs

Markup = Literal["markdown", "rst", "plain"]
Kind = Literal["heading", "prose", "item", "table", "code"]

MAX_BLOCK = 20_000
"""Characters after which a paragraph without end is cut, so that a file of one line stays bounded."""
MAX_FRONT_MATTER = 60
"""Lines within which front matter must end to be one."""


def markup_of(name: str) -> Markup:
    """The markup that a file's name promises."""
    suffix = name.rsplit(".", 1)[-1].lower() if "." in name else ""
    if suffix in ("md", "markdown", "mdown", "mkd"):
        return "markdown"
    return "rst" if suffix in ("rst", "rest") else "plain"


@attrs.frozen
class Block:
    """A heading, a paragraph, a list item, a table row or a piece of code."""

    kind: Kind
    """What it is."""
    line: int
    """Its first line, counted from 1."""
    lines: tuple[str, ...]
    """Its lines, without the marks that make it a heading, item or quotation."""
    level: int = 0
    """A heading's depth, 1 for the highest."""

    @property
    def end(self) -> int:
        """Its last line."""
        return self.line + max(len(self.lines), 1) - 1

    @property
    def text(self) -> str:
        """Its lines, joined by line breaks."""
        return "\n".join(self.lines)


_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r"^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r"^ {0,3}(=+|-+)[ \t]*$")
_RULE = re.compile(r"^ {0,3}([-*_=])[ \t]*(?:\1[ \t]*){2,}$")
_ITEM = re.compile(r"^\s*(?:[-*+•]|\d{1,3}[.)]|[a-z][.)])[ \t]+(?:\[[ xX]\][ \t]+)?(?=\S)")
_QUOTE = re.compile(r"^ {0,3}>[ \t]?")
_REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:[ \t]+\S")
_TABLE = re.compile(r"^\s*(?:\|.*\||[-+=|: ]*[-=]{3,}[-+=|: ]*)\s*$")
_HTML_LINE = re.compile(r"^\s*</?[a-zA-Z][^>]*>\s*$")
_UNDERLINE = re.compile(r"^([=\-~^\"'`#*+.:_])\1{2,}\s*$")
_DIRECTIVE = re.compile(r"^\s*\.\.(?:\s|$)")
_FIELD = re.compile(r"^\s*:[\w -]+:(?:\s|$)")
_CHAPTER = re.compile(
    r"^(?:chapter|part|book|section|act|scene|appendix|kapitel|chapitre)\s+[\dIVXLCM]+\b.{0,80}$", re.I
)
_NUMBERED = re.compile(r"^(\d{1,3}(?:\.\d{1,3})*)\.?[ \t]+[^\W\d_].{0,80}$")


@attrs.define
class _Reader:
    """Gathers lines into blocks; one line in, any number of finished blocks out."""

    markup: Markup
    fence: str = ""
    comment: bool = False
    literal: int = -1
    first: int = 0
    held: list[str] = attrs.Factory(list)
    size: int = 0
    kind: Kind = "prose"
    marks: list[str] = attrs.Factory(list)
    blank: bool = True
    after_blank: str = ""
    alone: str = ""

    def flush(self) -> Iterator[Block]:
        """The block that was being gathered, if any."""
        held, self.held, self.size = self.held, [], 0
        if not held:
            return
        title = (self.alone if self.blank else "") if self.kind == "item" else held[0]
        if self.markup == "plain" and len(held) == 1 and (level := plain_heading(title)):
            yield Block("heading", self.first, (title.strip(),), level)
        else:
            yield Block(self.kind, self.first, tuple(held))

    def start(self, kind: Kind, number: int, line: str) -> Iterator[Block]:
        """Finish what was gathered and begin a new block."""
        yield from self.flush()
        self.kind, self.first, self.alone = kind, number, self.after_blank
        self.held.append(line)
        self.size = len(line)

    def add(self, number: int, line: str) -> Iterator[Block]:
        """One more line of the running text."""
        if not self.held:
            yield from self.start("item" if self.kind == "item" and line.startswith("  ") else "prose", number, line)
            return
        if number == self.first + len(self.held) - 1:
            self.held[-1] += line
        else:
            self.held.append(line)
        self.size += len(line)
        if self.size > MAX_BLOCK:
            yield from self.flush()

    def code(self, number: int, line: str) -> Iterator[Block]:
        """A line that is not prose."""
        yield from self.flush()
        yield Block("code", number, (line,))

    def feed(self, number: int, line: str) -> Iterator[Block]:
        """One line of the file, without its line break."""
        was_blank, self.blank = self.blank, not line.strip()
        self.after_blank = line if was_blank else ""
        if self.markup != "plain" and (inside := self.inside(number, line)) is not None:
            yield from inside
        elif self.blank:
            yield from self.flush()
        elif (title := self.underlined(line)) is not None:
            yield title
        elif self.markup == "rst":
            yield from self.rst(number, line)
        elif self.markup == "markdown":
            yield from self.markdown(number, line, was_blank)
        else:
            yield from self.plain(number, line)

    def inside(self, number: int, line: str) -> Iterator[Block] | None:
        """What a line means within a fence, a comment or a literal block; None outside of them."""
        if self.fence:
            if line.strip().startswith(self.fence) and not line.strip().strip(self.fence[0]):
                self.fence = ""
            return self.code(number, line)
        if self.comment:
            self.comment = "-->" not in line
            return self.code(number, line)
        if self.literal >= 0 and not self.blank:
            if len(line) - len(line.lstrip()) > self.literal:
                return self.code(number, line)
            self.literal = -1
        return None

    def underlined(self, line: str) -> Block | None:
        """The heading that this line underlines, if it does."""
        if len(self.held) != 1 or self.kind != "prose" or len(self.held[0]) > 200:
            return None
        title = self.held[0].strip()
        if self.markup == "markdown":
            level = (1 if "=" in line else 2) if _SETEXT.match(line) else 0
        elif _UNDERLINE.match(line) and len(line.rstrip()) >= min(len(title), 4):
            level = self.level_of(line[0])
        else:
            level = 0
        if not level:
            return None
        self.held, self.size = [], 0
        return Block("heading", self.first, (title,), level)

    def level_of(self, mark: str) -> int:
        """Underlines rank by the order of their first appearance."""
        if mark not in self.marks:
            self.marks.append(mark)
        return self.marks.index(mark) + 1

    def markdown(self, number: int, line: str, was_blank: bool) -> Iterator[Block]:
        """One line of Markdown outside of fences."""
        if fence := _FENCE.match(line):
            self.fence = fence[1]
            yield from self.code(number, line)
        elif line.lstrip().startswith("<!--"):
            self.comment = "-->" not in line
            yield from self.code(number, line)
        elif atx := _ATX.match(line):
            yield from self.flush()
            if atx[2]:
                yield Block("heading", number, (atx[2],), len(atx[1]))
        elif _REFERENCE.match(line) or _HTML_LINE.match(line) or self.indented(line, was_blank):
            yield from self.code(number, line)
        else:
            yield from self.plain(number, _QUOTE.sub("", line))

    def indented(self, line: str, was_blank: bool) -> bool:
        """Whether an indent of four makes this line code; within a list it does not."""
        return was_blank and self.kind != "item" and line.startswith(("    ", "\t"))

    def rst(self, number: int, line: str) -> Iterator[Block]:
        """One line of reStructuredText outside of literal blocks."""
        if _DIRECTIVE.match(line) or _FIELD.match(line):
            self.literal = len(line) - len(line.lstrip())
            yield from self.code(number, line)
            return
        yield from self.plain(number, line)
        if line.rstrip().endswith("::"):
            self.literal = len(line) - len(line.lstrip())

    def plain(self, number: int, line: str) -> Iterator[Block]:
        """One line of running text, list or table."""
        if _RULE.match(line) or _UNDERLINE.match(line):
            yield from self.flush()
        elif _TABLE.match(line):
            yield from self.flush()
            yield Block("table", number, (line,))
        elif item := _ITEM.match(line):
            yield from self.start("item", number, line[item.end() :])
        else:
            yield from self.add(number, line)


def plain_heading(line: str) -> int:
    """The level of a plain line that looks like a heading when it stands alone, else 0."""
    text = line.strip()
    if not text or len(text) > 90 or text[-1] in ",;:":
        return 0
    if numbered := _NUMBERED.match(text):
        return 1 + numbered[1].count(".") if len(text) <= 60 and ". " not in text[len(numbered[1]) + 2 :] else 0
    if _CHAPTER.match(text):
        return 1
    if text[-1] == ".":
        return 0
    letters = [c for c in text if c.isalpha()]
    return 2 if len(letters) >= 4 and text == text.upper() and text != text.lower() else 0


def without_front_matter(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; YAML front matter is left out, a rule on the first line that opens none is not."""
    held: list[tuple[int, str]] = []
    matter = True
    for number, line in enumerate(lines, 1):
        line = line.removeprefix("\ufeff") if number == 1 else line
        if not matter:
            yield number, line
        elif number > 1 and line.strip() in ("---", "..."):
            held, matter = [], False
        else:
            held.append((number, line))
            if (number == 1 and line.strip() != "---") or number > MAX_FRONT_MATTER:
                yield from held
                held, matter = [], False
    yield from held


def blocks(lines: Iterable[str], markup: Markup = "plain") -> Iterator[Block]:
    """The blocks of a text in order. `lines` come without line breaks; memory holds one block at a time."""
    reader = _Reader(markup)
    source = without_front_matter(lines) if markup == "markdown" else enumerate(lines, 1)
    for number, line in source:
        # By offsets: cutting the head off a line of megabytes again and again would copy it as often.
        start = 0
        while len(line) - start > MAX_BLOCK:
            cut = line.rfind(" ", start + 1, start + MAX_BLOCK) + 1 or start + MAX_BLOCK
            yield from reader.feed(number, line[start:cut])
            start = cut
        yield from reader.feed(number, line[start:] if start else line)
    yield from reader.flush()


CODE_SPAN = re.compile(r"(`+)(.+?)\1")
_RST_ROLE = re.compile(r":[\w:.+-]+:(?=`)")
_RST_LINK = re.compile(r"`([^`<]{1,300}?)\s*<[^`<>]{1,500}>`__?")
_RST_REF = re.compile(r"`([^`]{1,300})`__?(?!\w)")
_IMAGE = re.compile(r"!\[[^\]\n]{0,300}\]\([^()\s]{0,1000}(?:\s+\"[^\"]{0,300}\")?\)")
_LINK = re.compile(r"\[([^\[\]]{1,300})\](?:\([^()\s]{0,1000}(?:\s+\"[^\"]{0,300}\")?\)|\[[^\[\]]{0,200}\])")
_AUTOLINK = re.compile(r"<((?:https?|mailto)[^<>\s]{1,500})>")
# Only the tags of HTML: `<name>` is a placeholder in most technical prose, and part of its sentence.
_TAG = re.compile(
    r"</?(?:a|b|big|br|center|code|dd|del|details|div|dl|dt|em|font|h[1-6]|hr|i|img|ins|kbd|li|mark|ol|p|picture|pre|s|"
    r"samp|small|source|span|strong|sub|summary|sup|table|tbody|td|th|thead|tr|tt|u|ul|var)\b[^<>]{0,300}>",
    re.IGNORECASE,
)
_STRONG = re.compile(r"(?<!\w)(\*{1,3}|_{1,3})(?=\S)([^*\n]{1,500}?)(?<=\S)\1(?!\w)")
_SPACE = re.compile(r"\s+")


# A code span is set aside as one character of the private use area while the marks around it are taken off.
_ASIDE = 0xE000
_ASIDE_END = 0xF8FF
_PRIVATE = re.compile(f"[{chr(_ASIDE)}-{chr(_ASIDE_END)}]")


def clean(text: str) -> str:
    """Running text without inline marks: links by their words, no emphasis; code keeps its backticks."""
    if "`" not in text:
        return _SPACE.sub(" ", _without_marks(text)).strip()
    text = _RST_ROLE.sub("", _PRIVATE.sub("", text))
    if "`_" in text:
        text = _RST_REF.sub(r"\1", _RST_LINK.sub(r"\1", text))
    spans: list[str] = []

    def set_aside(span: re.Match[str]) -> str:
        if _ASIDE + len(spans) > _ASIDE_END:
            return span[0]
        spans.append(f"`{span[2].strip()}`")
        return chr(_ASIDE + len(spans) - 1)

    bare = _without_marks(CODE_SPAN.sub(set_aside, text))
    return _SPACE.sub(" ", _PRIVATE.sub(lambda mark: spans[ord(mark[0]) - _ASIDE], bare)).strip()


def _without_marks(text: str) -> str:
    if "](" in text or "][" in text:
        text = _LINK.sub(r"\1", _IMAGE.sub("", text))
    if "<" in text:
        text = _TAG.sub("", _AUTOLINK.sub(r"\1", text))
    return _STRONG.sub(r"\2", text) if "*" in text or "_" in text else text


@attrs.frozen
class Sentence:
    """One cleaned sentence and where it stands."""

    text: str
    """The sentence, on one line, without inline marks."""
    line: int
    """The line it begins on."""
    end: int
    """The line it ends on."""
    place: int
    """Its place in its paragraph, 0 for the first."""
    kind: Kind = "prose"
    """The kind of its block."""


_BOUNDARY = re.compile(r"[.!?…]+[\"'”’)\]*_]*(?=\s)|[。！？]")
_ABBREVIATIONS = frozenset(
    "e.g i.e etc cf vs mr mrs ms dr prof st fig figs no nos vol pp ed eds al approx ca inc ltd co dept est sec ch eq "
    "resp jr sr gen col lt capt rev hon jan feb mar apr jun jul aug sep sept oct nov dec bzw z.b d.h u.a usw".split()
)


def _ends_sentence(text: str, mark: re.Match[str]) -> bool:
    if mark[0] in "。！？":
        return True
    rest = text[mark.end() : mark.end() + 40].lstrip()
    if rest[:1].islower():
        return False
    if mark[0][0] != ".":
        return True
    before = re.split(r"[\s(\[\"“]", text[max(0, mark.start() - 20) : mark.start()])[-1].lower()
    return not (before in _ABBREVIATIONS or (len(before) == 1 and before.isalpha()) or before == "")


def split_sentences(text: str) -> list[tuple[int, int]]:
    """The spans of the sentences of a paragraph. Marks within code and after abbreviations do not end one."""
    spans: list[tuple[int, int]] = []
    start = ticks = seen = 0
    for mark in _BOUNDARY.finditer(text):
        ticks += text.count("`", seen, mark.start())
        seen = mark.start()
        if ticks % 2 == 0 and _ends_sentence(text, mark):
            spans.append((start, mark.end()))
            start = mark.end()
    if text[start:].strip():
        spans.append((start, len(text)))
    return spans


def sentences(block: Block) -> Iterator[Sentence]:
    """The sentences of a block of prose, with their lines; nothing for code, tables and headings."""
    if block.kind not in ("prose", "item"):
        return
    raw = block.text
    line, seen = block.line, 0
    for place, (start, stop) in enumerate(split_sentences(raw)):
        start += len(raw[start:stop]) - len(raw[start:stop].lstrip())
        first = line + raw.count("\n", seen, start)
        last = first + raw.count("\n", start, stop)
        line, seen = last, stop
        if text := clean(raw[start:stop]):
            yield Sentence(text, first, last, place, block.kind)
