"""`python -m thinwire.cloud` is `thinwire-cloud`."""

import sys

from thinwire.cloud.cli import main

sys.exit(main())
