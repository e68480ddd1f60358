"""What is handed over: manifest, signature, sheet, package, and the check of a package. Needs no daemon.

docs/reference/evidence.md is the format; what is written here and what is said there must agree.
"""
