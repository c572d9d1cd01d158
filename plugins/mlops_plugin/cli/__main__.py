"""`python -m mlops_plugin.cli`: the `mlops` command if it is not installed."""

import sys

from mlops_plugin.cli import main

sys.exit(main())
