"""A journal from what is left: objects, folders, the catalog, and the holds that were put with them."""
