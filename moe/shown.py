"""How a large value shows itself: in one line, and in a notebook as a small table."""

from __future__ import annotations

from html import escape
from typing import Any


class Shown:
    """Base of values too large to print whole: their class says a few facts of them."""

    def _facts(self) -> dict[str, Any]:
        """Name -> value, the unit in the name; None where there is none."""
        raise NotImplementedError

    def _told(self) -> dict[str, str]:
        facts = {name: value for name, value in self._facts().items() if value is not None}
        return {name: f"{x:.6g}" if isinstance(x, float) else str(x) for name, x in facts.items()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={text}' for name, text in self._told().items())})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(x)}</td></tr>" for name, x in self._told().items())
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"
