"""A history as JSON lines, to be looked at, carried elsewhere and read again.

`lines` says what stands in them, `writing` and `reading` go there and back.  Nothing is lost on the way: numbers are
written so that they are read as what they were.
"""

from preheat._portable.reading import Imported, read_history
from preheat._portable.writing import history_lines

__all__ = ["Imported", "history_lines", "read_history"]
