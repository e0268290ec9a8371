/** Turns for the page amid long work. */

/** Milliseconds of work after which a page is let do its own. */
const SLICE = 30;

/** Gives the page its turn when it has waited long enough; `undefined` when it has not. */
export class Politeness {
  #since = performance.now();

  pause(): Promise<void> | undefined {
    if (performance.now() - this.#since < SLICE) return undefined;
    return new Promise((resolve) => {
      // A message comes after what the page has to do already, and unlike a timer's it is not held back.
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        port1.close();
        this.#since = performance.now();
        resolve();
      };
      port2.postMessage(null);
    });
  }
}
