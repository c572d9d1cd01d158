"""Which failures a retry cannot mend; the operators tell Airflow, the runner closes the dispatch."""

from __future__ import annotations

from mlops_plugin.errors import AccountingError, KeyColumnError, MlopsError, UnsupportedType
from mlops_plugin.events.records import Step

# `collect` reads the source anew, whose rows may have been mended meanwhile. The steps after it have the
# rows, the artifact and the configuration that the dispatch has pinned: they find again what they found.
_OF_PINNED_ROWS = (KeyColumnError, UnsupportedType)


def is_final(error: BaseException, step: Step) -> bool:
    """Whether this step would fail in the same way again, however long one waits."""
    if not isinstance(error, MlopsError):
        return False
    if step in ("log", "infer", "persist") and isinstance(error, _OF_PINNED_ROWS):
        return True
    # In `persist` another process may have been at the table.
    return error.is_final or (step == "infer" and isinstance(error, AccountingError))
