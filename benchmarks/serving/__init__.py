"""One row over HTTP: `mlops serve` and the Showroom's API beside MLServer and a lean application."""
