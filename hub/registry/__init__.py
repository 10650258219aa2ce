"""The registry: versions, blobs, names and rights, in a database and a store.  Knows nothing of HTTP.

    service -> upkeep -> library -> accounts -> events -> context -> search, storage, rights -> db -> values

Imports: `fit` and below, sqlalchemy; never `hub.client` and never flask.
The door is `service.Registry`.
"""
