"""The headers of scans, one module a family of formats, checked before a library relies on what they say."""
