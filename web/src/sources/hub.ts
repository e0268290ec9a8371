/** Models on the hub: a name becomes one commit's files, so that all of them belong together. */

import { SelvedgeError } from '../errors.js';
import type { ModelStore } from '../store/models.js';
import type { LoadOptions } from '../types.js';
import { HttpOrigin, type FileIdentity, type Found, type Origin, type Piece } from './http.js';

const HUB = 'https://huggingface.co';

export interface HubName {
  readonly model: string;
  readonly revision: string;
}

/** `org/name` or `org/name@revision`; `undefined` for anything else. */
export function parseHubName(text: string): HubName | undefined {
  const [, model, revision] = /^([\w-][\w.-]*\/[\w-][\w.-]*)(?:@([\w./-]+))?$/.exec(text) ?? [];
  return model === undefined ? undefined : { model, revision: revision ?? 'main' };
}

/** Asks the hub which commit a name means. Without a network, the stored one. */
export async function hubOrigin(
  { model, revision }: HubName,
  options: LoadOptions,
  store: ModelStore | undefined,
  came: (bytes: number) => void,
): Promise<Origin> {
  const hub = (options.hub ?? HUB).replace(/\/+$/, '');
  const headers: Record<string, string> = options.token ? { authorization: `Bearer ${options.token}` } : {};
  const { signal } = options;
  const commit = await askCommit();
  const http = new HttpOrigin(`${hub}/${model}/resolve/${encodeURIComponent(commit)}/`, { signal, headers, came });
  return new CommitOrigin(http, commit, store);

  async function askCommit(): Promise<string> {
    const url = `${hub}/api/models/${model}/revision/${encodeURIComponent(revision)}`;
    let response: Response;
    try {
      response = await fetch(url, { headers, signal: signal ?? null });
    } catch (error) {
      signal?.throwIfAborted();
      if (store?.revision !== undefined) return store.revision;
      throw new SelvedgeError('network', `${hub} cannot be reached (${error})`, { cause: error });
    }
    if (response.ok) {
      const { sha } = (await response.json()) as { sha?: unknown };
      if (typeof sha === 'string') {
        store?.setRevision(sha);
        return sha;
      }
      throw new SelvedgeError('network', `${url}: the hub's answer has no \`sha\``);
    }
    if ([401, 403, 404].includes(response.status)) {
      const hint = options.token ? 'or the token has no access to it' : 'or it needs a `token`';
      throw new SelvedgeError('not-found', `there is no ${model} (revision ${revision}) on ${hub}, ${hint}`);
    }
    if (store?.revision !== undefined) return store.revision;
    throw new SelvedgeError('network', `${url}: the hub answers ${response.status} ${response.statusText}`.trim());
  }
}

/** Files of a commit never change: the commit says more than what servers on the way say of them. */
class CommitOrigin implements Origin {
  constructor(
    readonly http: HttpOrigin,
    readonly commit: string,
    readonly store: ModelStore | undefined,
  ) {}

  describe(name: string): string {
    return this.http.describe(name);
  }

  async find(name: string, known: boolean): Promise<Found | null> {
    const stored = this.store?.file(name);
    // The files of a commit never change.
    if (stored === null || stored?.validator === this.commit) return stored && { identity: stored, ranges: true };
    const found = await this.http.find(name, known);
    return found && { ...found, identity: { size: found.identity.size, validator: this.commit } };
  }

  fetch(name: string, file: FileIdentity, start: number, end: number): AsyncIterable<Piece> {
    return this.http.fetch(name, { size: file.size, validator: '' }, start, end);
  }
}
