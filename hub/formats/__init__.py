"""Bytes on disk and in uploads: JSON, safetensors headers, YAML front matter, patterns, NF4 codes, atomic files.

Every reader is bounded in time and memory, and knows nothing of adapters or bases.
Imports: the standard library and `hub.errors`; only PyYAML is loaded, when a card is read.
No single door: each module is one format.
"""
