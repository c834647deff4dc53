"""Bulk warm-up of a cache that processes share: a plan in shards, a board that hands them out, workers that run them.

`sharding`, `steps` and `adding` decide, `board` asks the server, `warming` and `worker` do the work.  What keeps
workers alive is in `preheat.bulk`.
"""
