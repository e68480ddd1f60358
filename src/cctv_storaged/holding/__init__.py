"""Holds: what nothing may delete, marked on segments, mirrored as legal holds, reviewed and released."""
