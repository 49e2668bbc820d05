"""The Open Inference Protocol v2: wire types, tensors, claim checks, a client, and a local server process."""
