// Elements in one expression: the page needs no framework for what it draws.

type Child = Node | string | false | null | undefined;
type Value = string | number | boolean | null | undefined | ((event: never) => void);
type Properties = Record<string, Value>;

/** An element. A property that is a function listens to the event of its name; `true` is an attribute without a value. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Properties = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  return furnish(document.createElement(tag), properties, children);
}

/** The same for SVG. */
export function s<K extends keyof SVGElementTagNameMap>(
  tag: K,
  properties: Properties = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  return furnish(document.createElementNS('http://www.w3.org/2000/svg', tag), properties, children);
}

function furnish<E extends Element>(element: E, properties: Properties, children: Child[]): E {
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === 'function') element.addEventListener(name, value as EventListener);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The element that `index.html` has under this id. */
export function byId(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html has no element #${id}`);
  return element;
}

/** Lets a text box be as high as what is in it, where the browser does not do so by itself (`field-sizing`). */
export function growing(text: HTMLTextAreaElement): HTMLTextAreaElement {
  if (!CSS.supports('field-sizing', 'content')) {
    const fit = () => {
      text.style.height = 'auto';
      text.style.height = `${text.scrollHeight + 2}px`;
    };
    text.addEventListener('input', fit);
    requestAnimationFrame(fit);
  }
  return text;
}
