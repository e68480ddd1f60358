"""Reading back what is stored, all of it once per rotation, and mending what is not what it was."""
