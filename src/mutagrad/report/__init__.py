"""Words and figures made of findings; importing it teaches findings to print in sentences and to draw themselves."""

from mutagrad.report import figures, landscape, text

__all__ = ["figures", "landscape", "text"]
