"""What happened, and who is told: the audit log, the outbox, webhooks, and requests to other hosts.

Imports: `context`, `rights` and below.
The door is `audit.record`.
"""
