"""Enough of kustomize to read our overlays: resources, strategic patches by name, labels and generated ConfigMaps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]


def build(folder: Path) -> list[Manifest]:
    """Every manifest that an overlay, or the base, consists of."""
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text())
    found: list[Manifest] = []
    for name in plan.get("resources", ()):
        path = folder / name
        found += build(path) if path.is_dir() else read_all(path)
    for generated in plan.get("configMapGenerator", ()):
        data = {name: (folder / name).read_text() for name in generated["files"]}
        metadata = {"name": generated["name"]}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    for patch in plan.get("patches", ()):
        for change in read_all(folder / patch["path"]):
            (target,) = (each for each in found if _id(each) == _id(change))
            _merge(target, change)
    for labels in plan.get("labels", ()):
        for each in found:
            _label(each, labels["pairs"], everywhere=labels.get("includeSelectors", False))
    return found


def read_all(path: Path) -> list[Manifest]:
    """The manifests of one file."""
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def _id(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def _merge(target: Any, change: Any) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        elif isinstance(value, list) and all(isinstance(each, dict) and "name" in each for each in value):
            _merge_named(target.setdefault(key, []), value)
        else:
            target[key] = value


def _merge_named(items: list[Any], changes: list[Any]) -> None:
    for change in changes:
        same = next((each for each in items if each.get("name") == change["name"]), None)
        if same is None:
            items.append(change)
        else:
            _merge(same, change)


def _label(manifest: Manifest, pairs: dict[str, str], *, everywhere: bool) -> None:
    manifest["metadata"].setdefault("labels", {}).update(pairs)
    spec = manifest.get("spec", {})
    if not everywhere:
        return
    if manifest["kind"] == "Service":
        spec.setdefault("selector", {}).update(pairs)
    for selector in ("selector", "podSelector"):
        if "matchLabels" in spec.get(selector, {}):
            spec[selector]["matchLabels"].update(pairs)
    if "template" in spec:
        spec["template"]["metadata"].setdefault("labels", {}).update(pairs)
