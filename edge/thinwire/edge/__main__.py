"""`python -m thinwire.edge` is `thinwire`."""

import sys

from thinwire.edge.cli import main

if __name__ == "__main__":
    sys.exit(main())
