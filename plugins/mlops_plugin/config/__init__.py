"""The configuration: its types and the reader that turns YAML into them."""
