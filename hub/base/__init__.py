"""One base model, read from its configuration and tensor headers: architecture, shapes, fingerprint, sketch.

Imports: `formats` and the words of `hub`; no weights are loaded.
The door is `spec.BaseSpec`.
"""
