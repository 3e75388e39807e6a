// Runs before the first paint: the chosen theme, or the system's when none was chosen.
(() => {
  const { dataset } = document.documentElement;
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const stored = () => {
    try {
      return localStorage.getItem('studio-theme');
    } catch {
      return null;
    }
  };
  const show = () => {
    dataset.theme = stored() ?? (dark.matches ? 'dark' : 'light');
  };
  show();
  dark.addEventListener('change', show);
  addEventListener('DOMContentLoaded', () => {
    document.getElementById('theme').addEventListener('click', () => {
      dataset.theme = dataset.theme === 'dark' ? 'light' : 'dark';
      try {
        localStorage.setItem('studio-theme', dataset.theme);
      } catch {
        /* private window */
      }
    });
  });
})();
