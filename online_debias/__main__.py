"""`python -m online_debias` is the command `online-debias`."""

import sys

from online_debias.cli.main import main

sys.exit(main())
