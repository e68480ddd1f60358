"""Exports: asked for, waited for, made, put on their shelf, and removed when their day has come."""
