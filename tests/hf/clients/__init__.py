"""What a stock Hugging Face client must be able to do against lorahub, command by command.

Run by each client's own interpreter, in the project's folder, with HF_ENDPOINT and HF_TOKEN set and nothing else:

    python -m tests.hf.clients world.json results.json

Only the standard library and huggingface_hub are imported.  Each command uses adapters of its own, so that one failure
stays one.
"""

from tests.hf.clients import downloads, failures, repositories, uploads
from tests.hf.clients.world import COMMANDS as _AS_IMPORTED

COMMANDS = {
    title: run
    for module in (downloads, failures, repositories, uploads)
    for title, run in _AS_IMPORTED.items()
    if run.__module__ == module.__name__
}
"""By title, in the order of the table, whichever module was imported first."""

OK, ABSENT = "ok", "not in this version"
"""What a command comes to; anything else is a traceback."""

__all__ = ["ABSENT", "COMMANDS", "OK", "downloads", "failures", "repositories", "uploads"]
