"""An operator's work: collection, the check of rows against blobs, backup and restore.

Imports: `library` and below.
"""
