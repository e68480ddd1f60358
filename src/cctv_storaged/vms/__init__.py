"""What the daemon does with an XProtect site: prove coverage, have gaps retrieved, read back, mark holds.

No byte of ours goes into the VMS by this: see docs/design/milestone.md.
"""
