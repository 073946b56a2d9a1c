"""ldif: what a directory exports, and changes to it (RFC 2849)."""

from policyd.transfer.ldif.read import read
from policyd.transfer.ldif.write import write

__all__ = ["read", "write"]
