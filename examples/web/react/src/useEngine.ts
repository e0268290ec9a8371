import { useEffect, useState } from 'react';
import type { EngineInterface, LoadProgress } from 'selvedge';
import { WorkerEngine } from 'selvedge/worker';

export interface EngineState {
  engine: EngineInterface | null;
  progress: LoadProgress | null;
  error: Error | null;
}

const NOTHING: EngineState = { engine: null, progress: null, error: null };

/** A model in a worker for as long as the component is there. StrictMode's second mount stops the first load. */
export function useEngine(model: string): EngineState {
  const [state, setState] = useState(NOTHING);
  useEffect(() => {
    const abort = new AbortController();
    let loaded: EngineInterface | null = null;
    setState(NOTHING);
    WorkerEngine.load(model, {
      signal: abort.signal,
      onProgress: (progress) => !abort.signal.aborted && setState((state) => ({ ...state, progress })),
    }).then(
      (engine) => {
        if (abort.signal.aborted) return void engine.dispose();
        loaded = engine;
        setState((state) => ({ ...state, engine }));
      },
      (error: Error) => !abort.signal.aborted && setState((state) => ({ ...state, error })),
    );
    return () => {
      abort.abort();
      void loaded?.dispose();
    };
  }, [model]);
  return state;
}
