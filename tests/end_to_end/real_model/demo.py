"""The model and the adapters that `make serve` serves."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "models" / "smollm2-135m-instruct"
DEMO = ROOT / "flora" / "demo" / "adapters"
BASE = MODEL.name
