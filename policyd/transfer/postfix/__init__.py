"""postfix: source files of access(5) and virtual(5) maps."""

from policyd.transfer.formats import Format
from policyd.transfer.postfix.read import read, recognize
from policyd.transfer.postfix.write import write

__all__ = ["FORMAT", "read", "write"]

FORMAT = Format(read, write, recognize)
