"""Who may do what: actors, roles, actions, and the check of each against rows.

Imports: `db` and `values`.
The door is `permissions.require`.
"""
