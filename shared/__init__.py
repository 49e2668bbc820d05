"""What functions and model servers both use: events, runtime, storage, database, imaging, inference protocol."""
