"""The clean-up of a reply before any extraction, for text and for programs alike."""

import re

_LINE_END = re.compile(r"\r*\n|\r")  # \r\r\n: a file that was translated twice
_UNSEEN = "\ufeff\u200b\u200c\u200d\u2060"  # byte order mark, zero-width characters


def plain_lines(reply: str) -> str:
    """The reply with a newline for every line end (CRLF, a lone CR), and without unseen characters at its beginning."""
    return _LINE_END.sub("\n", reply.lstrip(_UNSEEN))
