/** What engines do without a model: they look into the browser's store. */

import type { StoredModel, StoredSession } from '../types.js';
import { listModels, removeModel } from './models.js';
import { listSessions, removeSession } from './sessions.js';
import { forgetStates } from './states.js';

export class StoreStatics {
  /** Models in the browser's store; empty where there is no store. */
  static models(): Promise<StoredModel[]> {
    return listModels();
  }

  /** Removes a model from the browser's store; false when it was not there. */
  static remove(name: string): Promise<boolean> {
    return removeModel(name);
  }

  /** Conversations in the browser's store, the one changed last first. */
  static sessions(): Promise<StoredSession[]> {
    return listSessions();
  }

  /** Removes a conversation from the browser's store; false when it was not there. */
  static removeSession(id: string): Promise<boolean> {
    return removeSession(id);
  }

  /** Removes what is remembered of all conversations from the browser's store. */
  static forget(): Promise<void> {
    return forgetStates();
  }
}
