// Numbers as a person reads them.

const UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB'];

/** Decimal bytes in three figures: `4.46 MB`. */
export function bytes(count: number): string {
  let unit = 0;
  while (count >= 999.5 && unit < UNITS.length - 1) {
    count /= 1000;
    unit++;
  }
  return `${unit === 0 ? Math.round(count) : figures(count)} ${UNITS[unit]}`;
}

/** Three figures, without digits that say nothing. */
export function figures(x: number): string {
  if (x >= 99.5) return Math.round(x).toLocaleString('en');
  return x >= 9.95 ? x.toFixed(1) : x.toFixed(2);
}

/** A time: `85 ms`, `1.24 s`. */
export function duration(ms: number): string {
  return ms < 999.5 ? `${Math.round(ms)} ms` : `${figures(ms / 1000)} s`;
}

/** `1 token`, `2,048 tokens`. */
export function tokens(count: number): string {
  return `${count.toLocaleString('en')} ${count === 1 ? 'token' : 'tokens'}`;
}

/** `3 of 135 tokens`. */
export function of(part: number, whole: number): string {
  return `${part.toLocaleString('en')} of ${tokens(whole)}`;
}

/** `2.22 million`, `1.52 billion`. */
export function parameters(count: number): string {
  return count >= 999.5e6 ? `${figures(count / 1e9)} billion` : `${figures(count / 1e6)} million`;
}

/** Words of the engine as a sentence. */
export function sentence(text: string): string {
  const end = /[.!?]$/.test(text) ? '' : '.';
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${end}`;
}

/** A share of a whole, between 0 and 1. */
export function share(part: number, whole: number): number {
  return whole > 0 ? Math.min(1, Math.max(0, part / whole)) : 0;
}

/** `1 message`, `12 messages`. */
export function messages(count: number): string {
  return `${count.toLocaleString('en')} ${count === 1 ? 'message' : 'messages'}`;
}

const SPANS: [unit: Intl.RelativeTimeFormatUnit, seconds: number][] = [
  ['year', 31_556_952],
  ['month', 2_629_746],
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
];

/** A time in the past, in milliseconds since 1970: `just now`, `5 minutes ago`, `yesterday`. */
export function ago(time: number, now = Date.now()): string {
  const seconds = (now - time) / 1000;
  const [unit, length] = SPANS.find(([, length]) => seconds >= length) ?? [];
  if (!unit || !length) return 'just now';
  return new Intl.RelativeTimeFormat('en', { numeric: 'auto' }).format(-Math.floor(seconds / length), unit);
}
