"""The core services of the marketplace and the router, its data plane."""
