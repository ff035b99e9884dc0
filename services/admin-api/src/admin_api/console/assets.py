"""`/admin/assets/<name>`: style, scripts and images of the console, which browsers may keep for ever.

A name never changes its content without changing its address: pages link to `?v=<digest>`.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from fastapi import APIRouter, Response

from admin_api.errors import NotFound

router = APIRouter(include_in_schema=False)

PATH = "/admin/assets"
_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Asset:
    content: bytes
    media_type: str
    version: str


def _read() -> dict[str, Asset]:
    assets = {}
    for file in files("admin_api.console").joinpath("static").iterdir():
        kind = file.name.rpartition(".")[2]
        if kind in _TYPES:
            content = file.read_bytes()
            assets[file.name] = Asset(content, _TYPES[kind], hashlib.sha256(content).hexdigest()[:12])
    return assets


_ASSETS = _read()


def address(name: str) -> str:
    """Where a page finds the asset."""
    return f"{PATH}/{name}?v={_ASSETS[name].version}"


@router.get(PATH + "/{name}")
async def get_asset(name: str) -> Response:
    asset = _ASSETS.get(name)
    if asset is None:
        raise NotFound("there is nothing at this path")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(asset.content, media_type=asset.media_type, headers=headers)
