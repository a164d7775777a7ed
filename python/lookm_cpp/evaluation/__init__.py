"""``lookm eval``: how much of its answers a model keeps when its cache is compressed."""
