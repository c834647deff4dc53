"""A contribution <-> bytes: a head that says whose it is, and a body of raw columns, checked by their digest."""

from __future__ import annotations

import struct

import msgspec
import xxhash

from preheat._pool.contributions import MOST_BYTES, MOST_NAME_LENGTH, Contribution, Head
from preheat._store.encoding import decode_history, encode_history
from preheat.errors import StoreCorrupt

MOST_BODY_BYTES = 2 * MOST_BYTES
_HEAD = struct.Struct("<HQQQ")  # length of the name, version, digest, length of the body
HEAD_BYTES = _HEAD.size


class _Body(msgspec.Struct, array_like=True):
    missed: float
    sections: dict[str, bytes]


def encode_contribution(contribution: Contribution) -> tuple[Head, bytes]:
    """The head of `contribution`, and its body."""
    sections = {name: bytes(section) for name, section in encode_history(contribution.history).items()}
    body = msgspec.msgpack.encode(_Body(contribution.missed, sections))
    replica, version = contribution.replica, contribution.version
    return Head(replica, version, digest_of(replica, version, body), len(body)), body


def decode_contribution(head: Head, body: bytes) -> Contribution:
    """The contribution of `head` and `body`.

    Raises:
        StoreCorrupt: It is damaged, or too large.
    """
    demand_intact(head, body)
    try:
        read = msgspec.msgpack.decode(body, type=_Body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise StoreCorrupt(f"the contribution of {head.replica} can't be read: {error}") from None
    if not 0 <= read.missed < 2.0**64:
        raise StoreCorrupt(f"the contribution of {head.replica} missed {read.missed}")
    return Contribution(head.replica, head.version, decode_history(read.sections), read.missed)


def demand_intact(head: Head, body: bytes) -> None:
    """That `body` is the one that `head` speaks of, to the last bit.

    Raises:
        StoreCorrupt: It isn't.
    """
    if len(body) > MOST_BODY_BYTES or len(body) != head.size_bytes:
        raise StoreCorrupt(f"the contribution of {head.replica} is of {len(body)} bytes, which can't be")
    if digest_of(head.replica, head.version, body) != head.digest:
        raise StoreCorrupt(f"the contribution of {head.replica} is damaged")


def encode_head(head: Head) -> bytes:
    """`head` in as many bytes as `HEAD_BYTES` and its name take."""
    name = head.replica.encode()
    return _HEAD.pack(len(name), head.version, head.digest, head.size_bytes) + name


def name_bytes(packed: bytes) -> int:
    """How long the name is that follows the first `HEAD_BYTES` of a head.

    Raises:
        StoreCorrupt: They are none.
    """
    if len(packed) != HEAD_BYTES:
        raise StoreCorrupt("a contribution was cut")
    length = int(_HEAD.unpack(packed)[0])
    if not 0 < length <= 4 * MOST_NAME_LENGTH:
        raise StoreCorrupt(f"a replica's name of {length} bytes can't be")
    return length


def decode_head(packed: bytes, name: bytes) -> Head:
    """The head in `packed`, of `HEAD_BYTES`, and its `name`.

    Raises:
        StoreCorrupt: They are none.
    """
    _, version, digest, size_bytes = _HEAD.unpack(packed)
    try:
        replica = name.decode()
    except UnicodeDecodeError:
        raise StoreCorrupt("a replica's name is no text") from None
    if size_bytes > MOST_BODY_BYTES:
        raise StoreCorrupt(f"the contribution of {replica} would take {size_bytes} bytes")
    return Head(replica, version, digest, size_bytes)


def digest_of(replica: str, version: int, body: bytes) -> int:
    """64 bits of all that is told."""
    digest = xxhash.xxh3_64(replica.encode())
    digest.update(struct.pack("<Q", version))
    digest.update(body)
    return digest.intdigest()
