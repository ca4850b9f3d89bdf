"""What schemathesis is told of the node that it judges: what exists there, and in whose name to speak.

`openapi.rs` has prepared the node, and a file with a line for each field by which an operation finds something that exists:
`OPERATION FIELD VALUE`, or `*` for the whole body. Of the requests that the document allows, every other one is about those,
so that not all are refused because there is nothing of that id. What the document forbids is sent as it was made up. At the
end it is written down how often each operation was asked, and how often it did something.
"""

import atexit
import collections
import json
import os

import schemathesis

# Whoever has no token of his own says in whose name he speaks.
SPEAKER = {"agent": "ada", "from": "ada"}

prepared = collections.defaultdict(dict)
with open(os.environ["QUORATE_JUDGE_PREPARED"]) as lines:
    for line in lines:
        operation, field, value = line.split(" ", 2)
        prepared[operation][field] = json.loads(value)
asked = collections.Counter()
done = collections.Counter()


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if isinstance(case.body, dict):
        # A judge has no time to wait for a task or for a claim.
        case.body.pop("wait", None)
    # Requests that follow one another know by themselves what exists.
    if case.meta.phase.name.value == "stateful":
        return
    operation = name_of(case)
    asked[operation] += 1
    fields = fields_of(case.operation.definition.raw)
    if isinstance(case.body, dict):
        for field, name in SPEAKER.items():
            if field in fields and case.body.get(field) is None:
                case.body[field] = name
    if asked[operation] % 2 == 1:
        for field, value in prepared[operation].items():
            put(case, fields, field, value)


def put(case, fields, field, value):
    if field == "*":
        case.body = dict(value)
    elif field in fields and isinstance(case.body, dict):
        case.body[field] = value
    elif field in (case.path_parameters or {}):
        case.path_parameters[field] = value
    elif field in (case.query or {}):
        case.query[field] = value


def name_of(case):
    return case.operation.definition.raw["operationId"]


def fields_of(operation):
    content = operation.get("requestBody", {}).get("content", {})
    return content.get("application/json", {}).get("schema", {}).get("properties", {})


@schemathesis.hook
def after_call(context, case, response):
    if response.status_code < 300:
        done[name_of(case)] += 1


@atexit.register
def tell():
    with open(os.environ["QUORATE_JUDGE_TOLD"], "w") as told:
        for operation in sorted(asked):
            told.write(f"{operation} {asked[operation]} {done[operation]}\n")
