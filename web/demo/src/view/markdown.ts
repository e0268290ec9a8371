// The part of Markdown that models write: paragraphs, lists, headings, code, bold and italic. Elements are made one by
// one and text stays text, so that no answer can bring markup of its own.

import { h } from '../dom';

const FENCE = /^```(\S*)\s*$/;
const ITEM = /^\s*(?:[-*+]|(\d+)[.)])\s+(.*)$/;
const HEADING = /^#{1,6}\s+(.*)$/;

/** The elements of an answer, also of one that is still being made. */
export function markdown(text: string): Node[] {
  const out: Node[] = [];
  const lines = text.split('\n');
  for (let at = 0; at < lines.length;) {
    const line = lines[at]!;
    const from = at++;
    if (line.trim() === '') continue;
    if (FENCE.test(line)) {
      while (at < lines.length && !FENCE.test(lines[at]!)) at++;
      out.push(h('pre', { tabindex: 0 }, h('code', {}, lines.slice(from + 1, at).join('\n'))));
      at++;
    } else if (HEADING.test(line)) {
      out.push(h('p', { class: 'heading' }, ...inline(HEADING.exec(line)![1]!)));
    } else if (ITEM.test(line)) {
      const first = ITEM.exec(line)![1];
      while (at < lines.length && (ITEM.test(lines[at]!) || /^\s+\S/.test(lines[at]!))) at++;
      out.push(list(lines.slice(from, at), first));
    } else {
      while (at < lines.length && lines[at]!.trim() !== '' && !FENCE.test(lines[at]!) && !ITEM.test(lines[at]!)) at++;
      out.push(h('p', {}, ...inline(lines.slice(from, at).join('\n'))));
    }
  }
  return out;
}

function list(lines: string[], first: string | undefined): HTMLElement {
  const items: string[] = [];
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (item) items.push(item[2]!);
    else items[items.length - 1] += ` ${line.trim()}`;
  }
  const entries = items.map((item) => h('li', {}, ...inline(item)));
  return first === undefined ? h('ul', {}, ...entries) : h('ol', { start: first }, ...entries);
}

const INLINE = /`([^`]+)`|\*\*(.+?)\*\*|\*(\S(?:.*?\S)?)\*/g;

function inline(text: string): (Node | string)[] {
  const out: (Node | string)[] = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    const [all, code, bold, italic] = match;
    out.push(text.slice(end, match.index));
    if (code !== undefined) out.push(h('code', {}, code));
    else if (bold !== undefined) out.push(h('strong', {}, ...inline(bold)));
    else out.push(h('em', {}, ...inline(italic!)));
    end = match.index + all.length;
  }
  out.push(text.slice(end));
  return out;
}
