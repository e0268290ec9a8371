"""How many tokens of a prompt a server reads again at each turn of a chat.

    python3 tools/bench/turns.py --url http://127.0.0.1:8080 --scenario append
    python3 tools/bench/turns.py --url http://127.0.0.1:8080 --scenario edit --json edit.json

Works with every server that has `/v1/chat/completions`; standard library only. Start the server anew before each scenario, or
what it remembers of the one before is counted too. Of each request the table has the tokens of the prompt, how many of them
the server took from its cache, and how many it read: the difference, or `timings.prompt_n` where the reply has it.

Most scenarios begin with a chat of --turns turns:

    append          every request is the last one, its reply and a new question
    repeat          the same; then the last request once more, as it was
    edit            the same; then the question of turn 3 changed and all after it dropped; then the unchanged chat goes on
    date            the system message ends in a date, which is another one at every turn
    thinking        the first half of each reply, as if it were its thoughts, is not sent back
    save            as append; then slot 0 is saved on the server, and the chat in the file --state
    save-thinking   as thinking; then both are saved

The others have no chat of their own. They begin where `save` ended, mostly on a server started anew:

    continue        the chat of --state goes on
    restore         slot 0 is restored; then the chat goes on
    restore-repeat  slot 0 is restored; then the last request once more, as it was
    restore-edit    slot 0 is restored; then as edit

To save and to restore needs `/slots/0?action=save|restore`, and a server with one slot (llama-server: --parallel 1).
"""

import argparse
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

SYSTEM = (
    "You help the visitors of a small botanical garden. Answer in a few plain words. When a visitor asks where a plant is,"
    " name the house and the row. When you do not know, say so and send the visitor to the desk at the gate."
)
PLANTS = ["fern", "orchid", "cactus", "palm", "moss", "lily", "vine", "maple", "rose", "reed"]
PLACES = ["by the pond", "in the glass house", "on the north wall", "under the old oak", "near the gate", "along the path"]
WISHES = [
    "Is it in flower this week, and may I take a picture of it with a stand?",
    "How much water does it get in summer, and who waters it on a free day?",
    "My son says that it was smaller last year. How fast does it grow in our weather?",
    "Can I buy a young one at the desk, and what kind of soil does it want at home?",
]
CHATS = ["append", "repeat", "edit", "date", "thinking", "save", "save-thinking"]
RESUMED = ["continue", "restore", "restore-repeat", "restore-edit"]


def question(turn):
    """What the visitor says at a turn."""
    plant, place, wish = (words[turn % len(words)] for words in (PLANTS, PLACES, WISHES))
    return f"This is my question number {turn}. I stand {place} and look at the {plant} beside me. {wish}"


class Server:
    """One server, and the rows of what it was asked so far."""

    def __init__(self, url, model, tokens, extra):
        self.url = url.rstrip("/")
        self.fields = {"max_tokens": tokens, "temperature": 0, **extra}
        self.fields["model"] = model or self.call("/v1/models")["data"][0]["id"]
        self.rows = []

    def call(self, path, body=None):
        """The JSON that a path gives; a POST where there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            sys.exit(f"{path}: {error.code} {error.read().decode(errors='replace')}")

    def ask(self, step, messages):
        """Asks for a reply, keeps its numbers as a row and gives its text."""
        reply = self.call("/v1/chat/completions", {**self.fields, "messages": messages})
        message = reply["choices"][0]["message"]
        text = (message.get("reasoning_content") or "") + (message.get("content") or "")
        self.rows.append({"step": step, **counts(reply), "text": text})
        return text

    def slot(self, action, name):
        """Saves or restores slot 0."""
        done = self.call(f"/slots/0?action={action}", {"filename": name})
        print(json.dumps(done), file=sys.stderr)


def counts(reply):
    """The tokens of one reply's prompt: all, from the cache, read."""
    usage = reply["usage"]
    prompt = usage["prompt_tokens"]
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    read = (reply.get("timings") or {}).get("prompt_n", prompt - cached)
    return {"prompt": prompt, "cached": cached, "read": read, "reply": usage["completion_tokens"]}


def user(text):
    return {"role": "user", "content": text}


def system(turn, dated):
    """The system message, with a day of the turn at its end where it is dated."""
    date = f" Today is day {turn} of the month." if dated else ""
    return {"role": "system", "content": SYSTEM + date}


def kept(reply, thinking):
    """What of a reply is sent back."""
    words = reply.split(" ")
    return " ".join(words[len(words) // 2 :]) if thinking else reply


def chat(server, turns, dated, thinking):
    """Has the chat and gives its messages."""
    messages = [system(1, dated)]
    for turn in range(1, turns + 1):
        messages[0] = system(turn, dated)
        messages.append(user(question(turn)))
        reply = server.ask(f"turn {turn}", messages)
        messages.append({"role": "assistant", "content": kept(reply, thinking)})
    return messages


def go_on(server, messages):
    """One more turn of a chat."""
    turn = len(messages) // 2 + 1
    server.ask(f"turn {turn}", messages + [user(question(turn))])


def finish(server, messages, last):
    """What a scenario does after the chat."""
    if last == "repeat":
        server.ask(f"turn {len(messages) // 2} again", messages[:-1])
    elif last == "edit":
        server.ask("turn 3 edited", messages[:5] + [user("I meant another plant. " + question(3))])
    if last in ("edit", "restore", "continue"):
        go_on(server, messages)


def run(server, args):
    """One scenario."""
    first, _, last = args.scenario.partition("-")
    if args.scenario in CHATS:
        messages = chat(server, args.turns, first == "date", "thinking" in args.scenario)
    else:
        messages = json.loads(Path(args.state).read_text())
    if first == "save":
        server.slot("save", args.slot_file)
        Path(args.state).write_text(json.dumps(messages))
    elif first == "restore":
        server.slot("restore", args.slot_file)
    finish(server, messages, last or first)


def show(rows):
    """Prints the table."""
    columns = ("prompt", "cached", "read", "reply")
    total = {"step": "all", **{column: sum(row[column] for row in rows) for column in columns}}
    print(" " * 15 + "".join(f"{column:>8}" for column in columns))
    for row in [*rows, total]:
        print(f"{row['step']:15}" + "".join(f"{row[column]:8}" for column in columns))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="where the server is, without /v1")
    parser.add_argument("--scenario", choices=CHATS + RESUMED, default="append")
    parser.add_argument("--turns", type=int, default=20, help="turns of the chat, at least 3 (20)")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of each reply (32)")
    parser.add_argument("--model", help="the model's name (the first that /v1/models names)")
    parser.add_argument("--extra", type=json.loads, default={"ignore_eos": True}, help="more fields of a request, as JSON")
    parser.add_argument("--state", default="chat.json", help="file of the saved chat (chat.json)")
    parser.add_argument("--slot-file", default="turns.bin", help="name of the saved slot on the server (turns.bin)")
    parser.add_argument("--json", help="also write the rows to this file")
    args = parser.parse_args()
    if args.turns < 3:
        parser.error("--turns must be at least 3")
    return args


def main():
    args = arguments()
    server = Server(args.url, args.model, args.tokens, args.extra)
    run(server, args)
    show(server.rows)
    if args.json:
        Path(args.json).write_text(json.dumps({"scenario": args.scenario, "rows": server.rows}, indent=1))


if __name__ == "__main__":
    main()
