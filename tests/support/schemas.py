"""Checks values against the schemas of an OpenAPI document: strictly, so that a property that no schema names is found, too."""

TYPES = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
KNOWN = {"$ref", "additionalProperties", "anyOf", "description", "enum", "items", "properties", "required", "type"}


def faults(value, schema, document, where="it"):
    """Give a sentence for each way in which a value differs from its schema."""
    assert set(schema) <= KNOWN, sorted(set(schema) - KNOWN)
    if "$ref" in schema:
        schema = resolve(schema["$ref"], document)
    if "anyOf" in schema:
        found = [list(faults(value, one, document, where)) for one in schema["anyOf"]]
        yield from ([] if [] in found else min(found, key=len))
        return
    names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    types = [kind for name in names for kind in TYPES[name]]
    if not isinstance(value, tuple(types)) or (isinstance(value, bool) and bool not in types):
        yield f"{where} is {value!r}, expected {names}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{where} is {value!r}, expected one of {schema['enum']}"
    elif isinstance(value, list):
        for item in value:
            yield from faults(item, schema["items"], document, where + "[]")
    elif isinstance(value, dict):
        yield from faults_of_object(value, schema, document, where)


def faults_of_object(value, schema, document, where):
    yield from (f"{where} lacks {name}" for name in schema.get("required", ()) if name not in value)
    for name, item in value.items():
        found = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
        if found is None:
            yield f"{where} has {name}, which its schema does not"
        else:
            yield from faults(item, found, document, f"{where}.{name}")


def resolve(reference, document):
    """The schema that a reference names."""
    for key in reference[2:].split("/"):
        document = document[key]
    return document
