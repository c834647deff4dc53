"""Why something is not restored: the reasons by which it is counted."""

from __future__ import annotations


class Refused(Exception):
    """Something is not restored; the message is the reason, one of those below."""


NOT_A_FILE = "not a plain file"
FOREIGN = "belongs to somebody else"
WRITABLE = "others may write to it"
TOO_LARGE = "too large"
NO_SNAPSHOT = "no snapshot"
OTHER_FORMAT = "other format"
DAMAGED = "damaged"
OTHER_CODEC = "other codec"
OTHER_APPLICATION = "other application version"
OTHER_CACHE = "other cache"
FROM_THE_FUTURE = "from the future"
TOO_OLD = "too old"
NO_LOG = "its log of erasures is missing or damaged"
OTHER_VERSION = "other version of the item"
EXPIRED = "expired"
ERASED = "erased"
CAN_NOT_BE_READ = "can't be read"
CAN_NOT_BE_ERASED = "what was erased of it can't be written down"
CAN_NOT_BE_DECODED = "can't be decoded"
CAN_NOT_BE_ENCODED = "can't be kept as it is"
