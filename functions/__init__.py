"""One folder per deployable function, and the host that runs any set of them."""
