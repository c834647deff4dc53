"""The histories of many replicas as one: what each tells of its own traffic, kept apart and added up when it is read.

A pool has the newest contribution of each replica, so joining pools is a matter of choosing: in any order, and however
often, the result is the same (a state-based CRDT: a map of last-writer-wins registers; Shapiro, Preguiça, Baquero and
Zawirski, "Conflict-free Replicated Data Types", SSS 2011).  Only what is read is added up, in the order of the
replicas' names, so equal pools give equal histories to the last bit.
"""

from preheat._pool.contributions import Contribution, Head, contribute, newest
from preheat._pool.folding import Folded, fold

__all__ = ["Contribution", "Folded", "Head", "contribute", "fold", "newest"]
