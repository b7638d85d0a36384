"""Parquet files, read by the thread that asks.

Arrow's threads can abort a process that ends soon after them ("terminate called without an active exception",
github.com/apache/arrow/issues/34314): a stage would fail with its work done.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq


def read_parquet(file: Path | BinaryIO, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the table in a file, or some of its columns; checksums of pages are verified where the file has them.

    Raises:
        OSError: it cannot be read.
        pyarrow.ArrowException: it is no Parquet file.
    """
    try:
        with pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True) as opened:
            return opened.read(columns=columns, use_threads=False)
    except UnicodeDecodeError as error:  # of a column's damaged name
        raise pa.ArrowInvalid(str(error)) from error
