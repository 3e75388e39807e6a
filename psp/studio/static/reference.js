// A photo to trace: it lies under the lines (over labels), is cut to the face by the server, and no network sees it.
import { $, fillSlider, pngUrl } from './dom.js';
import { facePhoto } from './importer.js';
import { Newest } from './newest.js';

export class Reference {
  /** kept(): it changed and should be remembered. */
  constructor(kept) {
    Object.assign(this, { kept, png: null, opacity: 0.45, newest: new Newest() });
    $('reference-choose').addEventListener('click', () => $('reference-file').click());
    $('reference-file').addEventListener('change', () => {
      this.take($('reference-file').files[0]);
      $('reference-file').value = '';
    });
    $('reference-remove').addEventListener('click', () => {
      this.restore();
      this.kept();
    });
    $('reference-opacity').addEventListener('input', () => {
      this.opacity = Number($('reference-opacity').value);
      this.show();
      this.kept();
    });
    this.show();
  }

  async take(file) {
    if (!file) return;
    const png = await facePhoto(file, this.newest.begin());
    if (!png) return;
    this.png = png;
    this.show();
    this.kept();
  }

  chosen() {
    return { png: this.png, opacity: this.opacity };
  }
  restore({ png = null, opacity = 0.45 } = {}) {
    this.newest.stop();
    Object.assign(this, { png, opacity });
    this.show();
  }

  show() {
    for (const image of document.querySelectorAll('.reference')) {
      image.hidden = !this.png;
      if (this.png) image.src = pngUrl(this.png);
      image.style.opacity = this.opacity;
    }
    $('reference-opacity').value = this.opacity;
    $('reference-opacity').disabled = $('reference-remove').disabled = !this.png;
    fillSlider($('reference-opacity'));
  }
}
