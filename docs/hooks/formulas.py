"""Formulas as MathML, which browsers set by themselves: no script, no fonts from elsewhere."""

from typing import Any

from latex2mathml.converter import convert


def to_mathml(source: str, *_: Any, **__: Any) -> str:
    """A fence of LaTeX as one displayed formula. Other arguments are superfences' own."""
    return f'<div class="formula">{convert(source, display="block")}</div>'
