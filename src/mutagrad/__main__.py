"""``python -m mutagrad``, as the command `mutagrad`."""

import sys

from mutagrad.cli import main

if __name__ == "__main__":
    sys.exit(main())
