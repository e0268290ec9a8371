"""The environment that transformers (5.24, utils/chat_template_utils.py) gives to chat templates, over jinja2."""

import datetime
import json

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(jinja2.ext.Extension):
    """`{% generation %}`: what the assistant said. Here only its text matters."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller):
        return caller()


def environment(now=None):
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        options = dict(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
        return json.dumps(x, **options)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: (now or datetime.datetime.now()).strftime(form)
    return env


def prepared(message):
    """A message as `apply_chat_template` hands it on."""
    names = ("reasoning_content", "thinking", "reasoning")
    message = {name: value for name, value in message.items() if value is not None}
    thought = next((message[name] for name in names if name in message), None)
    return message if thought is None else {"thinking": thought, **message, "reasoning_content": thought}


def render(env, source, case, tokens):
    """The text, or `None` for an error."""
    try:
        return env.from_string(source).render(
            **tokens | case.get("kwargs", {}),
            messages=[prepared(message) for message in case["messages"]],
            tools=case.get("tools"),
            documents=case.get("documents"),
            add_generation_prompt=case["add_generation_prompt"],
        )
    except Exception:
        return None
