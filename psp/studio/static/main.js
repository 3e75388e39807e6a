// The page: its parts are made here, and told of each other.
import { get } from './api.js';
import { Between } from './between.js';
import { blobOf } from './bytes.js';
import { chooseKind, drawn, modelChanged, showPhoto, showPicture } from './canvases.js';
import { Controls } from './controls.js';
import { $, busy, toast } from './dom.js';
import { recipe } from './export.js';
import { allFaces, lock, selected, settingsChanged, show, showBetween, waiting } from './faces.js';
import { Hints } from './hints.js';
import { Importer } from './importer.js';
import { follow, opened, opening, restore } from './keeping.js';
import { wire } from './keys.js';
import { LabelPad } from './labelpad.js';
import { Maker } from './maker.js';
import { Models } from './models.js';
import { origin, page } from './page.js';
import { fillParts } from './parts.js';
import { closeAll, popups } from './popups.js';
import { Project } from './project.js';
import { Reference } from './reference.js';
import { Results, peek } from './results.js';
import { saving } from './saving.js';
import { DEFAULTS, change, onChange, readAddress, settings } from './settings.js';
import { drawings, pictureSections, sectionsOf } from './sections.js';
import { SketchPad } from './sketchpad.js';
import { Strip } from './strip.js';
import { Tools, palette } from './tools.js';
import { loadWords, t } from './words.js';

const { state, pads, tools, strips } = page;

page.models = new Models({
  changed: () => modelChanged(),
  failed: (model, before) => {
    toast(t('model.failed', { name: model.title, error: model.error }), { wrong: true, seconds: 15 });
    const other = before && before.state !== 'failed' ? before : page.models.all.find((one) => one.state !== 'failed');
    if (other) change({ model: other.id });
  },
});
page.maker = new Maker({
  source: async () => {
    const from = origin();
    if (state.locked) return { from, latent: blobOf(state.locked.latent, 'application/octet-stream') };
    if (state.kind === 'photo') return state.photo && { from, image: blobOf(state.photo, 'image/png') };
    return pads[state.kind].empty ? null : { from, image: await pads[state.kind].blob() };
  },
  model: () => page.models.current,
  replaced: () => Boolean(page.between.running),
  stylePhoto: () => page.controls.png && blobOf(page.controls.png, 'image/png'),
  asked: () => page.between.stop(),
  made: show,
  busy: waiting,
});

async function start() {
  try {
    await loadWords();
    const about = await get('api/about');
    DEFAULTS.style = settings.style = about.first_look;
    const wanted = readAddress();
    await page.models.start(wanted.model);
    begin(about);
    busy('start', true);
    await page.project.restore();
    await follow(wanted);
    busy('start', false);
  } catch (error) {
    toast(error.message, { wrong: true, seconds: 600 });
    throw error;
  }
}

function begin(about) {
  const { models } = page;
  const keep = (name, how) => page.project?.keep(name, how);
  settings.model = models.chosen;
  page.results = new Results({ select: selected, chosen: () => keep('faces', { loud: false }) });
  page.between = new Between({ show: showBetween, kept: () => keep('faces'), selected: () => page.results.selected });
  page.hints = new Hints();
  const hooks = (kind) => ({
    change: (how) => drawn(kind, how),
    state: () => tools[kind]?.refresh(),
    cursor: (...rest) => tools[kind]?.cursor(...rest),
    tool: (name) => tools[kind].choose(name),
  });
  pads.sketch = new SketchPad($('sketch'), hooks('sketch'));
  pads.labels = new LabelPad($('labels'), about.labels, hooks('labels'));
  for (const kind of ['sketch', 'labels']) {
    tools[kind] = new Tools(kind, pads[kind], () => keep('settings', { loud: false }));
    tools[kind].refresh();
  }
  palette(about.labels, pads.labels);
  for (const name of ['favourites', 'earlier']) {
    const most = name === 'favourites' ? { most: Infinity, bytes: Infinity } : {};
    strips[name] = new Strip(name, { restore, keep: (key, entry) => page.project.keepEntry(key, entry) }, most);
  }
  page.reference = new Reference(() => keep('pictures'));
  page.importer = new Importer(about, {
    tab: () => state.kind,
    show: showPicture,
    project: (file) => page.project.open(file),
    close: closeAll,
  });
  page.controls = new Controls({ model: () => models.current, importer: page.importer, kept: () => keep('pictures') });
  const sections = sectionsOf(page, { lock, showPhoto });
  page.project = new Project(sections, strips, { opened, opening, extra: () => drawings(pads) });
  fillParts($('parts'), (strokes) => {
    closeAll();
    if (state.kind !== 'sketch') chooseKind('sketch');
    pads.sketch.add(strokes);
  });
  const shown = () => state.shown ?? origin();
  saving({
    item: () => page.results.selected,
    sections: () => pictureSections(shown(), sections),
    settings: () => recipe(page.results.selected, shown().settings, models.find(shown().settings.model)?.truncation),
    all: allFaces,
    between: page.between,
  });
  $('enhance-card').hidden = !about.enhancer;
  $('enhance-name').textContent = t('enhance', { name: about.enhancer });
  $('about-line').textContent = t('about', { version: about.version, device: about.device });
  onChange(settingsChanged);
  wire();
  popups();
  peek(page.results);
}

start();
