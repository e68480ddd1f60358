"""Footage into what people look at: pictures, playlists, clips. Arguments in, text or a file out.

It does not know cameras, databases or HTTP; ffmpeg gets bytes and never a name.
"""
