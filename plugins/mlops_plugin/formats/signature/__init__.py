"""What a model was trained on and what it answered then: written, read, and asked again."""
