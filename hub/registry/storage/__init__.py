"""Where blobs live: a folder or S3, behind one protocol, with no knowledge of rows.

Imports: `values`, `hub.formats`, boto3 where S3 is used.
The door is `opening.open_store`.
"""
