"""An extension of griffe: what looks like HTML in a docstring is text."""

import re

import griffe

OUTSIDE_CODE = re.compile(r'(`[^`]*`)|<(?=[A-Za-z_/])')


class PlainAngles(griffe.Extension):
    """Escapes `<` before a name, as in <host>:<port>, outside of code."""

    def on_instance(self, *, obj, **kwargs):
        """Changes the docstring of an object that griffe has read."""
        if obj.docstring:
            obj.docstring.value = OUTSIDE_CODE.sub(
                lambda match: match.group(1) or '&lt;', obj.docstring.value
            )
