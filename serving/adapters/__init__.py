"""Hosts of predictors. `oip` is common to all; each other module fits it to one server framework."""
