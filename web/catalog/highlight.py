"""Syntax colours for code blocks: a few languages, within bounds, as `<span class="tok-…">`."""

from __future__ import annotations

from markupsafe import escape
from pygments import lex
from pygments.lexer import Lexer
from pygments.lexers import BashLexer, DiffLexer, IniLexer, JsonLexer, PythonLexer, YamlLexer
from pygments.token import STANDARD_TYPES

MAX_HIGHLIGHTED_CHARS = 8 * 1024
"""Lexers are regular expressions, and some take the square of the length over hostile text: longer code stays plain."""

MAX_CARD_CHARS = 16 * 1024
"""Of all code blocks of one card together: about two seconds at the worst."""

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


class Budget:
    """The code that one card may have in colours; what goes beyond stays plain."""

    def __init__(self, characters: int = MAX_CARD_CHARS) -> None:
        self._left = characters

    def highlight(self, code: str, language: str) -> str:
        if len(code) > self._left:
            return str(escape(code))
        self._left -= len(code)
        return highlight(code, language)


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
