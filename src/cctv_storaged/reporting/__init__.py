"""The retention report: what each camera's rule promises, what is kept of it, and what is missing and why."""
