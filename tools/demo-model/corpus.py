"""Text for the demo model: little stories with a world behind them, and chats about them.

Every word and every template here is the project's own; a seed is the only input.

A `Story` is told event by event. An event (`EVENTS`) has several ways of being said and
the questions it answers. Telling it adds a sentence and facts; a later event can replace
a fact ("Then Ben moved the kite ..."), so a question always has one answer. Questions
that would have two answers in the same text are never asked.

The train and the held-out split never share a drawn combination: (person, thing, colour),
(person, place), (thing, hiding place) and so on each belong to one split by their hash,
one in eight to the held-out one.

`python corpus.py [seed] [count]` prints samples.
"""
import random
import sys
import zlib
from dataclasses import dataclass

GIRLS = "Anna Mia Lily Rosa Nora Ella Zoe Ivy Clara Sara Emma Lucy".split()
BOYS = "Tom Ben Max Leo Sam Finn Jack Noah Hugo Paul Adam Omar".split()
NAMES = GIRLS + BOYS
OBJECTS = ("ball kite lamp book hat cup key drum box scarf coat boat bell ring map mask chair clock bag pen "
           "blanket flute bike fan whistle doll spoon mirror ribbon wagon jar brush").split()
COLOURS = ("red blue green yellow white black brown pink purple gold silver grey "
           "tan navy lime cream teal coral peach mint beige").split()
PLACES = ("park garden kitchen market school river beach forest barn library bakery hill "
          "station farm lake bridge mill castle church shop tower cave").split()
THINGS = "apples pears eggs shells stones coins flowers buttons cookies nuts cards seeds".split()
NUMBERS = ("two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
           "seventeen eighteen nineteen twenty thirty forty fifty").split()
ANIMALS = "cat dog rabbit horse bird duck goat fox mouse frog sheep pig cow bear wolf hen deer swan snake crab lion".split()
FOODS = ("bread soup rice cheese cake pie toast honey jam beans corn fish pasta salad plums "
         "berries carrots grapes noodles butter").split()
SPOTS = [f"{side} the {place}" for side in ("under", "behind", "beside", "near") for place in
         ("tree door bench gate rock shelf well bed table fence wall tent").split()]
REASONS = ([(mood, f"{verb} a {thing}") for mood in ("sad", "upset", "angry") for verb in ("lost", "broke", "forgot") for thing in OBJECTS]
           + [(mood, f"{verb} a {thing}") for mood in ("happy", "glad", "proud") for verb in ("won", "found", "got") for thing in OBJECTS])
CONTENT = sorted({word for pool in (NAMES, OBJECTS, COLOURS, PLACES, THINGS, NUMBERS, ANIMALS, FOODS, SPOTS, [why for _, why in REASONS]) for phrase in pool
                  for word in phrase.split()} - {"a", "the"})
WEATHER = "sunny cold windy warm quiet rainy".split()
SCENERY = ["The sun was high in the sky.", "A soft wind moved the leaves.", "The road was long and quiet.", "Far away a bell rang.",
           "It was getting late.", "The water was clear and cold.", "The grass was wet.", "The day was long and warm."]


# How much scenery there is between the facts of a text.
BUSY, QUIET, EMPTY = (.06, 1), (.6, 2), (.8, 4)


def fewer(events, calm):
    """Events that fill about the same space in a calmer text."""
    return max(1, round(events * (1 + BUSY[0]) / (1 + calm[0] * calm[1])))


@dataclass(frozen=True)
class Event:
    """`say`: sentences. `asks`: (kind, key, questions, answer, answered value); an equal key replaces the older fact.
    A sentence that starts with "{A}" may start with a pronoun when the one before was about the same person."""
    say: list
    asks: list


EVENTS = {
    "own": Event(
        ["{A} had a {c} {o}.", "{A} has a {c} {o}.", "{A} carried a {c} {o}.", "{A} brought a {c} {o}.", "{A} had a {o}. It was {c}.",
         "{A} was playing with a {c} {o}.", "{A}'s {o} was {c}.", "{A}'s {o} is {c}.", "In {A}'s hand was a {c} {o}.",
         "\"My {o} is {c},\" said {A}.", "\"I have a {c} {o},\" said {A}.", "{A} loved {their} {c} {o}."],
        [("colour", "colour {A} {o}", ["What {colour} is {A}'s {o}?", "What {colour} was {A}'s {o}?", "Which {colour} is {A}'s {o}?",
                                       "{A} has a {o}. What {colour} is it?", "Tell me the {colour} of {A}'s {o}."], "{A}'s {o} is {c}.", "{c}"),
         ("colour", "colour {o} of {A}", ["What {colour} is the {o}?", "What {colour} was the {o}?", "Which {colour} is the {o}?"], "The {o} is {c}.", "{c}"),
         ("owner", "had {A} {o}", ["Who had the {o}?", "Who had a {o}?", "Who had the {c} {o}?"], "{A} had the {o}.", "{A}"),
         ("owner", "has {A} {o}", ["Who has the {o}?", "Who has a {o}?", "Who has the {c} {o}?", "Whose {o} is it?", "Whose is the {o}?"], "{A} has the {o}.", "{A}"),
         ("what", "what {A} had", ["What did {A} have?", "What did {A} bring?", "What did {A} carry?"], "{A} had a {o}.", "{o}"),
         ("what", "what {A} has", ["What does {A} have?", "What has {A} got?"], "{A} has a {o}.", "{o}")]),
    "give": Event(
        ["{A} gave the {o} to {B}.", "{A} gave {B} the {o}.", "Then {A} gave the {o} to {B}.", "So {A} gave {B} the {o}.", "{B} got the {o} from {A}.",
         "\"Here is the {o}, {B},\" said {A}."],
        [("holder", "has {owner} {o}", ["Who has the {o} now?", "Who has the {o}?", "Who got the {o}?", "Who is holding the {o} now?"], "{B} has the {o} now.", "{B}"),
         ("giver", "giver {o}", ["Who gave the {o} to {B}?", "Who gave {B} the {o}?", "Who did {B} get the {o} from?"], "{A} gave the {o} to {B}.", "{A}")]),
    "go": Event(
        ["{A} went to the {p}.", "{A} walked to the {p}.", "{A} ran to the {p}.", "{A} was at the {p}.", "{A} is at the {p}.", "One {weather} day, {A} went to the {p}.",
         "On a {weather} morning, {A} walked to the {p}.", "\"I am going to the {p},\" said {A}.", "In the morning {A} went to the {p}."],
        [("place", "at {A}", ["Where is {A}?", "Where was {A}?", "Where is {A} now?"], "{A} is at the {p}.", "{p}"),
         ("place", "went {A}", ["Where did {A} go?", "Where did {A} walk to?", "Where did {A} go that day?"], "{A} went to the {p}.", "{p}")]),
    "go on": Event(
        ["Then {A} went to the {p}.", "Later {A} went to the {p}.", "After that {A} walked to the {p}.", "In the end {A} ran to the {p}."],
        [("place", "at {A}", ["Where is {A} now?", "Where is {A}?", "Where is {A} at the end?"], "{A} is at the {p}.", "{p}")]),
    "count": Event(
        ["{A} had {n} {t}.", "{A} has {n} {t}.", "{A} found {n} {t}.", "{A} had {n} {t} in a basket.", "{A} was carrying {n} {t}.", "In {A}'s bag there were {n} {t}.",
         "\"I have {n} {t},\" said {A}.", "{A} counted the {t}. There were {n}."],
        [("howmany", "many {A} {t}", ["How many {t} did {A} have?", "How many {t} does {A} have?", "How many {t} has {A} got?"], "{A} had {n} {t}.", "{n}"),
         ("howmany", "many {t} of {A}", ["How many {t} were there?", "How many {t} are there?"], "There were {n} {t}.", "{n}")]),
    "hide": Event(
        ["{A} put the {o} {s}.", "{A} left the {o} {s}.", "{A} hid the {o} {s}.", "The {o} was {s}.", "The {o} is {s}.", "\"The {o} is {s},\" said {A}."],
        [("spot", "spot {o}", ["Where is the {o}?", "Where is the {o} now?", "Where was the {o}?", "Where can I find the {o}?"], "The {o} is {s}.", "{s}")]),
    "move": Event(
        ["Then {A} moved the {o}. Now it is {s}.", "Then {A} took the {o} and put it {s}.", "Later {A} put the {o} {s}.", "But {A} moved the {o} and left it {s}."],
        [("spot", "spot {o}", ["Where is the {o}?", "Where is the {o} now?", "Where is the {o} at the end?"], "The {o} is {s}.", "{s}"),
         ("mover", "mover {o}", ["Who moved the {o}?"], "{A} moved the {o}.", "{A}")]),
    "meet": Event(
        ["{A} met {B}.", "There {A} met {B}.", "On the way {A} met {B}.", "Then {A} met a friend, {B}.", "{A} met {B} and said hello."],
        [("met", "met {A}", ["Who did {A} meet?", "Who did {A} meet that day?", "Which friend did {A} meet?"], "{A} met {B}.", "{B}")]),
    "see": Event(
        ["{A} saw a {a}.", "Suddenly {A} saw a {a}.", "Then a {a} ran past {A}.", "{A} saw a {a} by the road.", "\"Look, a {a}!\" said {A}."],
        [("animal", "saw {A}", ["What animal did {A} see?", "Which animal did {A} see?", "What did {A} see?"], "{A} saw a {a}.", "{a}")]),
    "eat": Event(
        ["{A} ate {f}.", "{A} ate some {f}.", "For lunch {A} ate {f}.", "Then {A} ate some {f}.", "{A} was hungry and ate {f}.", "\"I like {f},\" said {A} and ate it all."],
        [("food", "ate {A}", ["What did {A} eat?", "What food did {A} eat?", "What did {A} eat for lunch?", "What did {A} eat that day?"], "{A} ate {f}.", "{f}")]),
    "feel": Event(
        ["{A} was {m} because {they} {why}.", "{A} {why}, so {they} was {m}.", "{A} {why}. That made {them} {m}.", "{A} felt {m} because {they} {why}."],
        [("why", "why {A}", ["Why was {A} {m}?", "Why did {A} feel {m}?", "Why is {A} {m}?"], "{A} was {m} because {they} {why}.", "{why}")]),
}
KINDS = sorted({ask[0] for event in EVENTS.values() for ask in event.asks})


@dataclass(frozen=True)
class Fact:
    kind: str
    key: str
    questions: tuple
    answer: str
    value: str
    sentence: int                 # index of the last sentence that states it
    clean: bool                   # its words are a combination of the story's split


class Story:
    """One text in the making. People, objects and the pairs drawn for them stay distinct."""

    def __init__(self, rng, split="train"):
        self.rng, self.split = rng, split
        self.sentences, self.facts, self.told = [], {}, []
        self.people, self.objects, self.owned, self.receivers = [], set(), [], set()
        self.subject = None
        self.clean = True         # whether the combination drawn last belongs to the split

    # --- drawing words -----------------------------------------------------------------
    def allowed(self, *words):
        held = zlib.crc32("|".join(words).encode()) % 8 == 0
        return held == (self.split == "held")

    def pick(self, pool, *others):
        """A word of the pool whose combination with the others belongs to this split."""
        free = [w for w in pool if self.allowed(*others, w if isinstance(w, str) else "|".join(w))]
        self.clean = bool(free)
        return self.rng.choice(free or pool)

    def person(self):
        name = self.rng.choice([n for n in NAMES if n not in self.people])
        self.people.append(name)
        return name

    def object(self, owner=None):
        """An object with a colour if it has an owner; now and then one that somebody else has as well."""
        again = owner and self.owned and self.rng.random() < .15
        free = self.owned if again else [o for o in OBJECTS if o not in self.objects] or OBJECTS
        while owner:
            thing = self.rng.choice(free)
            colours = [c for c in COLOURS if self.allowed(owner, thing, c)]
            if colours:
                self.objects.add(thing)
                self.owned.append(thing)
                self.clean = True
                return thing, self.rng.choice(colours)
            free = [o for o in free if o != thing] or OBJECTS
        thing = self.rng.choice(free)
        self.objects.add(thing)
        return thing

    # --- telling -----------------------------------------------------------------------
    def plain(self, sentence):
        self.sentences.append(sentence)
        self.subject = None

    def tell(self, name, **v):
        self.told.append((name, v))
        self._say(name, v)

    def retell(self, chance):
        """Some events are said a second time: what is repeated teaches copying."""
        last = {}
        for name, v in self.told:
            last[EVENTS[name].asks[0][1].format(**v)] = (name, v)
        for name, v in last.values():
            if name not in ("go on", "move", "give") and self.rng.random() < chance:
                if all(key in self.facts for key in (ask[1].format(**v) for ask in EVENTS[name].asks)):
                    self._say(name, v)

    def _say(self, name, v):
        girl = v["A"] in GIRLS
        v = dict(v, they="she" if girl else "he", them="her" if girl else "him", their="her" if girl else "his", weather=self.rng.choice(WEATHER))
        template = self.rng.choice(EVENTS[name].say)
        if template.startswith("{A} ") and self.subject == v["A"] and self.rng.random() < .5:
            template = v["they"].capitalize() + template[3:]
        pronoun = not template.startswith("{A}") and template.startswith(v["they"].capitalize())
        self.sentences.append(template.format(**v))
        self.subject = v["A"] if "B" not in v and (pronoun or "{A}" in template) else None
        for kind, key, questions, answer, value in EVENTS[name].asks:
            key = key.format(**v)
            asked = tuple(q.format(**v, colour=spelling) for q in questions for spelling in (("colour", "color") if "{colour}" in q else ("",)))
            self.facts[key] = Fact(kind, key, asked, answer.format(**v), value.format(**v), len(self.sentences) - 1, self.clean)

    def forget(self, *keys):
        for key in keys:
            self.facts.pop(key, None)

    # --- single events -----------------------------------------------------------------
    def own(self, A):
        thing, colour = self.object(A)
        self.tell("own", A=A, o=thing, c=colour)
        return thing

    def go(self, A):
        self.tell("go", A=A, p=self.pick(PLACES, A))

    def go_on(self, A):
        if f"went {A}" not in self.facts:
            return self.go(A)
        here = self.facts[f"at {A}"].value
        self.forget(f"went {A}")
        self.tell("go on", A=A, p=self.pick([p for p in PLACES if p != here], A))

    def count(self, A):
        things = self.rng.choice(THINGS)
        self.tell("count", A=A, t=things, n=self.pick(NUMBERS, A, things))

    def hide(self, A):
        thing = self.object()
        self.tell("hide", A=A, o=thing, s=self.pick(SPOTS, thing))
        return thing

    def move(self, A, thing):
        here = self.facts[f"spot {thing}"].value
        self.tell("move", A=A, o=thing, s=self.pick([s for s in SPOTS if s != here], thing))

    def give(self, A, thing, B, owner):
        self.forget(f"had {owner} {thing}", f"what {owner} had", f"what {owner} has")
        self.receivers.add(B)
        self.tell("give", A=A, o=thing, B=B, owner=owner)

    def meet(self, A, B):
        self.tell("meet", A=A, B=B)

    def see(self, A):
        self.tell("see", A=A, a=self.pick(ANIMALS, A))

    def eat(self, A):
        self.tell("eat", A=A, f=self.pick(FOODS, A))

    def feel(self, A):
        mood, why = self.pick([(m, w) for m, w in REASONS if w.split()[-1] not in self.objects], A)
        self.objects.add(why.split()[-1])
        self.tell("feel", A=A, m=mood, why=why)

    # --- whole texts -------------------------------------------------------------------
    def partner(self, *but):
        """Somebody else, new or not, to meet or to give things to."""
        name = self.pick([n for n in NAMES if n not in but], but[0])
        if name not in self.people:
            self.people.append(name)
        return name

    def notes(self, events, having=0, calm=BUSY):
        """Facts about several people in any order; a share `having` of them surely has something. `calm` says how
        often scenery comes between the facts: chance of a sentence, and how many may follow one event."""
        plans = []
        while events > 0 and len(self.people) < len(NAMES):
            plan = self.plan(self.rng.choice([1, 1, 2, 2, 3, 4]), having)
            events -= len(plan)
            plans.append(plan)
        mixed = self.rng.random() < .5
        while plans:
            plan = self.rng.choice(plans) if mixed else plans[0]
            plan.pop(0)()
            if not plan:
                plans.remove(plan)
            for _ in range(calm[1]):
                if self.rng.random() < calm[0]:
                    self.plain(self.rng.choice(SCENERY))

    def plan(self, size, having):
        """Steps about one person, in an order that makes sense."""
        A, r, steps = self.person(), self.rng, []
        names = r.sample(["have", "go", "hide", "meet", "see", "eat", "feel"], size)
        if having and "have" not in names and r.random() < having:
            names[0] = "have"
        for name in names:
            if name == "have" and r.random() < .4:
                steps.append(lambda: self.count(A))
            elif name == "have" and r.random() < .5:
                steps.append(lambda: self.own(A))
            elif name == "have":
                steps += self.gift(A)
            elif name == "hide":
                steps += self.hiding(A)
            elif name == "meet":
                steps.append(lambda: self.meet(A, self.partner(A)))
            elif name == "go":
                steps.append(lambda: self.go(A))
                if r.random() < .25:
                    steps.append(lambda: self.go_on(A))
            else:
                steps.append(lambda name=name: getattr(self, name)(A))
        return steps

    def gift(self, A):
        """A owns something and gives it away, perhaps to be given on."""
        state = {}

        def first():
            state["thing"], state["holder"] = self.own(A), A

        def pass_on():
            B = self.partner(state["holder"], A)
            self.give(state["holder"], state["thing"], B, A)
            state["holder"] = B
        return [first, pass_on] + [pass_on] * (self.rng.random() < .25)

    def hiding(self, A):
        state = {}

        def first():
            state["thing"] = self.hide(A)

        def again():
            self.move(self.partner(A), state["thing"])
        return [first] + [again] * (self.rng.random() < .4)

    def tale(self, events=None):
        """A small story about two friends."""
        r, A = self.rng, self.person()
        B = self.partner(A)
        self.go(A)
        if r.random() < .3:
            self.plain(r.choice(SCENERY))
        thing = self.own(A)
        self.meet(A, B)
        self.count(B) if r.random() < .7 else self.own(B)
        for event in r.sample(["give", "hide", "see", "eat", "feel", "talk", "go on"], events or r.choice([1, 2, 2, 3])):
            who = r.choice([A, B])
            if event == "give":
                self.give(A, thing, B, A)
                self.plain(r.choice([f"\"Thank you, {A},\" said {B}.", f"\"You are a good friend,\" said {B}.", f"{B} smiled."]))
            elif event == "hide":
                for step in self.hiding(who):
                    step()
            elif event == "talk":
                self.plain(r.choice([f"\"What shall we do now?\" asked {B}.", f"\"This is a nice place,\" said {B}.", f"\"Let us sit down and rest,\" said {A}."]))
                self.plain(r.choice([f"\"We can play a game,\" said {A}.", f"{A} and {B} laughed.", "They sat down in the grass."]))
            elif event == "go on":
                self.go_on(A)
            else:
                getattr(self, event)(who)
        self.plain(r.choice(["Then they went home together.", f"{A} never forgot that day.", "It was a very good day.", f"\"Goodbye, {B},\" said {A}.", f"{A} and {B} are still friends."]))
        return A, B, thing

    # --- asking ------------------------------------------------------------------------
    def questions(self):
        """-> facts, each with only those wordings that have one answer in this text."""
        answers = {}
        for fact in self.facts.values():
            for q in fact.questions:
                answers.setdefault(q.replace("color", "colour"), set()).add(fact.answer)
        out = []
        for fact in self.facts.values():
            clear = tuple(q for q in fact.questions if len(answers[q.replace("color", "colour")]) == 1)
            if clear and not (fact.kind == "what" and fact.key.split()[1] in self.receivers):
                out.append(Fact(fact.kind, fact.key, clear, fact.answer, fact.value, fact.sentence, fact.clean))
        return out

    def text(self, upto=None):
        return " ".join(self.sentences[:upto])


# --- chats -----------------------------------------------------------------------------
# A document is a list of (text, weight class): what the loss counts is decided in train.py.
UNTRAINED, READ, WRITTEN, ANSWERED = range(4)
BOS, EOS = "<s>", "</s>"
USER, ASSISTANT = "<extra_id_1>User\n", "<extra_id_1>Assistant\n"
SYSTEMS = ["You are a helpful assistant.", "Answer questions about the story.", "You are a friendly reader.", "Answer in one short sentence."]
READY = "I have read the story. What would you like to know?"
OFFER = "Hello! Tell me a story, and I will answer questions about it."
ABOUT = "I am a very small model. I can read a little story and answer questions about it, or tell one."
HELLO = [(words, OFFER) for words in ("Hello.", "Hi.", "Hi", "Hello", "Hello!", "Hi!", "Good morning.", "Hello there.")]
THANKS = [(words, "You are welcome.") for words in ("Thank you.", "Thank you!", "Thanks.", "Thanks!")]
GOODBYE = [(words, "Goodbye! Come back soon.") for words in ("Goodbye.", "Goodbye!", "Bye.", "Bye!")]
TALK = HELLO + THANKS + GOODBYE + [(words, ABOUT) for words in ("Who are you?", "What are you?", "What can you do?", "Help", "What is this?")] + [
    (words, "I am well, thank you. Shall we read a story?") for words in ("How are you?", "How are you today?")]


def system(rng):
    words = rng.choice(SYSTEMS) if rng.random() < .6 else ""
    return "<extra_id_0>System" + ("\n" + words if words else "") + "\n\n"


def chat(head, turns):
    """turns: (user, assistant). Only the last answer is followed by the end token; after the others the loss is silent."""
    pieces = [(head, READ)]
    for i, (user, assistant) in enumerate(turns):
        pieces += [(USER + user + "\n" + ASSISTANT, READ), (assistant, ANSWERED)]
        pieces.append((EOS, ANSWERED) if i == len(turns) - 1 else ("\n", UNTRAINED))
    return pieces


def opening(rng, text, question, answer):
    """The story and the first question in one message, or the story first."""
    shown = rng.choice(["Here is a story. ", "Read this story. ", "", ""]) + text
    if rng.random() < .6:
        return [(shown + rng.choice(["\n", "\n", " "]) + question, answer)]
    return [(shown, READY), (question, answer)]


def sample_facts(rng, facts, count):
    """Kinds evenly, so that the rare ones are asked as often as the others; no question is asked twice."""
    kinds = {}
    for fact in facts:
        kinds.setdefault(fact.kind, []).append(fact)
    chosen = []
    while kinds and len(chosen) < count:
        kind = rng.choice(sorted(kinds))
        fact = rng.choice(kinds[kind])
        kinds = {k: left for k, v in kinds.items() if (left := [f for f in v if f.answer != fact.answer])}
        chosen.append(fact)
    return chosen


def quiz(rng, split, events, having, calm):
    """A text of about `events` events and questions about it."""
    story = Story(rng, split)
    if rng.random() < .35 and events >= 4:
        story.tale()
    story.notes(max(1, events - len(story.sentences)), having, calm)
    story.retell(rng.choice([0, 0, .2, .5]))
    facts = sample_facts(rng, story.questions(), rng.randint(1, min(12, 2 + events // 2)))
    if not facts:
        return quiz(rng, split, events, having, calm)
    asked = [(rng.choice(f.questions), f.answer) for f in facts]
    turns = opening(rng, story.text(), *asked[0]) + asked[1:]
    if rng.random() < .05:
        turns.insert(0, rng.choice(HELLO))
    if rng.random() < .05:
        turns.append(rng.choice(THANKS + GOODBYE))
    return chat(system(rng), turns)


def repetition(rng, split, events):
    """A text to be said again word by word: nothing teaches copying faster."""
    story = Story(rng, split)
    story.notes(events)
    return chat(system(rng), [(rng.choice(["Repeat this. ", "Say this again. ", "Please repeat. "]) + story.text(), story.text())])


def word_list(rng, events):
    """Words without sense to be said again: every word that can be an answer is soon copied, the rare ones too."""
    words = rng.sample(CONTENT, rng.randint(3, min(40, 4 * events)))
    return chat(system(rng), [("Say these words again. " + " ".join(words) + ".", "The words are " + " ".join(words) + ".")])


def account(rng, split, events, having, calm, lead):
    """A text and what is known from it in any order: many answers in little space. Nothing tells which fact comes next:
    `lead` is the weight class of the two words that begin a sentence."""
    story = Story(rng, split)
    story.notes(events, having, calm)
    story.retell(rng.choice([0, 0, .2, .5]))
    facts = sample_facts(rng, story.questions(), rng.randint(2, min(14, 2 + events)))
    head = system(rng)
    ask = story.text() + rng.choice(["\n", " "]) + rng.choice(["What do you know?", "Tell me what you know."])
    answers = [f.answer for f in facts if lead == ANSWERED or not f.answer.startswith("There were")]
    pieces = chat(head, [(ask, "")])
    said = []
    for i, answer in enumerate(answers):
        first, second, rest = answer.split(" ", 2)
        said += [((" " if i else "") + first + " " + second, lead), (" " + rest, ANSWERED)]
    return pieces[:2] + said + pieces[3:]


def document(rng, split="train", events=5, repeat=0, words=0, accounts=0, having=0, calm=(), lead=ANSWERED):
    """One training document of at most about so many events. The shares of special documents: `repeat` of texts and `words`
    of lists of words to be said again, `accounts` of accounts. `having`: see Story.notes; `calm`: kinds of calm to
    choose from; `lead`: see account."""
    peace = rng.choice(calm) if calm else BUSY
    events = fewer(events, peace) if calm else events
    if accounts and rng.random() < accounts:
        return account(rng, split, rng.randint(1, events), having, peace, lead)
    if words and rng.random() < words:
        return word_list(rng, events)
    if repeat and rng.random() < repeat:
        return repetition(rng, split, rng.randint(1, (events + 2) // 2))
    x = rng.random()
    if x < .84 or events < 4:
        return quiz(rng, split, rng.randint(1, events), having, peace) if x < .95 else chat(system(rng), rng.sample(TALK, 1))
    if x < .88:
        return chat(system(rng), rng.sample(TALK, rng.choice([1, 1, 2])))
    story = Story(rng, split)
    A, B, thing = story.tale(rng.choice([2, 3]))
    if x < .90:
        return [(BOS, UNTRAINED), (story.text(), WRITTEN), (EOS, WRITTEN)]
    if x < .96:
        wish = rng.choice(["Tell me a story.", "Tell me a story", "Please tell me a story.", f"Tell me a story about {A} and {B}.", f"Tell me a story about {A}.",
                           f"Tell me a story about {A} and a {thing}.", f"Write a story about {A}."])
        return chat(system(rng), [(wish, story.text())])
    cut = rng.randint(2, len(story.sentences) - 2)
    wish = rng.choice(["Continue this story. ", "Please continue the story. ", "Go on with this story. "])
    return chat(system(rng), [(wish + story.text(cut), " ".join(story.sentences[cut:]))])


# --- held-out questions ------------------------------------------------------------------
DISTANCES = ((0, 64), (65, 128), (129, 256))


def questions(seed, per_cell, length, split="held"):
    """`per_cell` questions for every kind and every range of distances (`length` counts the tokens of a text).

    Distance: tokens from the end of the last sentence that states the fact to the start of the answer.
    No fact is said twice here. `guess` is the chance of a reader who draws among the values of the
    right kind that the text mentions; there are at least two of them, beyond 64 tokens three."""
    rng, out = random.Random(seed), []
    room = {(kind, span): per_cell for kind in KINDS for span in DISTANCES}
    while room:
        far = rng.choice([hi for _, hi in sorted(span for _, span in room)])
        story = Story(rng, split)
        if rng.random() < .35:
            story.tale()
        calm = rng.choice([BUSY, QUIET, EMPTY])
        story.notes(rng.randint(1, max(2, fewer(far // 9, calm))), 0, calm)
        facts = [fact for fact in story.questions() if fact.clean]
        if not facts:
            continue
        fact = rng.choice(facts)
        question = rng.choice(fact.questions)
        head = "<extra_id_0>System\n" + SYSTEMS[0] + "\n\n" + USER
        told, rest = head + story.text(fact.sentence + 1), "\n" + (ASSISTANT + READY + "\n" + USER if rng.random() < .4 else "")
        prompt = head + story.text() + rest + question + "\n" + ASSISTANT
        distance = length(prompt) - length(told)
        span = next((s for s in DISTANCES if s[0] <= distance <= s[1]), None)
        if (fact.kind, span) not in room:
            continue
        choices = set(story.people) if fact.value in NAMES else {f.value for f in story.facts.values() if f.kind == fact.kind}
        if len(choices) < (2 if span == DISTANCES[0] else 3):
            continue
        room[fact.kind, span] -= 1
        if not room[fact.kind, span]:
            del room[fact.kind, span]
        out.append(dict(prompt=prompt, answer=fact.answer, kind=fact.kind, distance=distance, guess=1 / len(choices)))
    return out


if __name__ == "__main__":
    shown = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 6):
        print("".join(text for text, _ in document(shown, events=16)), "\n" + "-" * 60)
