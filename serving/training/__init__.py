"""Training and evaluation of the models in the catalogue. Offline work: nothing here runs in a server."""
