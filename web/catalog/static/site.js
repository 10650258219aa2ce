// Three comforts that no page needs: a remembered theme, `/` for the search field, and buttons that copy.
(() => {
  "use strict";
  const root = document.documentElement;
  const known = ["light", "dark"];
  const stored = (() => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage may be switched off
    }
  })();
  if (known.includes(stored)) root.dataset.theme = stored;

  const isDark = () =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

  const setUpTheme = () => {
    const button = document.querySelector("[data-theme-toggle]");
    if (!button) return;
    const show = () => button.setAttribute("aria-pressed", String(isDark()));
    button.hidden = false;
    show();
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try {
        localStorage.setItem("theme", root.dataset.theme);
      } catch {
        // the choice then lasts for this page only
      }
      show();
    });
  };

  const setUpSearchKey = () => {
    const field = document.querySelector("[data-search]");
    if (!field) return;
    const hint = document.querySelector("[data-search-hint]");
    if (hint) hint.hidden = false;
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
      const target = event.target;
      if (target.isContentEditable || /^(input|textarea|select)$/i.test(target.tagName)) return;
      event.preventDefault();
      field.focus();
      field.select();
    });
  };

  const copyText = async (text) => {
    if (navigator.clipboard && isSecureContext) return navigator.clipboard.writeText(text);
    // Plain http on another machine has no clipboard API: select and copy the old way.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    const worked = document.execCommand("copy");
    area.remove();
    if (!worked) throw new Error("copying was refused");
    return undefined;
  };

  const setUpCopy = () => {
    const status = document.querySelector("[data-status]");
    for (const button of document.querySelectorAll("[data-copy]")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        const source = document.getElementById(button.dataset.copy);
        const label = button.textContent;
        try {
          await copyText(source.dataset.text ?? source.textContent);
          button.textContent = "Copied";
          button.classList.add("done");
        } catch {
          button.textContent = "Select it and copy by hand";
        }
        if (status) status.textContent = button.textContent;
        setTimeout(() => {
          button.textContent = label;
          button.classList.remove("done");
        }, 1600);
      });
    }
  };

  const setUpForms = () => {
    for (const select of document.querySelectorAll("select[data-submit]")) {
      select.addEventListener("change", () => select.form.requestSubmit());
    }
  };

  document.addEventListener("DOMContentLoaded", () => {
    setUpTheme();
    setUpSearchKey();
    setUpCopy();
    setUpForms();
  });
})();
