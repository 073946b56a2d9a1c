"""exchange-csv: the directory import and export files of Exchange 5.x."""

from policyd.transfer.exchange.read import read
from policyd.transfer.exchange.write import write

__all__ = ["read", "write"]
