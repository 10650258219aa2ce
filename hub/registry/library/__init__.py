"""Adapters and all that belongs to them: versions, aliases, drafts, files, blobs, uploads, bases.

Imports: `accounts` and below.
The doors are `publish.publish` for writers and `resolving` for readers.
"""
