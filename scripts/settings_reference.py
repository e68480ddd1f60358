"""Writes docs/reference/settings.md from the settings models. Run with the virtual environment's Python."""

from pathlib import Path

from cctv_storaged.config.reference import settings_reference

if __name__ == "__main__":
    target = Path(__file__).parent.parent / "docs" / "reference" / "settings.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(settings_reference(), encoding="utf-8")
    print(f"wrote {target}")
