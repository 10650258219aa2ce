"""huggingface_hub's own tests against a lorahub server: `python -m tests.hf.suite` (`make test-hf-suite`).

sources.py      the tests, out of the release's source package, and an interpreter to run them with
fixtures.py     becomes their conftest.py: which server, which users, what they expect around them
refused.py      what this server does not do by design, with the reason
verdict.py      passed, refused, failed: what a run came to
"""
