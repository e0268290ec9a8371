/** Models on the hub: a name becomes one commit's files, so that all of them belong together. */

import { SelvedgeError } from '../errors.js';
import type { ModelStore } from '../store/models.js';
import type { LoadOptions } from '../types.js';
import { HttpOrigin, type FileIdentity, type Found, type Origin, type Piece } from './http.js';

const HUB = 'https://huggingface.co';

export interface HubName {
  readonly model: string;
  readonly revision: string;
  /** Of a GGUF model: a tag such as `Q4_K_M`, or its file. */
  readonly tag: string | undefined;
}

/** `org/name`, `org/name@revision`, each of them with `:TAG` or `:FILE.gguf`; `undefined` for anything else. */
export function parseHubName(text: string): HubName | undefined {
  const [, model, revision = 'main', tag] = /^([\w-][\w.-]*\/[\w-][\w.-]*)(?:@([\w./-]+))?(?::([^#]+))?$/.exec(text) ?? [];
  return model === undefined ? undefined : { model, revision, tag };
}

/** The GGUF file that a name means, the first one of several files; `undefined` where it means a folder. */
function ggufOf({ model, tag }: HubName, files: readonly string[]): string | undefined {
  const models = files.filter((file) => /^(?!.*(mmproj|imatrix))(?!(.*\/)?mtp-)(?!.*-(?!00001)\d{5}-of-\d{5}\.).*\.gguf$/i.test(file));
  const isFolder = !models.length || files.some((file) => /^model\.safetensors(\.index\.json)?$/.test(file));
  if (tag === undefined && isFolder) return undefined;
  // Each of them has the tag `gguf`.
  const wanted = (tag ?? 'gguf').replace(/-\d{5}(-of-\d{5}\.gguf)$/i, '-00001$1');
  const parts = (text: string) => `-${text.toLowerCase().replace(/[./]/g, '-')}-`;
  const found = models.includes(wanted) ? [wanted] : models.filter((file) => parts(file).includes(parts(wanted)));
  // A mixture of its maker's own has the mark in its tag.
  const plain = found.filter((file) => !parts(file).includes(`-ud${parts(wanted)}`));
  if (found.length === 1 || plain.length === 1) return plain[0] ?? found[0];
  const tags = models.map((file) => /([^-./]+)(-\d{5}-of-\d{5})?\.gguf$/i.exec(file)?.[1]);
  const named = [...new Set(tag !== undefined && found.length > 0 ? found : tags)].join(', ') || 'none is there';
  const count = `${found.length || 'no'} GGUF models${tag === undefined ? '' : ` of the tag \`${tag}\``}`;
  throw new SelvedgeError('not-found', `${model} has ${count}; name one as ${model}:TAG or ${model}:FILE.gguf: ${named}`);
}

/** Asks the hub which commit and which of its files a name means. Without a network, the stored ones. */
export async function hubOrigin(
  name: HubName,
  options: LoadOptions,
  store: ModelStore | undefined,
  came: (bytes: number) => void,
): Promise<Origin> {
  const { model, revision } = name;
  const hub = (options.hub ?? HUB).replace(/\/+$/, '');
  const headers: Record<string, string> = options.token ? { authorization: `Bearer ${options.token}` } : {};
  const { signal } = options;
  const [commit, path = ''] = await ask();
  const [folder, gguf] = [path.split('/').slice(0, -1), path.split('/').at(-1) || undefined];
  const base = [hub, model, 'resolve', ...[commit, ...folder].map(encodeURIComponent), ''].join('/');
  return new CommitOrigin(new HttpOrigin(base, { signal, headers, came }), commit, store, gguf);

  /** The commit, and the path of a GGUF file. */
  async function ask(): Promise<[commit: string, path?: string | undefined]> {
    const url = `${hub}/api/models/${model}/revision/${encodeURIComponent(revision)}`;
    let response: Response;
    try {
      response = await fetch(url, { headers, signal: signal ?? null });
    } catch (error) {
      signal?.throwIfAborted();
      if (store?.revision !== undefined) return [store.revision, store.gguf];
      throw new SelvedgeError('network', `${hub} cannot be reached (${error})`, { cause: error });
    }
    if (response.ok) {
      const { sha, siblings = [] } = (await response.json()) as { sha?: unknown; siblings?: { rfilename: string }[] };
      if (typeof sha === 'string') {
        const path = ggufOf(name, siblings.map(({ rfilename }) => rfilename));
        store?.setRevision(sha, path);
        return [sha, path];
      }
      throw new SelvedgeError('network', `${url}: the hub's answer has no \`sha\``);
    }
    if ([401, 403, 404].includes(response.status)) {
      const hint = options.token ? 'or the token has no access to it' : 'or it needs a `token`';
      throw new SelvedgeError('not-found', `there is no ${model} (revision ${revision}) on ${hub}, ${hint}`);
    }
    if (store?.revision !== undefined) return [store.revision, store.gguf];
    throw new SelvedgeError('network', `${url}: the hub answers ${response.status} ${response.statusText}`.trim());
  }
}

/** Files of a commit never change: the commit says more than what servers on the way say of them. */
class CommitOrigin implements Origin {
  constructor(
    readonly http: HttpOrigin,
    readonly commit: string,
    readonly store: ModelStore | undefined,
    readonly gguf: string | undefined,
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
