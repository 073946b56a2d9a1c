"""postfix: source files of access(5) and virtual(5) maps."""

from policyd.transfer.postfix.read import read
from policyd.transfer.postfix.write import write

__all__ = ["read", "write"]
