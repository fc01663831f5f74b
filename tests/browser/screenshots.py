"""`make screenshots`: pictures of the page's states, light, dark and on a phone, to be looked at.

All go into a folder that is not kept, build/screenshots; the one that README shows also into docs/screenshots.
"""

# ruff: noqa: T201 (a program: it tells what it made)

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.browser.stage import ROOT, Missing, stage, stories

FOLDER = ROOT / "build" / "screenshots"
SHOWN = ROOT / "docs" / "screenshots"
IN_README = {"chat-light.png": "chat.png"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the pictures that were asked for and return the exit status."""
    parser = argparse.ArgumentParser(prog="make screenshots", description=__doc__)
    parser.add_argument("--only", default="", help="scenes whose name has this text")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    try:
        with stage() as given:
            for scene in stories("scenes"):
                if options.only not in scene.name:
                    continue
                try:
                    given.play(scene, "scenes", pictures=str(options.folder))
                    print(f"made: {scene.name}", flush=True)
                except AssertionError as error:
                    failed += 1
                    print(f"FAILED: {scene.name}\n{error}", flush=True)
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 1
    for name, shown in IN_README.items():
        if (options.folder / name).exists():
            SHOWN.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(options.folder / name, SHOWN / shown)
    print(f"pictures are in {options.folder}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
