"""Reads and writes the cells of csv: what empties a field, lists, and what a spreadsheet would take for a formula."""

import re
from collections.abc import Callable, Sequence

from policyd.transfer.fields import LISTS, Parse
from policyd.transfer.values import split_list

EMPTIED = "-"
TEXTS = frozenset({"reason", "comment", "created_by", "alias_of"})  # which may be empty
Split = Callable[[str], tuple[str, ...]]

_ESCAPED = re.compile(r"\\+-")  # a text of nothing but this is written with one backslash more
_AS_TEXT = re.compile(r'="((?:[^"]|"")*+)"')  # a formula that programs write for a text that Excel would change
_FORMULA = ("=", "+", "-", "@", "\t", "'")  # how a cell begins that a spreadsheet runs, or that looks guarded
_MARKED = ("=", "'")  # how one begins that is guarded, or a formula for a text


def read_cell(name: str, parse: Parse, split: Split = split_list) -> Parse:
    """What reads a cell of the column *name* that isn't empty, where *parse* reads its value.

    Such a value is a text or a list, or None where the cell empties its field.
    """
    if name == "addresses":
        return lambda cell, domain: parse(None if cell == EMPTIED else cell, domain)
    if name in LISTS:
        return lambda cell, domain: parse(None if cell == EMPTIED else split(cell), domain)
    if name in TEXTS:
        return lambda cell, domain: parse(
            None if cell == EMPTIED else cell[1:] if _ESCAPED.fullmatch(cell) else cell, domain
        )
    if name == "until":
        return lambda cell, domain: parse(None if cell == EMPTIED else cell, domain)
    return parse


def text_cell(text: str) -> str:
    """The cell of a text, which may be empty."""
    if text == EMPTIED or _ESCAPED.fullmatch(text):
        return f"\\{text}"
    return text or EMPTIED


def list_cell(words: Sequence[str]) -> str:
    """The cell of a list, which may be empty; a mailbox may be called what says so."""
    cell = " ".join(words)
    return f'"{EMPTIED}"' if cell == EMPTIED else cell or EMPTIED


def guarded(cell: str) -> str:
    """*cell* so that no spreadsheet runs it as a formula. The lone `-` is none, and has its meaning here."""
    return f"'{cell}" if cell.startswith(_FORMULA) and cell != EMPTIED else cell


def unguarded(cell: str) -> str:
    """*cell* without what `guarded` puts in front, or programs around a text; any other `'` is the text's own."""
    if not cell.startswith(_MARKED):
        return cell
    if as_text := _AS_TEXT.fullmatch(cell):
        return as_text[1].replace('""', '"')
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell
