"""Talks to a registry, and keeps what came from one: connection, transfers, the local cache.

Imports: `fit` and below, httpx2 and huggingface_hub; never `hub.registry`.
The doors are `sync` (push, resolve, fetch) and `api.Client` (one method per call of the JSON API).
"""
