"""What every route shares: who asks, how much they may, how an error looks, how a file is sent.

Imports: `hub.registry`, flask.
No single door: each module is one concern of a request.
"""
