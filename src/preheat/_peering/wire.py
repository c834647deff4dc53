"""What one replica asks another, in JSON, and what that answers, in MessagePack, with values as their codec has them.

Instants don't travel, for clocks differ: an answer says how old a value is and how long it may still be served, and
whoever takes it counts both from when it asked, so that no life becomes longer on the way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple

import msgspec
import xxhash
from msgspec import Meta

SCHEMA = "preheat-values/1"
MEDIA_TYPE = "application/vnd.msgpack"

MOST_KEYS = 256
MOST_KEY_LENGTH = 4096
MOST_QUESTION_BYTES = 2**19
MOST_VALUE_BYTES = 2**22
MOST_ANSWER_BYTES = 2**23
"""Bytes of the values in one answer; what goes beyond is left out."""

MOST_RAW_BYTES = MOST_ANSWER_BYTES + 2**21
"""Bytes of an answer with everything around the values."""

DAMAGED = "damaged"
OTHER_VERSION = "other version"

_Text = Annotated[str, Meta(max_length=256)]
_Key = Annotated[str, Meta(max_length=MOST_KEY_LENGTH)]
_Seconds = Annotated[float, Meta(ge=0)]


class Doubtful(Exception):
    """Nothing of an answer is taken; the message is the reason."""


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """Which values are wanted, and how they have to be written."""

    cache: Annotated[str, Meta(max_length=256, description="Name of the cache.")]
    codec: Annotated[str, Meta(max_length=256, description="Name of its codec.")]
    codec_version: Annotated[str, Meta(max_length=256, description="Version of its codec.")]
    application_version: Annotated[str, Meta(max_length=256, description="Version of the application.")]
    keys: Annotated[list[_Key], Meta(max_length=MOST_KEYS, description="Their keys.")]

    @property
    def written_as(self) -> tuple[str, str, str, str]:
        """What has to be the same on both sides."""
        return self.cache, self.codec, self.codec_version, self.application_version


class Given(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """One value: the position of its key in the question, what the cache says of it, its bytes, and a checksum."""

    at: Annotated[int, Meta(ge=0, lt=MOST_KEYS)]
    version: _Key
    age_seconds: _Seconds
    remaining_seconds: _Seconds | None
    size_bytes: Annotated[int, Meta(ge=0, lt=2**40)]
    data: Annotated[bytes, Meta(max_length=MOST_VALUE_BYTES)]
    checksum: Annotated[bytes, Meta(min_length=16, max_length=16)]


class Answer(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What a replica, which has a name, gives of what it was asked for."""

    schema: _Text
    replica: _Text
    written_as: tuple[_Text, _Text, _Text, _Text]
    values: Annotated[list[Given], Meta(max_length=MOST_KEYS)]


class Arrived(NamedTuple):
    """A value that a peer gave, not decoded yet; instants in Unix seconds, by the clock of this machine."""

    key: str
    version: str
    data: bytes
    size_bytes: int
    made_at: float
    expires_at: float


def checksum_of(key: str, given: Given) -> bytes:
    """Of a value with everything that is said of it, its key included: (16,) bytes of XXH3."""
    said = (key, given.version, given.age_seconds, given.remaining_seconds, given.size_bytes, given.data)
    return xxhash.xxh3_128_digest(msgspec.msgpack.encode(said))


def in_parts(asked: Asked) -> Iterator[Asked]:
    """`asked` in questions of bounded size; without keys that can't be written, or are too long."""
    keys: list[str] = []
    size_bytes = 0
    for key in asked.keys:
        if len(key) > MOST_KEY_LENGTH or not _is_writable(key):
            continue
        size_bytes += len(msgspec.json.encode(key)) + 1
        if len(keys) == MOST_KEYS or (keys and size_bytes > MOST_QUESTION_BYTES):
            yield msgspec.structs.replace(asked, keys=keys)
            keys, size_bytes = [], 0
        keys.append(key)
    if keys:
        yield msgspec.structs.replace(asked, keys=keys)


def write_question(asked: Asked) -> bytes:
    """`asked` in JSON."""
    return msgspec.json.encode(asked)


def _is_writable(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def read_answer(raw: bytes, asked: Asked, asked_at: float) -> tuple[str, list[Arrived]]:
    """The name of the replica that answered `asked`, and what it gives; `asked_at` is in Unix seconds.

    Raises:
        Doubtful: It is not wholly an answer to this question, unharmed.
    """
    try:
        answer = _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Doubtful(DAMAGED) from None
    if answer.schema != SCHEMA or answer.written_as != asked.written_as:
        raise Doubtful(OTHER_VERSION)
    positions = [given.at for given in answer.values]
    if len(set(positions)) < len(positions) or max(positions, default=0) >= max(1, len(asked.keys)):
        raise Doubtful(DAMAGED)
    return answer.replica, [_arrived(asked.keys[given.at], given, asked_at) for given in answer.values]


def _arrived(key: str, given: Given, asked_at: float) -> Arrived:
    remaining = math.inf if given.remaining_seconds is None else given.remaining_seconds
    if given.checksum != checksum_of(key, given) or not math.isfinite(given.age_seconds) or math.isnan(remaining):
        raise Doubtful(DAMAGED)
    expires_at = asked_at + remaining
    return Arrived(key, given.version, given.data, given.size_bytes, asked_at - given.age_seconds, expires_at)


def write_answer(replica: str, asked: Asked, values: Sequence[Given]) -> bytes:
    """The answer to `asked`."""
    return _ENCODER.encode(Answer(SCHEMA, replica, asked.written_as, list(values)))


def sealed(key: str, given: Given) -> Given:
    """`given` with its checksum."""
    return msgspec.structs.replace(given, checksum=checksum_of(key, given))


_ENCODER, _DECODER = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Answer)
