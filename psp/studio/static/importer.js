// Pictures from outside: opened, dropped, pasted or an example. The server tells what they are and cuts them to size.
import { post } from './api.js';
import { $, loadImage, make, pngUrl, toast, working } from './dom.js';
import { ApiError } from './errors.js';
import { Newest } from './newest.js';
import { setExample, shownExample } from './settings.js';
import { knows, t } from './words.js';

const READINGS = { sketch: ['photo', 'drawing'], labels: ['photo', 'map'] };
/** What the server says that it did, in this language where the sentence is known; a number in it may be any. */
function noted(note) {
  const any = note.replace(/\d+/, '{n}');
  return knows(`note.${any}`) ? t(`note.${any}`, { n: note.match(/\d+/)?.[0] }) : note;
}

export class Importer {
  /**
   * hooks: tab() -> kind; show(kind, image, base64): put a picture onto a canvas; project(file): opens it if it is
   * one, and says so; close(): the shelf.
   */
  constructor(about, hooks) {
    Object.assign(this, { about, hooks, file: null, newest: new Newest() });
    $('open').addEventListener('click', () => $('file').click());
    $('file').addEventListener('change', () => {
      this.take($('file').files[0]);
      $('file').value = '';
    });
    addEventListener('paste', (event) => {
      const file = [...(event.clipboardData?.files ?? [])].find(
        (one) => one.type.startsWith('image/') || one.name.endsWith('.zip'),
      );
      if (file) {
        event.preventDefault();
        this.take(file);
      }
    });
    let depth = 0;
    let ours = false; // a picture of this page, which browsers offer as a file too
    addEventListener('dragstart', () => {
      ours = true;
    });
    addEventListener('dragend', () => {
      ours = false;
    });
    const carries = (event) => !ours && [...(event.dataTransfer?.types ?? [])].includes('Files');
    addEventListener('dragenter', (event) => {
      if (carries(event)) {
        depth += 1;
        $('drop-veil').hidden = false;
      }
    });
    addEventListener('dragleave', (event) => {
      if (carries(event)) {
        depth -= 1;
        if (depth <= 0) $('drop-veil').hidden = true;
      }
    });
    addEventListener('dragover', (event) => carries(event) && event.preventDefault());
    addEventListener('drop', (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      depth = 0;
      $('drop-veil').hidden = true;
      this.take(event.dataTransfer.files[0]);
    });
    const style = $('source-style').querySelector('select');
    style.append(
      ...about.sketch_styles.map((name) =>
        make('option', { value: name }, knows(`drawn.${name}`) ? t(`drawn.${name}`) : name),
      ),
    );
    style.value = about.sketch_styles.at(-1);
    for (const select of [style, $('source-reading').querySelector('select')]) {
      select.addEventListener('change', () => this.again());
    }
  }

  /** Thumbnails for the kind of input; clicking one opens it. */
  fillShelf(box, kind, most, choose = (example) => this.example(example)) {
    const found = this.about.examples.filter((example) => example.kind === kind);
    box.replaceChildren(
      ...found.slice(0, most).map((example) => {
        const image = make('img', {
          src: example.url,
          alt: t('example', { name: example.name.replaceAll('_', ' ') }),
          loading: 'lazy',
        });
        const button = make('button', { type: 'button', title: example.name.replaceAll('_', ' ') }, image);
        button.addEventListener('click', () => choose(example));
        return button;
      }),
    );
  }

  async example(example) {
    this.hooks.close();
    const isNewest = this.newest.begin();
    const file = await said(working(() => fileOf(example)));
    if (file && isNewest()) await this.take(file, { example: `${example.kind}/${example.name}` });
  }

  async named(name) {
    const example = this.about.examples.find((one) => `${one.kind}/${one.name}` === name);
    if (example) await this.example(example);
  }

  /** A file of any kind onto the canvas that suits it; a newer one takes its place. */
  async take(file, { example = '' } = {}) {
    if (!file) return;
    const isNewest = this.newest.begin();
    if (await this.hooks.project(file)) return;
    if (file.size > this.about.limits.body - 100000) {
      toast(
        t('file.large', {
          name: file.name,
          size: Math.round(file.size / 1e6),
          most: Math.floor(this.about.limits.body / 1e6),
        }),
        { wrong: true },
      );
      return;
    }
    const made = await this.ask('api/open', { image: file, prefer: this.hooks.tab() });
    if (!made || !(await this.use(made, file, isNewest))) return;
    setExample(example);
    if (made.sure) return;
    const other = READINGS[made.kind].find((name) => name !== made.read_as);
    toast(t('read.doubt', { name: file.name }), {
      action: [t(`read.${other}`), () => this.file === file && this.again(other)],
      seconds: 12,
    });
  }

  /** The same file, read in the way that the two menus say. */
  async again(reading = $('source-reading').querySelector('select').value) {
    const { file, kind } = this;
    const isNewest = this.newest.begin();
    const style = $('source-style').querySelector('select').value;
    const values = { image: file, read_as: reading };
    if (kind === 'sketch') values.style = style;
    const made = await this.ask(`api/${kind}`, values);
    if (made && (await this.use({ ...made, kind }, file, isNewest))) setExample('');
  }

  ask(path, values) {
    return said(working(() => post(path, values), t('file.reading')));
  }

  /** False when something newer came meanwhile. */
  async use(made, file, isNewest) {
    const image = await loadImage(pngUrl(made.png));
    if (!isNewest()) return false;
    this.hooks.show(made.kind, image, made.png);
    Object.assign(this, { file, kind: made.kind });
    const readings = READINGS[made.kind] ?? [];
    const select = $('source-reading').querySelector('select');
    const photos = made.kind === 'labels' ? this.about.parser : this.about.sketch_styles.length;
    const offered = photos ? readings : readings.filter((name) => name !== 'photo');
    select.replaceChildren(...offered.map((name) => make('option', { value: name }, t(`read.${name}`))));
    select.value = made.read_as;
    $('source-reading').hidden = offered.length < 2;
    $('source-style').hidden = made.kind !== 'sketch' || made.read_as !== 'photo';
    $('source-words').replaceChildren(
      make('strong', {}, file.name),
      made.notes.length ? `: ${made.notes.map(noted).join(', ')}` : '',
    );
    $('source').hidden = false;
    return true;
  }

  /** What stands below the canvas belongs to the picture on it: away with it when that is gone. */
  forget() {
    this.file = null;
    $('source').hidden = true;
    if (shownExample()) setExample('');
  }

  /** Another drawing or project is there: what was still on its way belongs to the one before. */
  stop() {
    this.newest.stop();
    this.forget();
  }
}

/** What is waited for, or null, and why in words, where that is refused. */
async function said(promise) {
  try {
    return await promise;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast(error.message, { wrong: true, seconds: 9 });
    return null;
  }
}

export async function fileOf(example) {
  let blob;
  try {
    blob = await (await fetch(example.url)).blob();
  } catch {
    throw new ApiError(t('example.gone'), 0);
  }
  return new File([blob], `${example.name}.${blob.type === 'image/png' ? 'png' : 'jpg'}`, { type: blob.type });
}

/**
 * The face in a photo, cut out, base64; null where there is none, or something newer came. file: or a promise of one.
 */
export async function facePhoto(file, isNewest) {
  const answer = await said(working(async () => post('api/photo', { image: await file })));
  if (!answer || !isNewest()) return null;
  if (answer.notes.some((note) => note.startsWith('no face'))) toast(t('style.no-face', { name: (await file).name }));
  return answer.png;
}
