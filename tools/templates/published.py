"""Renders the templates that llama.cpp collects with jinja2, as transformers sets it up, for tests/library/templates.rs.

    python3 tools/templates/published.py FOLDER-OF-TEMPLATES OUT        # needs jinja2 3.1.6

OUT gets a line of JSON for each template and conversation: the request, and the text or null for an error.
"""

import json
import pathlib
import sys

from environment import environment, render

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def say(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments, number="call00001"):
    return {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}


def parts(*texts):
    return [{"type": "text", "text": text} for text in texts]


BRIEF = say("system", "Answer in few words.")
ASK = say("user", "How high is the Zugspitze?")
TOLD = say("assistant", "2,962 metres.")
THANKS = say("user", "  And in feet? <b>\"é\"</b> 日本 🦊\n")
HEIGHT = {
    "type": "function",
    "function": {
        "name": "height_of",
        "description": "The height of a mountain.",
        "parameters": {
            "type": "object",
            "properties": {
                "mountain": {"type": "string", "description": "Its name."},
                "unit": {"type": "string", "enum": ["m", "ft"], "default": "m"},
                "options": {"type": "object", "properties": {"depth": {"type": ["integer", "null"]}}},
                "tags": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["mountain"],
        },
        "return": {"type": "number", "description": "The height."},
    },
}
TIME = {"type": "function", "function": {"name": "now", "description": "The time.", "parameters": {}}}
ASKED = [ASK, say("assistant", "", tool_calls=[call("height_of", {"mountain": "Zugspitze", "unit": "m", "n": 1.0})])]
ANSWERED = [*ASKED, say("tool", '{"height": 2962}', name="height_of", tool_call_id="call00001")]
THOUGHT = say("assistant", "2,962 m.", reasoning_content="It is in Bavaria.\nI know it.")

CONVERSATIONS = {
    "a question": dict(messages=[ASK]),
    "a question, no reply": dict(messages=[ASK], add_generation_prompt=False),
    "a system prompt": dict(messages=[BRIEF, ASK]),
    "several turns": dict(messages=[BRIEF, ASK, TOLD, THANKS]),
    "several turns, no system": dict(messages=[ASK, TOLD, THANKS]),
    "ends with the assistant": dict(messages=[BRIEF, ASK, TOLD], add_generation_prompt=False),
    "thinking on": dict(messages=[ASK], kwargs={"enable_thinking": True, "thinking": True}),
    "thinking off": dict(messages=[ASK], kwargs={"enable_thinking": False, "thinking": False}),
    "thought before": dict(messages=[ASK, THOUGHT, THANKS]),
    "thought inline": dict(messages=[ASK, say("assistant", "<think>\nhm\n</think>\n\n2,962."), THANKS]),
    "tools": dict(messages=[BRIEF, ASK], tools=[HEIGHT, TIME]),
    "tools, no system": dict(messages=[ASK], tools=[HEIGHT]),
    "no tools at all": dict(messages=[ASK], tools=[]),
    "a tool call": dict(messages=ASKED, tools=[HEIGHT], add_generation_prompt=False),
    "a tool's answer": dict(messages=[BRIEF, *ANSWERED], tools=[HEIGHT]),
    "a tool's answer and more": dict(messages=[*ANSWERED, TOLD, THANKS], tools=[HEIGHT, TIME]),
    "arguments as text": dict(
        messages=[ASK, say("assistant", None, tool_calls=[call("height_of", '{"mountain": "K2"}')])], tools=[HEIGHT]
    ),
    "two calls": dict(
        messages=[
            ASK,
            say("assistant", "Both.", tool_calls=[call("height_of", {"mountain": "K2"}), call("now", {}, "call00002")]),
            say("tool", "8611", name="height_of", tool_call_id="call00001"),
            say("tool", "noon", name="now", tool_call_id="call00002"),
        ],
        tools=[HEIGHT, TIME],
    ),
    "parts": dict(messages=[BRIEF, say("user", parts("How high", " is it?"))]),
    "parts everywhere": dict(
        messages=[say("system", parts("Be brief.")), say("user", parts("A?")), say("assistant", parts("B.")), ASK]
    ),
    "documents": dict(messages=[ASK], documents=[{"title": "Alps", "text": "2,962 m."}, {"title": "B", "text": ""}]),
    "developer": dict(messages=[say("developer", "Be brief."), ASK]),
    "an unknown role": dict(messages=[say("critic", "No."), ASK]),
    "two questions": dict(messages=[ASK, ASK]),
    "an empty content": dict(messages=[say("system", ""), say("user", "")]),
    "nothing": dict(messages=[]),
}


def main():
    folder, out = map(pathlib.Path, sys.argv[1:])
    # A template that asks for the time must get the same twice; the day does not change while the tests run.
    env = environment()
    with out.open("w") as file:
        for path in sorted(folder.glob("*.jinja")):
            source = path.read_bytes().decode()
            for name, conversation in CONVERSATIONS.items():
                case = dict(add_generation_prompt=True, tools=None, documents=None, kwargs={}) | conversation
                case |= dict(template=path.name, conversation=name, source=source, tokens=TOKENS)
                case["expected"] = render(env, source, case, TOKENS)
                file.write(json.dumps(case, ensure_ascii=False) + "\n")


main()
