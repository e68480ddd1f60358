"""The transport stream (ISO/IEC 13818-1) as this program reads and writes it. Pure: bytes in, facts out.

In the hall, because both sides need it: recorder/ asks when a file begins and ends, media/ cuts and joins.
"""
