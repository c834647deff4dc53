"""Values from peers: a warm replica gives what it holds to one that warms up, before that asks the origin.

    wire        what is asked and answered, in bytes, and all doubts about an answer; pure
    choice      which peer is asked, and which no more; pure
    layer       where a cache finds what was given, as in a snapshot
    giving      what a warm replica gives, and when it gives nothing
    asking      one request to one peer
    taking      the peers of one run
    service     all of it, for one service

Nothing depends on them: what no peer gives, or gives in a doubtful way, goes to its loader.
"""

from preheat._peering.giving import Busy, Giver, OtherVersion, UnknownValues
from preheat._peering.layer import Layer
from preheat._peering.service import Peering
from preheat._peering.taking import Taker
from preheat._peering.wire import Asked

__all__ = ["Asked", "Busy", "Giver", "Layer", "OtherVersion", "Peering", "Taker", "UnknownValues"]
