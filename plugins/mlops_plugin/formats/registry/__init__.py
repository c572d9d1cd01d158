"""Models of an MLflow registry: `models:/churn@champion` resolved over REST, and its files in a cache."""
