"""Studies in one request: files of any kind, or of one."""
