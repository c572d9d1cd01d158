"""The record of dispatches: tables, store and migrations."""
