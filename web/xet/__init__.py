"""Xet's formats: chunks in xorbs, files in shards, and where both are kept until they are whole.

Imports: `http` and below; no routes (those are in `hf`).
"""
