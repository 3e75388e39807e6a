// A project as one .zip: project.json, and beside it every picture (png) and code (npy) as a file of its own. The steps
// of all its drawings stand in steps.jsonl, each once, one a line; elsewhere the line's number, from 0, stands for a
// step.
import { base64Of, bytesOf, size } from './bytes.js';
import { MOST, unzip, zip } from './zip.js';

export const FORMAT = 'psp-studio';
export const VERSION = 2; // 1 had the steps in project.json, and is read as well
const KINDS = { png: ['pictures', 'png'], latent: ['codes', 'npy'] };

/** A project that `readArchive` would refuse: size and most in MB. */
export class TooLarge extends Error {
  constructor(bytes, most) {
    super('the project is too large for a file');
    Object.assign(this, { size: Math.round(bytes / 1e6), most: Math.round(most / 1e6) });
  }
}

/**
 * sections: plain records in which `png` and `latent` are base64. extra: [[name, bytes], ...] for other programs.
 * Throws TooLarge above `most` bytes.
 */
export async function writeArchive(sections, extra = [], most = MOST) {
  const files = new Map(); // content -> name
  const lines = new Map(); // step as text -> number
  const numberOf = (step) => {
    // strokes have many numbers and no pictures
    const line = JSON.stringify(step, step.kind === 'strokes' ? null : apart);
    if (!lines.has(line)) lines.set(line, lines.size);
    return lines.get(line);
  };
  function apart(key, value) {
    if (key === 'steps' && Array.isArray(value)) return value.map(numberOf);
    if (!(key in KINDS) || typeof value !== 'string') return value;
    const [folder, ending] = KINDS[key];
    if (!files.has(value)) files.set(value, `${folder}/${String(files.size + 1).padStart(4, '0')}.${ending}`);
    return { file: files.get(value) };
  }
  const text = JSON.stringify({ format: FORMAT, version: VERSION, sections }, apart);
  const utf8 = (words) => new TextEncoder().encode(words);
  const all = [
    ['project.json', utf8(text)],
    ['steps.jsonl', utf8([...lines.keys()].join('\n'))],
    ...extra,
    ...[...files].map(([content, name]) => [name, bytesOf(content)]),
  ];
  const bytes = size(all.map(([, content]) => content));
  if (bytes > most) throw new TooLarge(bytes, most);
  return zip(all);
}

/** The sections of an archive. Throws for what is no project. */
export async function readArchive(bytes) {
  const files = await unzip(bytes);
  const text = (name) => new TextDecoder().decode(files.get(name) ?? new Uint8Array());
  const steps = [];
  const whole = (key, value) => {
    if (key === 'steps' && Array.isArray(value))
      return value.map((one) => (typeof one === 'number' ? steps[one] : one));
    return key in KINDS && value?.file ? base64Of(files.get(value.file) ?? new Uint8Array()) : value;
  };
  for (const line of text('steps.jsonl').split('\n').filter(Boolean)) steps.push(JSON.parse(line, whole));
  return readProject(text('project.json'), whole).sections;
}

/** {sections, face} in the words of a project. Throws for other words. */
export function readProject(text, revive) {
  let project = null;
  try {
    project = JSON.parse(text, revive);
  } catch {
    /* said below */
  }
  if (project?.format !== FORMAT || project.version > VERSION || typeof project.sections !== 'object')
    throw new Error('no project');
  return project;
}
