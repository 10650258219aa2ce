"""Model cards that try to run a script, to call home, or to cost a fortune."""

from __future__ import annotations

CANARY = "http://127.0.0.1:9/canary"
"""Nothing listens there; a request to it would show that a card reached outside."""

SCRIPTS = {
    "script element": "<script>window.pwned = 1</script>",
    "script from elsewhere": f'<script src="{CANARY}.js"></script>',
    "event handler": '<img src="x" onerror="window.pwned = 1">',
    "event handler without quotes": "<img src=x onerror=window.pwned=1>",
    "handler on a kept element": '<p onclick="window.pwned = 1" onmouseover="window.pwned = 1">hover</p>',
    "svg": '<svg onload="window.pwned = 1"><animate onbegin="window.pwned = 1" attributeName="x" dur="1s"/></svg>',
    "math": "<math><mtext><table><mglyph><style><img src=x onerror=window.pwned=1></style></mglyph></table></math>",
    "javascript link": "[click](javascript:window.pwned=1)",
    "javascript link in HTML": '<a href="javascript:window.pwned=1">click</a>',
    "javascript link with entities": '<a href="java&#x09;script:window.pwned=1">click</a>',
    "javascript link in capitals": '<a href="  JaVaScRiPt:window.pwned=1">click</a>',
    "data link": '<a href="data:text/html;base64,PHNjcmlwdD53aW5kb3cucHduZWQ9MTwvc2NyaXB0Pg==">click</a>',
    "vbscript link": "[click](vbscript:window.pwned=1)",
    "iframe": f'<iframe src="{CANARY}" srcdoc="<script>parent.pwned=1</script>"></iframe>',
    "object and embed": f'<object data="{CANARY}"></object><embed src="{CANARY}">',
    "form": f'<form action="{CANARY}"><input autofocus onfocus="window.pwned=1"><button>Log in</button></form>',
    "meta refresh": f'<meta http-equiv="refresh" content="0;url={CANARY}">',
    "base element": f'<base href="{CANARY}/">',
    "style element": f"<style>@import url('{CANARY}.css'); body {{ display: none }}</style>",
    "style attribute": f'<p style="background:url({CANARY}.png); position: fixed; inset: 0">over the page</p>',
    "link element": f'<link rel="stylesheet" href="{CANARY}.css">',
    "broken nesting": '<noscript><p title="</noscript><img src=x onerror=window.pwned=1>">',
    "comment trick": "<!--><img src=x onerror=window.pwned=1>-->",
    "fence that closes a tag": '```"><script>window.pwned=1</script>\nx\n```',
    "image title": '![x](x.png "\\" onerror=window.pwned=1 x=\\"")',
    "table cell": "|a|\n|-|\n|<img src=x onerror=window.pwned=1>|",
    "template": "<template><script>window.pwned=1</script></template>",
    "details toggle": '<details open ontoggle="window.pwned=1"><summary>s</summary></details>',
    "video": f'<video src="{CANARY}.mp4" poster="{CANARY}.png" onerror="window.pwned=1" autoplay></video>',
}

REMOTE = {
    "remote image": f"![pixel]({CANARY}.png)",
    "remote image in HTML": f'<img src="{CANARY}.png" alt="pixel">',
    "protocol-relative image": "![pixel](//127.0.0.1:9/canary.png)",
    "backslashes": "![pixel](/\\127.0.0.1:9/canary.png)",
    "image by reference": f"![pixel][p]\n\n[p]: {CANARY}.png",
    "srcset": f'<img srcset="{CANARY}.png 1x, {CANARY}.png 2x" alt="pixel">',
    "picture": f'<picture><source srcset="{CANARY}.png"><img src="x.png" alt="x"></picture>',
    "remote audio": f'<audio src="{CANARY}.ogg" autoplay></audio>',
    "background attribute": f'<table background="{CANARY}.png"><tr><td background="{CANARY}.png">x</td></tr></table>',
    "input image": f'<input type="image" src="{CANARY}.png">',
    "ping": f'<a href="https://example.com" ping="{CANARY}">x</a>',
}

PLACE_TAKERS = {
    "an id of the page": '<h2 id="main">x</h2><a id="status" name="status">x</a>',
    "a class of the page": '<div class="note bad visually-hidden">x</div>',
    "a copy button": '<button data-copy="main">x</button>',
}

FRAGMENTS = [
    *("\n", "\n\n", "\t", " ", "\x00", "```\n", "\n|-|-|\n", "* ", "> ", "---\n", ": ", "JAVA\tSCRIPT:"),
    *("img src=x onerror=window.pwned=1", "a href=javascript:window.pwned=1", "svg onload=window.pwned=1"),
    *[
        "<",
        ">",
        "<<",
        "</",
        "/>",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<?",
        '"',
        "'",
        "`",
        "=",
        "&",
        "&lt;",
        "&#x3c;",
        "&#60;script&#62;",
        "\\",
        "[",
        "](",
        ")",
        "![",
        "#",
        "|",
        "../",
    ],
    *[
        "script",
        "style",
        "math",
        "template",
        "noscript",
        "textarea",
        "title",
        "javascript:",
        "data:text/html,",
        "iframe",
        "srcdoc=",
    ],
    *[
        "//evil.example",
        "https://example.com",
        "notes.md",
        "images/loss%20curve.png",
        "id=main",
        "class=note",
        "onclick=x",
    ],
]
"""What hostile cards are made of, for cards that nobody thought of."""


def corpus() -> dict[str, str]:
    """Return every hostile card by name."""
    return {**SCRIPTS, **REMOTE, **PLACE_TAKERS}


def costly(size: int) -> dict[str, str]:
    """Return cards of about `size` bytes that are cheap to write and dear to render."""
    return {
        "open brackets": "[" * size,
        "open images": "![" * (size // 2),
        "emphasis": "*a " * (size // 3),
        "strikethrough": "~~a" * (size // 3),
        "quotes": ">" * size,
        "lists": "- " * (size // 2),
        "angle brackets": "<" * size,
        "nested elements": "<div>" * (size // 5),
        "a label used often": "[a]: http://x/" + "y" * (size // 2) + "\n\n" + "[a]" * (size // 6),
        "a wide table": "|a" * (size // 8) + "|\n" + "|-" * (size // 8) + "|\n" + "|\n" * (size // 2),
        "a python fence": "```python\n" + 'f"{' * (size // 4) + "\n```\n",
        "a shell fence": "```bash\n" + "$((" * (size // 4) + "\n```\n",
        "headings": "# a\n" * (size // 4),
    }
