"""`python -m mlops_plugin.cli`: the `mlops` command where it is not installed."""

import sys

from mlops_plugin.cli import main

sys.exit(main())
