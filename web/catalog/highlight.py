"""Syntax colours for code blocks: a few languages, within bounds, as `<span class="tok-…">`."""

from __future__ import annotations

from markupsafe import escape
from pygments import lex
from pygments.lexer import Lexer
from pygments.lexers import BashLexer, DiffLexer, IniLexer, JsonLexer, PythonLexer, YamlLexer
from pygments.token import STANDARD_TYPES

MAX_HIGHLIGHTED_CHARS = 16 * 1024
"""Lexers are regular expressions, and some of those take long over hostile text: longer code stays plain."""

_LEXERS: dict[str, type[Lexer]] = {
    "python": PythonLexer,
    "py": PythonLexer,
    "bash": BashLexer,
    "sh": BashLexer,
    "shell": BashLexer,
    "console": BashLexer,
    "json": JsonLexer,
    "yaml": YamlLexer,
    "yml": YamlLexer,
    "diff": DiffLexer,
    "ini": IniLexer,
    "toml": IniLexer,
}


def highlight(code: str, language: str) -> str:
    """Return `code` as escaped HTML, with spans if the language is known and the code short.  Keeps every character."""
    lexer = _LEXERS.get(language.strip().lower())
    if lexer is None or len(code) > MAX_HIGHLIGHTED_CHARS:
        return str(escape(code))
    parts: list[str] = []
    for kind, text in lex(code, lexer(stripnl=False, ensurenl=False)):
        short = STANDARD_TYPES.get(kind, "")
        parts.append(f'<span class="tok-{short}">{escape(text)}</span>' if short else str(escape(text)))
    return "".join(parts)
