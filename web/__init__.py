"""HTTP on a registry: the JSON API, the Hugging Face wire and the catalog.

    server -> app -> catalog, hf -> api -> xet, http

Imports: `hub.registry` and below, flask; never `hub.client`.
The door is `app.create_app`; `server.serve` runs it.
"""
