// In place of requests to a server: the same questions, answered by the models in this browser (worker.js).
import { bytesOf } from './bytes.js';
import { t } from './words.js';

export class ApiError extends Error {
  constructor(message, status, retryAfter = 0) {
    super(message);
    Object.assign(this, { status, retryAfter });
  }
}

export const session = 'browser';
const waiting = new Map();
let about;
let models;
let device = 'WebAssembly';
let worker;
let count = 0;

function ask(what, values, signal) {
  if (!worker) {
    worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module' });
    worker.addEventListener('message', ({ data }) => waiting.get(data.id)?.(data));
    worker.addEventListener('error', (event) => {
      for (const answer of waiting.values()) answer({ error: event.message || 'The models could not be started.', status: 500 });
    });
  }
  const id = (count += 1);
  return new Promise((resolve, reject) => {
    signal?.addEventListener('abort', () => {
      if (!waiting.delete(id)) return;
      worker.postMessage({ cancel: id });
      reject(new DOMException('a newer request took its place', 'AbortError'));
    });
    waiting.set(id, (answer) => {
      waiting.delete(id);
      if (answer.error) reject(new ApiError(answer.error, answer.status));
      else resolve(answer);
    });
    worker.postMessage({ id, what, ...values });
  });
}

async function file(name) {
  try {
    return await (await fetch(name)).json();
  } catch {
    throw new ApiError(t('gone'), 0);
  }
}

async function known(id) {
  await get('api/models');
  return models.find((model) => model.id === id) ?? models[0];
}

async function load(model) {
  if (model.state !== 'cold' && model.state !== 'failed') return;
  Object.assign(model, { state: 'loading', since: performance.now(), error: undefined });
  try {
    const { result } = await ask('load', { model });
    device = `WebAssembly × ${result.threads}`;
    model.state = 'ready';
  } catch (error) {
    Object.assign(model, { state: 'failed', error: error.message });
  }
}

const shown = (model) => ({ ...model, loading_for: model.state === 'loading' ? (performance.now() - model.since) / 1000 : undefined });

export async function get(path) {
  if (typeof WebAssembly !== 'object') throw new ApiError('This browser has no WebAssembly, which the models need.', 0);
  about ??= await file('about.json');
  models ??= (await file('models.json')).map((model) => ({ ...model, state: 'cold', colours: about.labels.map(({ colour }) => colour) }));
  if (path === 'api/about') return { ...about, device };
  return { models: models.map(shown), default: models[0].id, device };
}

export async function post(path, values, signal) {
  const model = await known(values.model);
  const kind = path.slice('api/'.length);
  if (kind === 'load') { load(model); return shown(model); }
  if (kind === 'generate' || kind === 'interpolate') {
    const given = kind === 'generate' ? values : { a: code(values.a), b: code(values.b), at: String(values.t).split(',').map(Number) };
    const { result, seconds } = await ask(kind, { ...given, model }, signal);
    Object.assign(model, { state: 'ready' });
    return { model: model.id, device, seconds: { waiting: 0, loading: 0, network: seconds }, pictures: result };
  }
  const { result } = await ask('prepare', { kind, image: values.image, prefer: values.prefer, colours: model.colours }, signal);
  return { size: 256, sure: true, ...result };
}

const code = (base64) => new Blob([bytesOf(base64)]);
