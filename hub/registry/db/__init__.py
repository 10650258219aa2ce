"""The tables, the connection to SQLite or PostgreSQL, and the order in which rows are locked.

Imports: sqlalchemy and the words of `hub`.
The doors are `database.Database` and the rows of `models`.
"""
