"""Speaking with Milestone XProtect: identity, REST, SOAP and the ImageServer, as far as they are published.

Nothing here takes a finished file, for XProtect has no interface that does. What it offers is in `base`;
whoever uses it is `cctv_storaged.vms`.
"""
