// Pictures from outside: opened, dropped, pasted or an example. The server tells what they are and cuts them to size.
import { ApiError, post } from './api.js';
import { $, busy, loadImage, make, pngUrl, toast } from './dom.js';
import { setExample } from './settings.js';
import { knows, t } from './words.js';

const READINGS = { sketch: ['photo', 'drawing'], labels: ['photo', 'map'] };
/** What the server says that it did, in this language where the sentence is known. */
const noted = (note) => (knows(`note.${note}`) ? t(`note.${note}`) : note);

export class Importer {
  /**
   * hooks: tab() -> kind; show(kind, image, base64): put a picture onto a canvas; project(file): opens it if it is
   * one, and says so; close(): the shelf.
   */
  constructor(about, hooks) {
    Object.assign(this, { about, hooks, file: null, order: 0 });
    $('open').addEventListener('click', () => $('file').click());
    $('file').addEventListener('change', () => { this.take($('file').files[0]); $('file').value = ''; });
    addEventListener('paste', (event) => {
      const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith('image/') || one.name.endsWith('.zip'));
      if (file) { event.preventDefault(); this.take(file); }
    });
    let depth = 0;
    const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes('Files');
    addEventListener('dragenter', (event) => { if (carries(event)) { depth += 1; $('drop-veil').hidden = false; } });
    addEventListener('dragleave', (event) => { if (carries(event)) { depth -= 1; if (depth <= 0) $('drop-veil').hidden = true; } });
    addEventListener('dragover', (event) => carries(event) && event.preventDefault());
    addEventListener('drop', (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      depth = 0;
      $('drop-veil').hidden = true;
      this.take(event.dataTransfer.files[0]);
    });
    const style = $('source-style').querySelector('select');
    style.append(...about.sketch_styles.map((name) => make('option', { value: name }, knows(`drawn.${name}`) ? t(`drawn.${name}`) : name)));
    style.value = about.sketch_styles.at(-1);
    for (const select of [style, $('source-reading').querySelector('select')]) {
      select.addEventListener('change', () => this.again());
    }
  }

  /** Thumbnails for the kind of input; clicking one opens it. */
  fillShelf(box, kind, most, choose = (example) => this.example(example)) {
    const found = this.about.examples.filter((example) => example.kind === kind);
    box.replaceChildren(...found.slice(0, most).map((example) => {
      const image = make('img', { src: example.url, alt: t('example', { name: example.name.replaceAll('_', ' ') }), loading: 'lazy' });
      const button = make('button', { type: 'button', title: example.name.replaceAll('_', ' ') }, image);
      button.addEventListener('click', () => choose(example));
      return button;
    }));
  }

  async example(example) {
    this.hooks.close();
    const order = (this.order += 1);
    busy('importer', true);
    try {
      const file = await fileOf(example);
      if (order === this.order) await this.take(file, { example: `${example.kind}/${example.name}` });
      else busy('importer', false);
    } catch {
      busy('importer', false);
      toast(t('example.gone'), { wrong: true });
    }
  }

  async named(name) {
    const example = this.about.examples.find((one) => `${one.kind}/${one.name}` === name);
    if (example) await this.example(example);
  }

  /** A file of any kind onto the canvas that suits it; a newer one takes its place. */
  async take(file, { example = '' } = {}) {
    if (!file) return;
    const order = (this.order += 1);
    if (await this.hooks.project(file)) return;
    if (file.size > this.about.limits.body - 100000) {
      toast(t('file.large', { name: file.name, size: Math.round(file.size / 1e6), most: Math.floor(this.about.limits.body / 1e6) }), { wrong: true });
      return;
    }
    const made = await this.ask('api/open', { image: file, prefer: this.hooks.tab() });
    if (!made || !await this.use(made, file, order)) return;
    setExample(example);
    if (made.sure) return;
    const other = READINGS[made.kind].find((name) => name !== made.read_as);
    toast(t('read.doubt', { name: file.name }), { action: [t(`read.${other}`), () => this.file === file && this.again(other)], seconds: 12 });
  }

  /** The same file, read in the way that the two menus say. */
  async again(reading = $('source-reading').querySelector('select').value) {
    const { file, kind } = this;
    const order = (this.order += 1);
    const style = $('source-style').querySelector('select').value;
    const values = { image: file, read_as: reading };
    if (kind === 'sketch') values.style = style;
    const made = await this.ask(`api/${kind}`, values);
    if (made && await this.use({ ...made, kind }, file, order)) setExample('');
  }

  async ask(path, values) {
    busy('importer', true);
    const slow = setTimeout(() => { this.dismiss = toast(t('file.reading'), { seconds: 60 }); }, 500);
    try {
      return await post(path, values);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, { wrong: true, seconds: 9 });
      return null;
    } finally {
      clearTimeout(slow);
      this.dismiss?.();
      setTimeout(() => busy('importer', false), 50); // by then the faces have been asked for
    }
  }

  /** False when something newer came meanwhile. */
  async use(made, file, order) {
    const image = await loadImage(pngUrl(made.png));
    if (order !== this.order) return false;
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
    $('source-words').replaceChildren(make('strong', {}, file.name), made.notes.length ? `: ${made.notes.map(noted).join(', ')}` : '');
    $('source').hidden = false;
    return true;
  }

  /** What stands below the canvas belongs to the picture on it: away with it when that is gone. */
  forget() {
    this.file = null;
    $('source').hidden = true;
    setExample('');
  }

  /** Another drawing or project is there: what was still on its way belongs to the one before. */
  stop() {
    this.order += 1;
    this.forget();
  }
}

export async function fileOf(example) {
  const blob = await (await fetch(example.url)).blob();
  return new File([blob], `${example.name}.${blob.type === 'image/png' ? 'png' : 'jpg'}`, { type: blob.type });
}
