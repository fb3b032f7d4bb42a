"""`python -m causvid schema`: write the JSON schema of requests, chunk infos, manifests and of the
socket's messages."""

import argparse
import json
from pathlib import Path
from typing import Any

SCHEMAS = Path("examples/schema")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "out", nargs="?", type=Path, default=SCHEMAS, help=f"a folder (default: {SCHEMAS})"
    )


def schemas() -> dict[str, dict[str, Any]]:
    """File name → JSON schema: of requests as they may be written, of the rest as we write it."""
    from causvid.realtime.messages import schemas as messages
    from causvid.serving.record import ChunkInfo, Manifest
    from causvid.serving.request import Request

    return {
        "request.json": Request.model_json_schema(),
        "info.json": ChunkInfo.model_json_schema(mode="serialization"),
        "manifest.json": Manifest.model_json_schema(mode="serialization"),
        **{f"realtime_{side}.json": schema for side, schema in messages().items()},
    }


def main(args: argparse.Namespace) -> int:
    args.out.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        path = args.out / name
        path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(path)
    return 0
