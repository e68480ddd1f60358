"""Watching what nobody else tells: silent cameras, cameras with another time, backends and the catalog away,
footage that waits too long, disks that fill up, losses. Each is an alarm with a begin and an end.

silence.py, lasting.py and rules.py decide; hearing.py is told of new segments; rounds.py looks, with
cameras.py and lostfootage.py.
"""
