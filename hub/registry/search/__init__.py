"""The index that searches read: the terms of an adapter as bitmaps, and its text.

Imports: `db`.
The door is `facets.reindexed`, which keeps the index true around a change.
"""
