"""A code-search service on the four caches of preheat, and the demo that restarts it cold and warm."""
