// The browser's storage for what the page remembers. It may be forbidden, full, or hold what an older page wrote.

/** Keeps values for good, or as long as the tab. */
type Place = 'localStorage' | 'sessionStorage';

/** Values that the storage did not take: they are there as long as the page. */
const held = new Map<string, string>();

/** Keeps a value; `null` removes it. False where it is kept as long as the page only. */
export function keep(key: string, value: string | null, place: Place = 'localStorage'): boolean {
  if (place === 'localStorage') held.delete(key);
  try {
    if (value === null) window[place].removeItem(key);
    else window[place].setItem(key, value);
    return true;
  } catch {
    if (value === null) return true;
    if (place === 'localStorage') held.set(key, value);
    return false;
  }
}

export function kept(key: string, place: Place = 'localStorage'): string | null {
  const value = place === 'localStorage' ? held.get(key) : undefined;
  if (value !== undefined) return value;
  try {
    return window[place].getItem(key);
  } catch {
    return null;
  }
}

/** Keys of everything that is kept for good, and of what should be. */
export function keys(): string[] {
  try {
    return [...new Set([...Object.keys(localStorage), ...held.keys()])];
  } catch {
    return [...held.keys()];
  }
}

/** Keeps what did not fit before, as far as it does now. */
export function keepHeld(): void {
  for (const [key, value] of [...held]) keep(key, value);
}
