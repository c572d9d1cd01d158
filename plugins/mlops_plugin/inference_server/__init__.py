"""`mlops serve`: single predictions for programs, in the Open Inference Protocol."""
