"""Trained models from files, one runtime per format."""
