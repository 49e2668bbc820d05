"""An OCT image in, its prediction out in the same response, where that does not take too long."""
