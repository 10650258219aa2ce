"""One adapter: its configuration, tensors, files and manifest, from a folder or from storage.

Imports: `formats` and the words of `hub`.
The door is `files.build_manifest`: it reads, checks and hashes whatever holds an adapter's files.
"""
