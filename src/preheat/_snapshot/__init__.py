"""Values on disk, checksummed and mapped back: what a cache held, so that a restart has it at memory speed.

Per cache a stack of files, each written once and never changed (`stack`); a log of what was erased since
(`erasures`); the folder they are in (`folder`).  `keeper` saves now and then for a service.

What is found is doubted first: whatever is not exactly what was written, by whom and for whom it should have been, is
not restored, counted by its reason, and goes back to its loader.
"""

from preheat._snapshot.folder import SnapshotFolder
from preheat._snapshot.forgetting import forget_values
from preheat._snapshot.keeper import SnapshotKeeper
from preheat._snapshot.stack import CacheSnapshot, Rules

__all__ = ["CacheSnapshot", "Rules", "SnapshotFolder", "SnapshotKeeper", "forget_values"]
