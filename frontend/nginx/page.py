"""Writes what nginx needs to serve a build of the page as `caesarion serve` does: python page.py BUILD FOLDER

FOLDER gets the table of files and the headers of each, by the functions that `caesarion serve` itself takes them from.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from caesarion.adapters.asgi.page import CONFIG, INDEX, MEDIA_TYPES, NOT_FOUND, PageFile, page_files

# nginx makes these itself, from the file that it sends.
OF_NGINX = frozenset({"content-encoding", "content-length", "content-type", "etag"})
NO_FILE = "/.missing"


def quoted(text: str) -> str:
    """Return a string of nginx's configuration. There is no way to write a dollar in one."""
    if "$" in text or not text.isprintable():
        raise SystemExit(f"page.py: nginx's configuration cannot hold {text!r}")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def table(source: str, target: str, default: str, rows: Iterable[tuple[str, str]]) -> str:
    """Return a map of nginx from one variable to another."""
    lines = [f"default {quoted(default)};", *(f"{quoted(key)} {quoted(value)};" for key, value in rows)]
    return "\n  ".join([f"map {source} {target} {{", *lines]) + "\n}\n"


def headers_of(file: PageFile) -> dict[str, str]:
    """Return the headers that nginx has to be told."""
    return {name: value for name, value in file.load()["identity"].headers.items() if name not in OF_NGINX}


def maps_and_headers(files: Mapping[str, PageFile]) -> tuple[str, str]:
    """Return the table of files with a map for each header, and the lines that add the headers.

    A path without a file is answered with the page's 404.html, so it has the headers of that.
    """
    first: dict[int, str] = {}
    for path in sorted(files, key=len, reverse=True):  # the longest is the one on disk
        first.setdefault(id(files[path]), path)
    names = {path: first[id(file)] for path, file in files.items()}
    headers = {path: headers_of(files[path]) for path in sorted(set(names.values()))}
    maps = [
        f"map_hash_max_size {max(2048, 4 * len(names))};\nmap_hash_bucket_size 512;\n",
        table("$uri", "$page_file", NO_FILE, names.items()),
    ]
    added = []
    for header in sorted({name for found in headers.values() for name in found}):
        variable = f"$page_{header.replace('-', '_')}"
        default = headers[NOT_FOUND].get(header, "")
        rows = [(path, found.get(header, "")) for path, found in headers.items() if found.get(header, "") != default]
        maps.append(table("$page_file", variable, default, rows))
        added.append(f"add_header {header.title()} {variable} always;\n")
    return "".join(maps), "".join(added)


def main(build: str, folder: str) -> None:
    """Write the three files."""
    files = page_files(Path(build), ())
    missing = sorted({f"/{INDEX}", NOT_FOUND} - files.keys())
    if missing:
        raise SystemExit(f"page.py: {build} must be a build of the page, but lacks {', '.join(missing)}")
    # `start` writes it; its headers are those of any file
    config = {"content-type": MEDIA_TYPES[".json"], "cache-control": "no-cache"}
    files[CONFIG] = PageFile(lambda: b"{}", {}, config)
    maps, headers = maps_and_headers(files)
    types = "".join(f"  {quoted(kind)} {ending.removeprefix('.')};\n" for ending, kind in MEDIA_TYPES.items())
    for name, text in (("maps", maps), ("headers", headers), ("types", f"types {{\n{types}}}\n")):
        Path(folder, f"{name}.conf").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
