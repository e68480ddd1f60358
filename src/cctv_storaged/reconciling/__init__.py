"""The four-way difference: folders, journal, backends and catalog, told and, when asked, mended."""
