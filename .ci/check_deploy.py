"""Rules for the deployment files that no parser knows: every image is pinned, every mounted file is in the repository,
every service is watched, the published ports stay on loopback."""

import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
PINNED = re.compile(r"^[\w./-]+:v?\d+\.\d+(\.\d+)?(-[\w.]+)?$")


def compose_errors(compose):
    for name, service in compose["services"].items():
        if not PINNED.match(service["image"]):
            yield f"{name}: the image {service['image']!r} has no exact version"
        if "test" not in service.get("healthcheck", {}):
            yield f"{name}: no health check"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                if not (ROOT / source).exists():
                    yield f"{name}: {source} does not exist"
            elif source not in compose["volumes"]:
                yield f"{name}: the volume {source} is not declared"
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                yield f"{name}: port {port} is open to other machines"
        build = service.get("build")
        if build and not (ROOT / build["context"] / build["dockerfile"]).exists():
            yield f"{name}: {build['dockerfile']} does not exist"


def dockerfile_errors(text):
    images = re.findall(r"^FROM\s+(\S+)", text, re.MULTILINE)
    if len(images) < 2:
        yield "Dockerfile: not a build of several stages"
    for image in images:
        if not PINNED.match(image):
            yield f"Dockerfile: the image {image!r} has no exact version"
    last_stage = text[text.rindex("\nFROM ") :]
    user = re.findall(r"^USER\s+(\S+)", last_stage, re.MULTILINE)
    if not user or user[-1].split(":")[0] in ("root", "0"):
        yield "Dockerfile: the program runs as root"
    if '"rearguard", "run", "--config", "/etc/rearguard/rearguard.yaml"' not in last_stage:
        yield "Dockerfile: it does not run rearguard with its configuration"


def main():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    errors = list(compose_errors(compose))
    errors += dockerfile_errors((ROOT / "deploy/Dockerfile").read_text())
    for error in errors:
        print(error, file=sys.stderr)
    sys.exit(1 if errors else 0)


main()
