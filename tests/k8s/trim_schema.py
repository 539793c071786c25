"""Makes the files in `schemas/`: of a custom resource definition, one version without its prose.

python -m tests.k8s.trim_schema ray.io_rayservices.yaml v1
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

SCHEMAS = Path(__file__).parent / "schemas"


def without_prose(schema: Any, *, is_fields: bool = False) -> Any:
    """`schema` less its descriptions; among the names of fields, `description` is a field."""
    if isinstance(schema, list):
        return [without_prose(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: without_prose(part, is_fields=name == "properties" and not is_fields)
        for name, part in schema.items()
        if is_fields or name != "description"
    }


def trim(path: Path, version: str) -> dict[str, Any]:
    """What a test needs of the definition at `path`."""
    definition = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    [found] = [v for v in definition["spec"]["versions"] if v["name"] == version]
    return {
        "apiVersion": f"{definition['spec']['group']}/{version}",
        "kind": definition["spec"]["names"]["kind"],
        "schema": without_prose(found["schema"]["openAPIV3Schema"]),
    }


if __name__ == "__main__":
    trimmed = trim(Path(sys.argv[1]), sys.argv[2])
    target = SCHEMAS / f"{trimmed['kind']}.json"
    target.write_text(json.dumps(trimmed, separators=(",", ":"), sort_keys=True) + "\n")
