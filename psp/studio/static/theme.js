// Runs before the first paint: the chosen theme, or the system's when none was chosen.
(() => {
  const root = document.documentElement;
  const stored = () => { try { return localStorage.getItem('studio-theme'); } catch { return null; } };
  if (stored()) root.dataset.theme = stored();
  addEventListener('DOMContentLoaded', () => {
    document.getElementById('theme').addEventListener('click', () => {
      const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
      root.dataset.theme = dark ? 'light' : 'dark';
      try { localStorage.setItem('studio-theme', root.dataset.theme); } catch { /* private window */ }
    });
  });
})();
