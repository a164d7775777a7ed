"""``lookm eval``: how well a model still answers when its cache is compressed."""
