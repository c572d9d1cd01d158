"""Models that MLflow has logged: folders and archives with an `MLmodel` file, read without MLflow."""
