"""The evaluators of flagd (its provider, in file mode) and of GO Feature Flag (its WebAssembly module) judge files.

judge.py before|after FILE…
"""

import collections
import json
import pathlib
import sys

import tomli
import yaml
from gofeatureflag_python_provider.wasm.evaluate_wasm import EvaluateWasm
from gofeatureflag_python_provider.wasm.model import WasmInput
from gofeatureflag_python_provider.wasm.model.flag_context import WasmFlagContext
from openfeature import api
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import ResolverType
from openfeature.evaluation_context import EvaluationContext


def contexts():
    for tier in ["free", "trial", "pro", "enterprise"]:
        for tenant in ["acme", "initech", ""]:
            for region in ["eu", "us"]:
                for n in range(50):
                    yield f"user-{n}", {"tier": tier, "tenant": tenant, "region": region}


def flagd(path):
    provider = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(path))
    api.set_provider_and_wait(provider) if hasattr(api, "set_provider_and_wait") else api.set_provider(provider)
    client = api.get_client()

    def value(flag, key, attributes):
        return client.get_string_value(flag, "mine", EvaluationContext(targeting_key=key, attributes=attributes))

    return value


def goff(path, wasm):
    text = path.read_text()
    parse = {".json": json.loads, ".toml": tomli.loads}.get(path.suffix, yaml.safe_load)
    flags = parse(text)

    def value(flag, key, attributes):
        told = WasmInput(
            flagKey=flag,
            flag=flags[flag],
            evalContext={"targetingKey": key, **attributes},
            flagContext=WasmFlagContext(defaultSdkValue="mine"),
        )
        answer = wasm.evaluate(told)
        if answer.errorCode:
            raise SystemExit(f"{path.name} {flag}: {answer.errorCode} {answer}")
        return answer.value

    return value


def main(when, names):
    wasm = EvaluateWasm(pool_size=1)
    wasm.initialize()
    wrong = False
    for path in map(pathlib.Path, names):
        value = flagd(path) if path.name.startswith("flagd") else goff(path, wasm)
        given = {
            flag: collections.Counter(value(flag, key, attributes) for key, attributes in contexts())
            for flag in ["prompt", "quiet", "last"]
        }
        print(path.name, {flag: dict(counts) for flag, counts in given.items()})
        if when == "after":
            right = all(set(given[flag]) == {"text-17"} for flag in ["prompt", "quiet"])
        else:
            right = set(given["prompt"]) == {"text-17", "text-18"} and set(given["quiet"]) != {"text-17"}
        if not right or set(given["last"]) != {"A", "B"}:
            print(f"{path.name}: wrong {when} the rollback", file=sys.stderr)
            wrong = True
    api.shutdown()
    return wrong


sys.exit(main(sys.argv[1], sys.argv[2:]))
