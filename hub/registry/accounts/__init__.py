"""Users, tokens, sessions, namespaces and what they may use: quotas and rates.

Imports: `events` and below.
"""
