"""The ONVIF Profile G device that a recording server retrieves footage from: SOAP, and RTSP replay.

Like api/ it asks services and renders. It only reads, and never from the VMS that it serves.
"""
