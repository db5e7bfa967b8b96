"""Texts from records, for a terminal."""


def safe(text: str) -> str:
    """Returns a text whose control characters are written out, as in Python's strings.

    Anyone who may write a record can choose its exp_id. An escape sequence in it would change what
    a terminal shows, or worse.
    """
    if text.isprintable():
        return text
    return ''.join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
