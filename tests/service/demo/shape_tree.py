"""The shape of JSON objects: which keys, and which types of value under each, recursively.

`python -m tests.service.demo.shape_tree > tests/service/demo/shapes.json` writes the recorded lives' shapes anew.
"""

import json
import sys
from collections.abc import Iterable
from typing import Any

from bursar.service.demo.lives import Life, all_events, recorded_lives

Tree = dict[str, Any]

FREE_FORM = ("metadata", "previous_attributes")
TYPE_NAMES = {dict: "object", list: "list", str: "string", bool: "boolean", int: "integer", type(None): "null"}


def shape(value: object) -> Tree:
    """The shape of one value; what stands under a free-form key is not looked into."""
    tree: Tree = {"types": [TYPE_NAMES[type(value)]]}
    if isinstance(value, dict):
        tree["keys"] = {k: {"types": ["object"]} if k in FREE_FORM else shape(v) for k, v in value.items()}
        tree["always"] = sorted(value)
    if isinstance(value, list) and value:
        tree["items"] = merged(shape(item) for item in value)
    return tree


def merged(trees: Iterable[Tree]) -> Tree:
    """A shape that all of these have."""
    first, *others = trees
    for other in others:
        first = _merge(first, other)
    return first


def _merge(one: Tree, two: Tree) -> Tree:
    tree: Tree = {"types": sorted({*one["types"], *two["types"]})}
    keyed = [each for each in (one, two) if "keys" in each]
    if keyed:
        names = sorted({name for each in keyed for name in each["keys"]})
        tree["keys"] = {name: merged(each["keys"][name] for each in keyed if name in each["keys"]) for name in names}
        tree["always"] = sorted(set.intersection(*(set(each["always"]) for each in keyed)))
    listed = [each["items"] for each in (one, two) if "items" in each]
    if listed:
        tree["items"] = merged(listed)
    return tree


def departures(value: object, tree: Tree, path: str = "") -> list[str]:
    """Where a value has a key too many or too few, or a type that the shape does not know."""
    found = [] if TYPE_NAMES[type(value)] in tree["types"] else [f"{path}: {type(value).__name__}"]
    if isinstance(value, dict) and "keys" in tree:
        found += [f"{path}.{name}: missing" for name in tree["always"] if name not in value]
        for name, inner in value.items():
            known = tree["keys"].get(name)
            found += [f"{path}.{name}: unknown"] if known is None else departures(inner, known, f"{path}.{name}")
    if isinstance(value, list) and "items" in tree:
        found += [each for item in value for each in departures(item, tree["items"], f"{path}[]")]
    return found


def shapes_of(lives: Iterable[Life]) -> dict[str, Tree]:
    """By object (`subscription`, `invoice`, …), and `event` for the envelope without its object."""
    trees: dict[str, list[Tree]] = {}
    for event in all_events(lives):
        for name, value in parts_of(event):
            trees.setdefault(name, []).append(shape(value))
    return {name: merged(each) for name, each in sorted(trees.items())}


def parts_of(event: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The envelope and the object in it, each with the name of its shape."""
    thing = event["data"]["object"]
    envelope = {**event, "data": {key: {} for key in event["data"]}}
    return [("event", envelope), (thing["object"], thing)]


if __name__ == "__main__":
    named = shapes_of(recorded_lives())
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(tree, sort_keys=True)}" for name, tree in named.items())
    sys.stdout.write(f"{{\n{lines}\n}}\n")
