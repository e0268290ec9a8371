// Questions for the demo model, which reads little stories and answers questions about them.

export interface Opener {
  title: string;
  text: string;
}

/** To begin with. The facts of the first lie further back than four of the model's seven layers can look. */
export const OPENERS: Opener[] = [
  {
    title: 'Read a story, then ask about it',
    text:
      'One cold day Mia visited the lake. Ben saw a goat. Emma met Finn. Max carried a boat. The boat looked white. ' +
      'For lunch Anna ate some carrots. Adam found seven buttons. What animal did Ben see?',
  },
  { title: 'Have a story told', text: 'Tell me a story about Mia and Ben.' },
  {
    title: 'Begin one and let it go on',
    text: 'Continue this story. One sunny day Leo visited the castle. Leo had a kite.',
  },
  { title: 'Ask what it is', text: 'What can you do?' },
];

/** Sentences that state a fact, and what to ask about it. The model was trained on these. */
const FACTS: [RegExp, (...words: string[]) => string][] = [
  [/([A-Z]\w+) visited the \w+\./g, (_, who) => `Where did ${who} go?`],
  [/([A-Z]\w+) met [A-Z]\w+\./g, (_, who) => `Who did ${who} meet?`],
  [/([A-Z]\w+) saw a \w+\./g, (_, who) => `What animal did ${who} see?`],
  [/([A-Z]\w+) ate some \w+\./g, (_, who) => `What did ${who} eat?`],
  [/([A-Z]\w+) found \w+ (\w+)\./g, (_, who, what) => `How many ${what} did ${who} find?`],
  [/The (\w+) looked \w+\./g, (_, what) => `What colour is the ${what}?`],
  [/gave the (\w+) to [A-Z]\w+\./g, (_, what) => `Who has the ${what} now?`],
];

/** Up to `count` questions about what was told that have not been asked yet, those about what lies furthest back first. */
export function questions(said: string[], count: number): string[] {
  const text = said.join('\n');
  const found: { at: number; question: string }[] = [];
  for (const [fact, question] of FACTS) {
    for (const match of text.matchAll(fact)) {
      const asked = question(...(match as unknown as string[]));
      if (!text.includes(asked) && !found.some((other) => other.question === asked)) {
        found.push({ at: match.index, question: asked });
      }
    }
  }
  return found
    .sort((a, b) => a.at - b.at)
    .slice(0, count)
    .map(({ question }) => question);
}
