"""Models that others bring: files in formats of installed packages, and code of the deployment itself."""
