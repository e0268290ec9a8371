"""Text for the demo model: little stories and questions about them, as chats.

Every word and every sentence pattern here is the project's own; a seed is the only input.

A `Story` is told fact by fact, each a sentence with a question of its own. Within one story a question has one answer, and every kind of
answer is drawn from at least twenty words, about equally likely.

The train and the held-out split share no combination: (person, place), (person, thing),
(thing, colour), (giver, thing, receiver) and so on each belong to one split by their hash, one in
eight to the held-out one.

`python corpus.py [seed] [count]` prints samples.
"""
import random
import sys
import zlib
from dataclasses import dataclass, replace

NAMES = "Anna Mia Lily Rosa Nora Ella Zoe Ivy Clara Sara Emma Lucy Tom Ben Max Leo Sam Finn Jack Noah Hugo Paul Adam Omar".split()
OBJECTS = ("ball kite lamp book hat cup key drum box scarf coat boat bell ring map mask chair clock bag pen "
           "blanket flute bike fan whistle doll spoon mirror ribbon wagon jar brush").split()
COLOURS = ("red blue green yellow white black brown pink purple gold silver grey "
           "tan navy lime cream teal coral peach mint beige violet").split()
PLACES = ("park garden kitchen market school river beach forest barn library bakery hill "
          "station farm lake bridge mill castle church shop tower cave").split()
THINGS = "apples pears eggs shells stones coins flowers buttons cookies nuts cards seeds".split()
NUMBERS = ("two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
           "seventeen eighteen nineteen twenty thirty forty fifty").split()
ANIMALS = "cat dog rabbit horse bird duck goat fox mouse frog sheep pig cow bear wolf hen deer swan snake crab lion".split()
FOODS = ("bread soup rice cheese cake pie toast honey jam beans corn fish pasta salad plums "
         "berries carrots grapes noodles butter").split()
WEATHER = "sunny cold windy warm quiet rainy".split()
SCENERY = ["The sun was high in the sky.", "A soft wind moved the leaves.", "The road was long and quiet.", "Far away a bell rang.",
           "It was getting late.", "The water was clear and cold.", "The grass was wet.", "The day was long and warm."]
POOLS = dict(place=PLACES, met=NAMES, animal=ANIMALS, food=FOODS, howmany=NUMBERS, colour=COLOURS, holder=NAMES)
CONTENT = sorted({word for pool in (*POOLS.values(), OBJECTS, THINGS) for word in pool})

# Event: sentences, kind of fact, questions, answer. {A}: who, {o} and {t}: which thing, {v}: the word that is asked for.
# Who or what it is about stands at most three tokens before {v}: as far as the convolution of the first layer reaches.
EVENTS = {
    "place": (["{A} visited the {v}.", "One {weather} day {A} visited the {v}.", "Then {A} visited the {v}."],
              ["Where did {A} go?", "What place did {A} visit?"], "{A} visited the {v}."),
    "met": (["{A} met {v}.", "There {A} met {v}.", "On the way {A} met {v}."], ["Who did {A} meet?"], "{A} met {v}."),
    "animal": (["{A} saw a {v}.", "Suddenly {A} saw a {v}."], ["What animal did {A} see?"], "{A} saw a {v}."),
    "food": (["{A} ate some {v}.", "For lunch {A} ate some {v}."], ["What did {A} eat?"], "{A} ate some {v}."),
    "howmany": (["{A} found {v} {t}.", "Later {A} found {v} {t}."], ["How many {t} did {A} find?"], "{A} found {v} {t}."),
    "own": (["{A} had a {o}.", "{A} carried a {o}."], [], ""),
    "colour": (["The {o} was {v}.", "The {o} looked {v}."], ["What colour is the {o}?", "What color is the {o}?"], "The {o} is {v}."),
    "holder": (["{A} gave the {o} to {v}.", "Then {A} gave the {o} to {v}."], ["Who has the {o} now?"], "The {o} now belongs to {v}."),
}


@dataclass(frozen=True)
class Fact:
    kind: str
    questions: tuple
    answer: str
    value: str
    sentence: int                 # index of the sentence that states it


class Story:
    """One text in the making."""

    def __init__(self, rng, split="train"):
        self.rng, self.split = rng, split
        self.sentences, self.facts = [], []
        self.done, self.owned = set(), {}                  # (kind, person) that were told; who had which object

    def pick(self, pool, *others):
        """A word whose combination with the others belongs to this split, or None."""
        free = [w for w in pool if (zlib.crc32("|".join((*others, w)).encode()) % 8 == 0) == (self.split == "held")]
        return self.rng.choice(free) if free else None

    def plain(self, sentence):
        self.sentences.append(sentence)

    def tell(self, kind, A, way=None, v=None):
        """Tells a fact of a kind about A or A's thing (in the sentence `way`) unless there is nothing to be told."""
        if (kind, A) in self.done:
            return
        r, o, t = self.rng, self.owned.get(A), self.rng.choice(THINGS)
        if kind in ("colour", "holder") and not o:
            self.tell("own", A)
            o = self.owned.get(A)
        if kind == "own":
            o = v = self.pick([o for o in OBJECTS if o not in self.owned.values()], A)
            self.owned[A] = o
        elif kind == "colour":
            v = o and self.pick(COLOURS, o)
        elif kind == "holder":
            v = o and self.pick([n for n in NAMES if n != A], A, o)
        else:
            v = v or self.pick([w for w in POOLS[kind] if w != A], A, *[t] * (kind == "howmany"))
        if not v:
            return
        words = dict(A=A, o=o, t=t, v=v, weather=r.choice(WEATHER))
        sentences, questions, answer = EVENTS[kind]
        self.done.add((kind, A))
        self.plain((sentences[way] if way is not None else r.choice(sentences)).format(**words))
        if questions:
            self.facts.append(Fact(kind, tuple(q.format(**words) for q in questions), answer.format(**words), v, len(self.sentences) - 1))

    def notes(self, events, kinds, scenery=0.):
        """Up to `events` events of `kinds` kinds about several people, one after the other or all mixed; `scenery`: sentences
        without a fact for each."""
        r, kinds = self.rng, self.rng.sample([*POOLS, "holder"], kinds)
        people = r.sample(NAMES, min(len(NAMES), max(2, round(events / r.uniform(1, min(4, len(kinds)))))))
        plan = [(event, A) for A in people for event in kinds]
        plan = r.sample(plan, min(events, len(plan)))
        if r.random() < .5:
            plan.sort(key=lambda step: people.index(step[1]))
        for event, A in plan:
            self.tell(event, A)
            while r.random() < scenery / (1 + scenery):
                self.plain(r.choice(SCENERY))

    def tale(self):
        """A small story about two friends."""
        r = self.rng
        A = r.choice(NAMES)
        B = self.pick([n for n in NAMES if n != A], A)
        self.tell("place", A, way=1)
        if r.random() < .3:
            self.plain(r.choice(SCENERY))
        self.tell("own", A)
        self.tell("met", A, way=1, v=B)
        for event in r.sample(["howmany", "animal", "food", "colour", "holder", "talk"], r.choice([2, 3, 4])):
            if event == "talk":
                self.plain(r.choice([f"\"What shall we do now?\" asked {B}.", f"\"This is a nice place,\" said {B}.", f"\"Let us sit down and rest,\" said {B}."]))
                self.plain(r.choice([f"\"We can play a game,\" said {A}.", f"{A} and {B} laughed.", "They sat down in the grass."]))
            else:
                self.tell(event, A if event in ("colour", "holder") else r.choice([A, B]))
        self.plain(r.choice(["Then they went home together.", f"{A} never forgot that day.", "It was a very good day.", f"\"Goodbye, {B},\" said {A}.", f"{A} and {B} are still friends."]))
        return A, B

    def text(self, upto=None):
        return " ".join(self.sentences[:upto])


# --- chats -----------------------------------------------------------------------------
# A document is a list of (text, weight class): what the loss counts is decided in train.py.
UNTRAINED, READ, WRITTEN, ANSWERED = range(4)
EOS = "</s>"
USER, ASSISTANT = "<extra_id_1>User\n", "<extra_id_1>Assistant\n"
SYSTEMS = ["You are a helpful assistant.", "Answer questions about the story."]
READY = "I have read the story. What would you like to know?"
OFFER = "Hello! Tell me a story, and I will answer questions about it."
ABOUT = "I am a very small model. I can read a little story and answer questions about it, or tell one."
HELLO = [(words, OFFER) for words in ("Hello.", "Hi.", "Hi", "Hello", "Hello!", "Hi!", "Good morning.", "Hello there.")]
THANKS = [(words, "You are welcome.") for words in ("Thank you.", "Thank you!", "Thanks.", "Thanks!")]
GOODBYE = [(words, "Goodbye! Come back soon.") for words in ("Goodbye.", "Goodbye!", "Bye.", "Bye!")]
TALK = HELLO + THANKS + GOODBYE + [(words, ABOUT) for words in ("Who are you?", "What are you?", "What can you do?", "Help", "What is this?")] + [
    (words, "I am well, thank you. Shall we read a story?") for words in ("How are you?", "How are you today?")]


def system(rng):
    words = rng.choice(SYSTEMS) if rng.random() < .5 else ""
    return "<extra_id_0>System" + ("\n" + words if words else "") + "\n\n"


def chat(head, turns):
    """turns: (user, assistant). Only the last answer is followed by the end token; after the others the loss is silent."""
    pieces = [(head, UNTRAINED)]
    for i, (user, assistant) in enumerate(turns):
        pieces += [(USER + user + "\n" + ASSISTANT, READ), (assistant, ANSWERED)]
        pieces.append((EOS, ANSWERED) if i == len(turns) - 1 else ("\n", UNTRAINED))
    return pieces


def evenly(rng, facts, count):
    """At most `count` facts, kinds evenly, each once."""
    kinds = {}
    for fact in rng.sample(facts, len(facts)):
        kinds.setdefault(fact.kind, []).append(fact)
    chosen = []
    while kinds and len(chosen) < count:
        kind = rng.choice(sorted(kinds))
        chosen.append(kinds[kind].pop())
        if not kinds[kind]:
            del kinds[kind]
    return chosen


PER_EVENT, PER_QUESTION, PER_HEAD = 7.2, 19.5, 10              # tokens, about


def quiz(rng, split, room, kinds, calm):
    """A text and questions about it that fill `room` tokens together. `kinds`: how many kinds of events to choose from;
    `calm`: the scenery to choose from."""
    fewest, most = (room - PER_HEAD) / (PER_EVENT + PER_QUESTION), (room - PER_HEAD - 2 * PER_QUESTION) / PER_EVENT
    scenery = rng.choice(calm)
    events = int(rng.randint(max(2, int(fewest)), max(2, int(most))) / (1 + scenery))
    story = Story(rng, split)
    if events > 7 and rng.random() < .1:
        story.tale()
    story.notes(max(2, events - len(story.sentences)), rng.choice(kinds), scenery)
    questions = max(1, int((room - PER_HEAD - len(story.sentences) * PER_EVENT) / PER_QUESTION))
    turns = [(rng.choice(f.questions), f.answer) for f in evenly(rng, story.facts, questions)]
    if not turns:
        return quiz(rng, split, room, kinds, calm)
    if rng.random() < .8 or questions < 3:
        turns[0] = (story.text() + "\n" + turns[0][0], turns[0][1])
    else:
        turns = [(story.text(), READY)] + turns[:-1]
    return chat(system(rng), turns)


def account(rng, split, room, kinds):
    """A text and all that is known from it in another order: many answers in little space. Nothing tells which fact
    comes next, so a sentence is only read up to the word that can be known."""
    story = Story(rng, split)
    story.notes(max(2, int((room - PER_HEAD) / PER_EVENT / 2.1)), rng.choice(kinds))
    if not story.facts:
        return account(rng, split, room, kinds)
    said = []
    for fact in rng.sample(story.facts, len(story.facts)):
        before, value, after = fact.answer.rpartition(fact.value)
        said += [(" " * bool(said) + before.rstrip(), READ), (" " + value + after, ANSWERED)]
    pieces = chat(system(rng), [(story.text() + "\nTell me what you know.", "")])
    return pieces[:2] + said + pieces[3:]


def word_list(rng, room):
    """Words without sense to be said again: nothing teaches copying faster."""
    words = " ".join(rng.sample(CONTENT, rng.randint(3, max(3, min(60, (room - 30) // 2)))))
    return chat(system(rng), [("Say these words again. " + words + ".", "The words are " + words + ".")])


def telling(rng, split):
    """A story to be told or to be continued."""
    story = Story(rng, split)
    A, B = story.tale()
    if rng.random() < .6:
        wish = rng.choice(["Tell me a story.", "Tell me a story", "Please tell me a story.", f"Tell me a story about {A}.", f"Tell me a story about {A} and {B}."])
        return chat(system(rng), [(wish, story.text())])
    cut = rng.randint(2, len(story.sentences) - 2)
    return chat(system(rng), [("Continue this story. " + story.text(cut), " ".join(story.sentences[cut:]))])


def document(rng, room, split="train", words=0., accounts=0., told=.06, kinds=(2, 4, 7), calm=(0.,)):
    """One training document of about `room` tokens at most. `words`, `accounts`, `told`: shares of word lists, of accounts
    and of told stories; `kinds`, `calm`: see quiz."""
    x = rng.random()
    if x < words:
        return word_list(rng, room)
    if x < words + accounts:
        return account(rng, split, room, kinds)
    if x < words + accounts + told and room > 100:
        return telling(rng, split)
    if x > .97:
        return chat(system(rng), rng.sample(TALK, rng.choice([1, 1, 2])))
    return quiz(rng, split, room, kinds, calm)


# --- held-out questions ------------------------------------------------------------------
DISTANCES = ((0, 64), (65, 128), (129, 256))


@dataclass(frozen=True)
class Question:
    story: str
    question: str
    answer: str
    kind: str
    distance: int                 # tokens from the end of the sentence that states the fact to the start of the answer
    guess: float                  # the chance of a reader who draws among the answers of this kind that the text holds

    @property
    def prompt(self):
        return f"<extra_id_0>System\n{SYSTEMS[0]}\n\n{USER}{self.story}\n{self.question}\n{ASSISTANT}"


def questions(seed, per_cell, length, split="held", most=20):
    """`per_cell` questions for every kind and every range of distances, up to `most` about one text. `length` counts the
    tokens of a text. A text holds at least two answers of the kind asked for, beyond 64 tokens three."""
    rng, out = random.Random(seed), []
    wanted = {(kind, span): per_cell for kind in POOLS for span in DISTANCES}
    while wanted:
        far = max(high for _, (_, high) in wanted)
        story = Story(rng, split)
        scenery = rng.choice([0., .5, 1.5])
        story.notes(int(rng.randint(far // 16, far // 6) / (1 + scenery)), rng.choice([2, 4, 7]), scenery)
        asked = 0
        for fact in rng.sample(story.facts, len(story.facts)):
            values = {f.value for f in story.facts if f.kind == fact.kind}
            item = Question(story.text(), rng.choice(fact.questions), fact.answer, fact.kind, 0, 1 / len(values))
            told = item.prompt[:item.prompt.index(story.sentences[fact.sentence]) + len(story.sentences[fact.sentence])]
            distance = length(item.prompt) - length(told)
            span = next((s for s in DISTANCES if s[0] <= distance <= s[1]), None)
            if asked == most or (fact.kind, span) not in wanted or len(values) < (2 if span == DISTANCES[0] else 3):
                continue
            out.append(replace(item, distance=distance))
            asked += 1
            wanted[fact.kind, span] -= 1
            if not wanted[fact.kind, span]:
                del wanted[fact.kind, span]
    return out


if __name__ == "__main__":
    shown = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 6):
        print("".join(text for text, _ in document(shown, 240, words=.1, accounts=.2, told=.1, calm=(0., .5, 1.5))), "\n" + "-" * 60)
