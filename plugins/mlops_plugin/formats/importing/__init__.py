"""Importing scikit-learn and skops without what a model does not need."""
