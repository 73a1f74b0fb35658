"""Objects of a bucket: immutable, whole or not there, by one PUT each that refuses a key which is taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fleetbench.errors import FleetbenchError, InputError, UnusableEnvironmentError
from fleetbench.store.url import BucketUrl

NO_BOTO = "s3:// needs boto3: pip install 'fleetbench[s3]'"
CONNECT_S = 2.0
READ_S = 60.0
ATTEMPTS = 3
"""With two pauses of up to 1 s and 2 s between them an endpoint that is not there is known within ten seconds."""
CONNECTIONS = 16
AT_ONCE = 1000
"""Keys that S3 deletes by one request."""
_GONE = ("NoSuchKey", "404")
_TAKEN = ("PreconditionFailed", "412")
_RACED = ("ConditionalRequestConflict", "409")
_NO_BUCKET = ("NoSuchBucket", "InvalidBucketName")
_DENIED = ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An object as a listing has it; changed_s: seconds since the epoch."""

    bytes: int
    changed_s: float


class Bucket:
    """The objects below an address; whoever may use them is said by AWS's own environment and files."""

    def __init__(self, url: BucketUrl) -> None:
        """Contact nobody yet.

        Raises:
            UnusableEnvironmentError: boto3 is not installed, or its settings are wrong.
        """
        try:
            import boto3  # noqa: PLC0415 - an extra, for those who have a bucket
            from botocore.config import Config  # noqa: PLC0415
        except ImportError as error:
            raise UnusableEnvironmentError(NO_BOTO) from error
        self.url = url
        with _faults(url):
            self._client: Any = boto3.Session().client(  # its own: the default one keeps the credentials it first found
                "s3",
                config=Config(
                    connect_timeout=CONNECT_S,
                    read_timeout=READ_S,
                    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                    max_pool_connections=CONNECTIONS,
                ),
            )
        self.endpoint = str(self._client.meta.endpoint_url)

    def listed(self, below: str) -> Iterator[tuple[str, Listed]]:
        """The names below the warehouse that start so.

        Raises:
            InputError: there is no such bucket.
            UnusableEnvironmentError: no credentials, no right, no answer.
        """
        start = self.url.key(below)
        with _faults(self.url):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.url.bucket, Prefix=start)
            for page in pages:
                for found in page.get("Contents", ()):
                    name = below + found["Key"].removeprefix(start)
                    yield name, Listed(bytes=found["Size"], changed_s=found["LastModified"].timestamp())

    def get(self, name: str) -> bytes | None:
        """The content of an object, None where it is gone. Raises as `listed`."""
        with _faults(self.url):
            try:
                reply = self._client.get_object(Bucket=self.url.bucket, Key=self.url.key(name))
            except self._client.exceptions.ClientError as error:
                if _code(error) in _GONE:
                    return None
                raise
            with reply["Body"] as body:
                return bytes(body.read())

    def put_new(self, name: str, data: bytes) -> bool:
        """Write an object whose key is free; False where another one has it. Raises as `listed`.

        A PUT whose reply was lost is sent again and finds its own object: the same bytes are no other object.
        """
        with _faults(self.url):
            for left in reversed(range(ATTEMPTS)):
                try:
                    self._client.put_object(Bucket=self.url.bucket, Key=self.url.key(name), Body=data, IfNoneMatch="*")
                except self._client.exceptions.ClientError as error:
                    if _code(error) in _TAKEN:
                        return self.get(name) == data
                    if not (left and _code(error) in _RACED):  # S3: another write of the key is under way, ask again
                        raise
                else:
                    return True
        raise AssertionError(ATTEMPTS)

    def delete(self, names: list[str]) -> None:
        """Remove objects; one that is gone already is no mistake. Raises as `listed`."""
        with _faults(self.url):
            for first in range(0, len(names), AT_ONCE):
                keys = [{"Key": self.url.key(name)} for name in names[first : first + AT_ONCE]]
                reply = self._client.delete_objects(Bucket=self.url.bucket, Delete={"Objects": keys, "Quiet": True})
                if wrong := reply.get("Errors"):
                    raise UnusableEnvironmentError(
                        f"{self.url}: {len(wrong)} objects cannot be deleted: {wrong[0]['Code']}; see your rights there"
                    )


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def _faults(url: BucketUrl) -> Iterator[None]:
    """Botocore's exceptions as sentences; none repeats a key or a header."""
    from botocore import exceptions as said  # noqa: PLC0415 - an extra

    try:
        yield
    except said.ClientError as error:
        raise _refused(url, _code(error)) from error
    except (said.NoCredentialsError, said.PartialCredentialsError) as error:
        why = "no credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise UnusableEnvironmentError(f"{url}: {why}") from error
    except (said.HTTPClientError, said.ConnectionError) as error:
        asked = urlsplit(str(error.kwargs.get("endpoint_url", "")))
        where = f"{asked.scheme}://{asked.netloc.rpartition('@')[2]}" if asked.netloc else "the endpoint"
        why = f"no answer from {where}: see AWS_ENDPOINT_URL_S3, AWS_REGION and the network"
        raise UnusableEnvironmentError(f"{url}: {why}") from error
    except (said.BotoCoreError, ValueError) as error:  # a profile that is not there, an endpoint that is none
        raise UnusableEnvironmentError(f"{url}: AWS's settings cannot be used: {error}") from error


def _refused(url: BucketUrl, code: str) -> FleetbenchError:
    if code in _NO_BUCKET:
        return InputError((f"{url}: there is no bucket {url.bucket}: make it first, or give another --warehouse",))
    if code in _DENIED:
        why = "its credentials may list, read, write and delete there"
        return UnusableEnvironmentError(f"{url}: access denied ({code}): see that {why}")
    return UnusableEnvironmentError(f"{url}: the store refuses with {code}: try again, or see its own log")
