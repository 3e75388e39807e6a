// Menus and shelves: they lie over the page, so nothing moves when one opens, and one is open at a time.
const shelves = () => [...document.querySelectorAll('[aria-controls][aria-expanded]')];
const menus = () => [...document.querySelectorAll('details.menu')];

function show(button, open) {
  button.setAttribute('aria-expanded', open);
  document.getElementById(button.getAttribute('aria-controls')).hidden = !open;
}

/** The button or summary that opened what an element lies in; undefined outside. */
function openerOf(element) {
  const menu = menus().find((one) => one.open && one.contains(element));
  return (
    menu?.querySelector('summary') ??
    shelves().find((button) => document.getElementById(button.getAttribute('aria-controls')).contains(element))
  );
}

/** Close what is open, except the one that `target` lies in. */
export function closeAll(target = null) {
  for (const menu of menus()) if (!menu.contains(target)) menu.open = false;
  for (const button of shelves()) {
    const shelf = document.getElementById(button.getAttribute('aria-controls'));
    if (!button.contains(target) && !shelf.contains(target)) show(button, false);
  }
}

export function popups() {
  for (const button of shelves())
    button.addEventListener('click', () => show(button, button.getAttribute('aria-expanded') !== 'true'));
  addEventListener('pointerdown', (event) => closeAll(event.target));
  addEventListener('focusin', (event) => closeAll(event.target));
  addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    const opener = openerOf(document.activeElement);
    closeAll();
    opener?.focus();
  });
}
