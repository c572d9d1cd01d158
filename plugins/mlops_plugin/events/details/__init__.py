"""What an event knows beside its columns: a record for each kind of event, written and read in one place."""
