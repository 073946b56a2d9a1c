"""exchange-csv: the directory import and export files of Exchange 5.x."""

from policyd.transfer.exchange.read import read, recognize
from policyd.transfer.exchange.write import write
from policyd.transfer.formats import Format

__all__ = ["FORMAT", "read", "write"]

FORMAT = Format(read, write, recognize, has_header=True, is_directory=True)
