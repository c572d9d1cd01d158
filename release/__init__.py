"""Makes what is released: the sdist and the wheel (`make dist`)."""
