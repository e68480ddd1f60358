"""The ledger shown to be whole: its lines as files, the proof of their chain, signed heads, archives."""
