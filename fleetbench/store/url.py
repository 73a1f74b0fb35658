"""What a user may name as a warehouse: a folder, or s3://BUCKET/PREFIX."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fleetbench.errors import InputError

SCHEME = "s3://"
_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{2,254}")


@dataclass(frozen=True, slots=True)
class BucketUrl:
    """A bucket, and what all keys in it start with: nothing, or names with a slash between them."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.prefix}".rstrip("/")

    def key(self, name: str) -> str:
        """The object of a file that has this name below the warehouse."""
        return f"{self.prefix}/{name}" if self.prefix else name


def is_bucket(text: str) -> bool:
    return text[: len(SCHEME)].lower() == SCHEME


def parsed(text: str) -> Path | BucketUrl:
    """What was named.

    Raises:
        InputError: an address without a bucket, or with more than a bucket and a prefix.
    """
    if not is_bucket(text):
        return Path(text)
    bucket, _, prefix = text[len(SCHEME) :].partition("/")
    parts = [part for part in prefix.split("/") if part]
    if not bucket:
        raise InputError((f"{text} names no bucket: give s3://BUCKET/PREFIX",))
    if {"@", ":"} & set(bucket):  # not repeated: it may be a key and its secret
        raise InputError(("s3:// is followed by no bucket alone: credentials go into AWS_PROFILE or the like",))
    if not _BUCKET.fullmatch(bucket):
        raise InputError((f"{bucket!r} is no name of a bucket: that has 3 to 255 letters, digits and ._-",))
    if {".", ".."} & set(parts) or "?" in prefix or "#" in prefix:
        raise InputError((f"s3://{bucket}: a prefix is names with a slash between them, without . .. ? #",))
    return BucketUrl(bucket, "/".join(parts))
