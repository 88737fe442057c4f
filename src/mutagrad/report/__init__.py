"""Words and figures made of findings; importing it teaches findings to print in sentences and to draw themselves."""

from mutagrad.report import figures, text

__all__ = ["figures", "text"]
