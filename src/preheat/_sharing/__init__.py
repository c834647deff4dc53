"""A cache that processes share on a server, without ever keeping a stale value; see `protocol`.  Pure."""
