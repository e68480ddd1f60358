"""Retention: what is too old goes, everywhere; what is promised stays.

rules.py and brake.py decide, runs.py acts, preview.py looks ahead.
"""
