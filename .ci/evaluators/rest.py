"""What stands outside of the flags that were rolled back is the same, byte for byte: rest.py FOLDER-BEFORE FOLDER-AFTER.

A stretch that was changed has to lie within the lines of `prompt` and `quiet`; every comment is still there.
"""

import difflib
import pathlib
import sys


def lines_of(text):
    """The numbers of the lines that belong to the two flags: from the line that names one to the next flag's."""
    inside, numbers = False, set()
    for number, line in enumerate(text.splitlines()):
        word = line.strip().lstrip("[").split(":")[0].split("]")[0].split(".")[0].strip('"')
        if word in ("first", "last"):
            inside = False
        elif word in ("prompt", "quiet"):
            inside = True
        elif line.startswith(("# The", "}")) or line == "  }":
            inside = False
        if inside:
            numbers.add(number)
    return numbers


def main(before, after):
    for old_path in sorted(pathlib.Path(before).iterdir()):
        old = old_path.read_bytes().decode()
        new = (pathlib.Path(after) / old_path.name).read_bytes().decode()
        if old == new:
            raise SystemExit(f"{old_path.name}: nothing was changed")
        allowed = lines_of(old)
        blocks = difflib.SequenceMatcher(None, old.splitlines(True), new.splitlines(True), autojunk=False).get_opcodes()
        for what, first, end, start, stop in blocks:
            outside = set(range(first, end)) - allowed
            if what != "equal" and outside:
                raise SystemExit(f"{old_path.name}: line {min(outside) + 1} was changed: {new.splitlines()[start:stop]}")
        comments = [line.split("#", 1)[1] for line in old.splitlines() if "#" in line and old_path.suffix != ".json"]
        lost = [comment for comment in comments if comment not in new]
        if lost:
            raise SystemExit(f"{old_path.name}: lost the comments {lost}")
        changed = sum(end - first for what, first, end, _, _ in blocks if what != "equal")
        print(f"{old_path.name}: {changed} of {len(old.splitlines())} lines changed, all of them of the two flags")


main(*sys.argv[1:])
