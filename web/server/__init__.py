"""`lorahub serve`: processes, sockets, the log, and the thread that delivers webhooks.

Imports: `app` and below, gunicorn or waitress.
The door is `serve.serve`.
"""
