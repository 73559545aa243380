#!/usr/bin/env python3
"""Renders the templates of tests/data/jinja-cases.json again with Jinja itself, and says what differs.

make_jinja_cases.py [--write]

Needs jinja2 3.1 (PyPI). --write puts what Jinja gives into the file: first add templates to it, without
"rendered". An error is kept as true: only that there is one matters.
"""

import copy
import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

CASES = pathlib.Path(__file__).resolve().parents[3] / "tests/data/jinja-cases.json"


class GenerationTag(jinja2.ext.Extension):
    """transformers' AssistantTracker, which only marks what is inside."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_inside"), [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def _inside(self, _context, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def environment():
    """As transformers' chat_template_utils.py makes it."""
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                         extensions=[GenerationTag, jinja2.ext.loopcontrols])
    made.filters["tojson"] = to_json
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return made


def render(made, template, variables):
    try:
        return {"rendered": made.from_string(template).render(**copy.deepcopy(variables))}
    except Exception:  # pylint: disable=broad-except
        return {"error": True}


def main():
    cases = json.loads(CASES.read_text(encoding="utf-8"))
    made, different = environment(), 0
    for case in cases["cases"]:
        now = render(made, case["template"], cases["variables"])
        before = {key: case.pop(key) for key in ("rendered", "error") if key in case}
        if now != before:
            different += 1
            print(f"{case['template']!r}: {before} in the file, {now} by Jinja {jinja2.__version__}")
        case.update(now)
    print(f"{different} of {len(cases['cases'])} differ")
    if "--write" in sys.argv:
        lines = ",\n".join(json.dumps(case) for case in cases["cases"])
        CASES.write_text(f'{{"made_with": "jinja2 {jinja2.__version__}",\n"variables": '
                         f'{json.dumps(cases["variables"])},\n"cases": [\n{lines}]}}\n',
                         encoding="utf-8")
    return 1 if different and "--write" not in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
