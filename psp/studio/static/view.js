// The part of a sheet that is seen: zoomed and moved by wheel, two fingers, middle button, space bar or keys.
const MOST = 8;
const TYPED = 'input:not([type="range"]), select, textarea, dialog'; // where the space bar means something else

/** How far a sheet of `side` pixels may be moved at this zoom: it always covers its frame. */
export const within = (shift, zoom, side) => Math.min(0, Math.max(side * (1 - zoom), shift));

export class View {
  /** sheet: the frame; changed(): after another zoom, so that lines can be drawn as sharp as it needs. */
  constructor(sheet, changed) {
    Object.assign(this, {
      sheet,
      changed,
      paper: sheet.querySelector('.paper'),
      badge: sheet.querySelector('.zoom'),
      zoom: 1,
      x: 0,
      y: 0,
      grabbed: null,
      held: false,
      byHand: false,
    });
    sheet.addEventListener('wheel', (event) => this.wheel(event), { passive: false });
    this.badge.addEventListener('click', () => this.reset());
    addEventListener(
      'pointerdown',
      () => {
        this.byHand = true;
      },
      true,
    );
    addEventListener('keydown', (event) => {
      if (event.key === 'Tab') this.byHand = false;
      if (event.key !== ' ' || this.held || !sheet.matches(':hover') || event.target.closest(TYPED)) return;
      // it was reached by keys, and is to be pressed
      if (event.target.closest('button, summary') && !this.byHand) return;
      const canvas = event.target.closest('canvas');
      if (canvas && !canvas.classList.contains('pointed')) return; // the keyboard's pen
      event.preventDefault();
      this.hold(true);
    });
    addEventListener('keydown', (event) => this.held && event.key === ' ' && event.preventDefault());
    addEventListener('keyup', (event) => {
      if (event.key !== ' ') return;
      if (this.held) event.preventDefault(); // buttons are pressed when it comes up
      this.hold(false);
    });
    addEventListener('blur', () => this.hold(false));
    addEventListener('resize', () => this.place(this.zoom, this.x, this.y));
  }

  hold(on) {
    this.held = on;
    this.sheet.classList.toggle('movable', on);
  }

  wheel(event) {
    const { left, top } = this.sheet.getBoundingClientRect();
    if (event.shiftKey || (event.deltaX && Math.abs(event.deltaX) > Math.abs(event.deltaY))) {
      if (this.zoom > 1) {
        event.preventDefault();
        this.place(this.zoom, this.x - event.deltaX, this.y - (event.shiftKey ? 0 : event.deltaY));
      }
      return;
    }
    if (this.zoom === 1 && (event.deltaY >= 0 || (scrollY > 0 && !event.ctrlKey))) return; // the page scrolls
    event.preventDefault();
    const far = event.deltaY * (event.deltaMode === 1 ? 33 : 1); // some browsers count lines
    this.around(
      event.clientX - left,
      event.clientY - top,
      this.zoom * Math.exp(-far * (event.ctrlKey ? 0.01 : 0.0015)),
    );
  }

  by(factor) {
    const half = this.sheet.clientWidth / 2;
    this.around(half, half, this.zoom * factor);
  }

  /** Another zoom; the point x, y of the frame stays where it is. */
  around(x, y, zoom) {
    const next = Math.min(MOST, Math.max(1, zoom));
    this.place(next, x - ((x - this.x) * next) / this.zoom, y - ((y - this.y) * next) / this.zoom);
  }

  reset() {
    this.place(1, 0, 0);
  }

  place(zoom, x, y) {
    const side = this.sheet.clientWidth;
    if (!side) return; // another sheet is there
    const before = this.zoom;
    Object.assign(this, { zoom, x: within(x, zoom, side), y: within(y, zoom, side) });
    this.paper.style.transform = zoom === 1 ? '' : `translate(${this.x}px, ${this.y}px) scale(${zoom})`;
    this.badge.hidden = zoom === 1;
    this.badge.textContent = `${Math.round(zoom * 100)} %`;
    if (zoom !== before) this.changed();
  }

  // One pointer moves, two pinch.
  grab(pointers) {
    this.grabbed = { ...spot(pointers), zoom: this.zoom, shift: [this.x, this.y] };
  }
  release() {
    this.grabbed = null;
  }

  drag(pointers) {
    const from = this.grabbed;
    const now = spot(pointers);
    if (pointers.length !== from.count) {
      this.grab(pointers);
      return;
    }
    const { left, top } = this.sheet.getBoundingClientRect();
    const zoom = Math.min(MOST, Math.max(1, from.zoom * (from.apart ? now.apart / from.apart : 1)));
    const place = (start, end, shift) => end - ((start - shift) * zoom) / from.zoom;
    this.place(
      zoom,
      place(from.x - left, now.x - left, from.shift[0]),
      place(from.y - top, now.y - top, from.shift[1]),
    );
  }
}

function spot(pointers) {
  const [a, b] = [pointers[0], pointers.at(-1)];
  return {
    count: pointers.length,
    x: (a.clientX + b.clientX) / 2,
    y: (a.clientY + b.clientY) / 2,
    apart: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY),
  };
}
