"""Looking at a host as the daemon would meet it, and saying of each thing that is wrong what mends it."""
