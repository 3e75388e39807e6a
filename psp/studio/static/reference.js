// A photo to trace: it lies under the lines (over labels), is cut to the face by the server, and no network sees it.
import { ApiError, post } from './api.js';
import { $, busy, fillSlider, pngUrl, toast } from './dom.js';

export class Reference {
  /** kept(): it changed and should be remembered. */
  constructor(kept) {
    Object.assign(this, { kept, png: null, opacity: 0.45, order: 0 });
    $('reference-choose').addEventListener('click', () => $('reference-file').click());
    $('reference-file').addEventListener('change', () => { this.take($('reference-file').files[0]); $('reference-file').value = ''; });
    $('reference-remove').addEventListener('click', () => { this.restore(); this.kept(); });
    $('reference-opacity').addEventListener('input', () => { this.opacity = Number($('reference-opacity').value); this.show(); this.kept(); });
    this.show();
  }

  async take(file) {
    if (!file) return;
    const order = (this.order += 1);
    busy('reference', true);
    try {
      const { png } = await post('api/photo', { image: file });
      if (order !== this.order) return; // another photo or project came meanwhile
      this.png = png;
      this.show();
      this.kept();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, { wrong: true });
    } finally {
      busy('reference', false);
    }
  }

  chosen() { return { png: this.png, opacity: this.opacity }; }
  restore({ png = null, opacity = 0.45 } = {}) {
    Object.assign(this, { png, opacity, order: this.order + 1 });
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
