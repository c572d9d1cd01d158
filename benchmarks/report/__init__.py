"""What was measured last, and docs/performance.md, which is made of it."""
