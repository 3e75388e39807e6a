// A project as one .zip: project.json, and beside it every picture (png) and code (npy) as a file of its own.
import { base64Of, bytesOf } from './bytes.js';
import { unzip, zip } from './zip.js';

export const FORMAT = 'psp-studio';
export const VERSION = 1;
const KINDS = { png: ['pictures', 'png'], latent: ['codes', 'npy'] };

/** sections: plain records in which `png` and `latent` are base64. extra: [[name, bytes], ...] for other programs. */
export async function writeArchive(sections, extra = []) {
  const files = new Map(); // content -> name
  const text = JSON.stringify({ format: FORMAT, version: VERSION, sections }, (key, value) => {
    if (!(key in KINDS) || typeof value !== 'string') return value;
    const [folder, ending] = KINDS[key];
    if (!files.has(value)) files.set(value, `${folder}/${String(files.size + 1).padStart(4, '0')}.${ending}`);
    return { file: files.get(value) };
  });
  return zip([['project.json', new TextEncoder().encode(text)], ...extra, ...[...files].map(([content, name]) => [name, bytesOf(content)])]);
}

/** The sections of an archive. Throws for what is no project. */
export async function readArchive(bytes) {
  const files = await unzip(bytes);
  const text = new TextDecoder().decode(files.get('project.json') ?? new Uint8Array());
  return readProject(text, (key, value) => (key in KINDS && value?.file ? base64Of(files.get(value.file) ?? new Uint8Array()) : value)).sections;
}

/** {sections, face} in the words of a project. Throws for other words. */
export function readProject(text, revive) {
  let project = null;
  try { project = JSON.parse(text, revive); } catch { /* said below */ }
  if (project?.format !== FORMAT || project.version > VERSION || typeof project.sections !== 'object') throw new Error('no project');
  return project;
}
