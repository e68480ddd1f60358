"""cctv-storaged: registers, journals and delivers the segments a CCTV recorder writes."""

__version__ = "0.1.0"
