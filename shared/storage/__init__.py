"""Object storage behind one port, with an S3 and a local-folder adapter."""
