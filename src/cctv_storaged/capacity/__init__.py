"""Room on the volumes: how much is left, what may go for it and in which order, and for how long it lasts."""
