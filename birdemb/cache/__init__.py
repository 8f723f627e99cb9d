"""The cache of embeddings: plain NumPy shards, an index that is made from them, and what keeps them in order.

In the folder of the cache, for each identity a folder ``<encoder>-<key>`` with

- ``identity.json``: all that the embeddings depend on; the key is its hash
- ``shards/<id>.npy``: embeddings, float16 or float32, one row a window
- ``shards/<id>.logits.npy``: the encoder's own logits for the same windows, where they are kept
- ``shards/<id>.json``: which rows belong to which recording, by the hash of its content
- ``index.sqlite``: all of those JSON files in one; made from them whenever it is behind

What reads a cache as pandas tables is in `birdemb.cache.view`, and not imported here: worker processes do not need it.
"""

from birdemb.cache.form import CACHE_FORMAT, narrow
from birdemb.cache.store import CachedRecording, EmbeddingCache
from birdemb.cache.writer import CacheWriter

__all__ = ["CACHE_FORMAT", "CacheWriter", "CachedRecording", "EmbeddingCache", "narrow"]
