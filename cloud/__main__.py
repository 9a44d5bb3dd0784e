"""`python -m cloud` is `thinwire-cloud`."""

import sys

from cloud.cli import main

sys.exit(main())
