"""Words and figures made of findings."""
