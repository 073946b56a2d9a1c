"""Recognises the format of a file by its first lines."""

from itertools import islice
from typing import BinaryIO

from policyd.errors import TransferError
from policyd.transfer.formats import FORMATS, Evidence, Sample, load_format
from policyd.transfer.text import find_encoding, read_lines

_SAMPLE_LINES = 200


def detect_format(stream: BinaryIO) -> str:
    """The name of the format that *stream* is in, which is left at its start.

    Raises TransferError where it is empty, and, naming --format, where nothing shows it.
    """
    lines = (line.text for line in read_lines(stream, find_encoding(stream)) if line.text.strip())
    first = tuple(islice(lines, _SAMPLE_LINES))
    stream.seek(0)
    if not first:
        raise TransferError("the file is empty")
    sample = Sample(first, tuple(line for line in first if not line.lstrip().startswith("#")))

    # Of formats with the same evidence, the first in the table is taken.
    evidence = {name: load_format(name).recognize(sample) for name in FORMATS}
    found = max(evidence, key=lambda name: evidence[name])
    if evidence[found] >= Evidence.HEADER:
        return found
    if sample.content and sample.content[0].lstrip().startswith("["):
        raise TransferError("the file is a JSON array; put each element on a line of its own: jq -c '.[]'")
    if evidence[found] is Evidence.NONE:
        raise TransferError(
            f"the format of the file can't be told from its content; name it with --format: {', '.join(FORMATS)}"
        )
    return found
