"""A simulator of Milestone XProtect: one process with a management server, a recorder and a control port.

Built from published material, not from a recorded real server. Nothing here was compared with a running
XProtect. What the material leaves open, or what was only inferred, is an assumption behind a switch
(`assumptions.Assumptions`); what goes wrong on real sites is a fault that can be set while it runs
(`faults.Faults`). It knows nothing of the client's code: it is the check on it.

    python -m tests.fakes.xprotect --help
"""
