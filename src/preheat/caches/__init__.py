"""Four caches that AI and search services need, ready to be warmed, and good caches without that.

Each is bounded in bytes, thread-safe, and loads a miss once however many ask.  `get_*_cache_warmup_candidates` say
what history would have one of them hold.
"""

from preheat.caches._loading import LoadingCache
from preheat.caches.embedding import EmbeddingCache, get_embedding_cache_warmup_candidates
from preheat.caches.file import FileCache, get_file_cache_warmup_candidates
from preheat.caches.project import ProjectCache, get_project_cache_warmup_candidates
from preheat.caches.search import SearchCache, get_search_cache_warmup_candidates

__all__ = [
    "EmbeddingCache",
    "FileCache",
    "LoadingCache",
    "ProjectCache",
    "SearchCache",
    "get_embedding_cache_warmup_candidates",
    "get_file_cache_warmup_candidates",
    "get_project_cache_warmup_candidates",
    "get_search_cache_warmup_candidates",
]
