"""ldif: what a directory exports, and changes to it (RFC 2849)."""

from policyd.transfer.formats import Format
from policyd.transfer.ldif.read import read, recognize
from policyd.transfer.ldif.write import write

__all__ = ["FORMAT", "read", "write"]

FORMAT = Format(read, write, recognize, record_end="\n\n", is_directory=True, is_utf8=True)
