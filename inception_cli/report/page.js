"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  // A photo is [path, class indices, scores, label indices, URL, label]; `data.classes` has the class names by index. The
  // label is that of the decision, "" without one.
  const photo = (card) => data.photos[card.dataset.photo];
  const percent = (score) => (100 * score).toFixed(1) + " %";

  // Filter the gallery: every search word occurs in path or class, the score is high enough, only mistakes if checked.
  const gallery = document.getElementById("gallery");
  const controls = gallery && gallery.querySelector(".controls");
  if (controls) {
    const [search, slider, mistakes] = ["search", "min-confidence", "only-mistakes"].map((name) => document.getElementById(name));
    const shown = controls.querySelector("output");
    const groups = [...gallery.querySelectorAll(".group")].map((group) => [group, [...group.querySelectorAll(".card")]]);
    const text = Object.fromEntries(Object.entries(data.photos).map(([number, [path, classes, , labels, , label]]) =>
      [number, [path, label, ...[classes[0], ...labels].map((index) => data.classes[index])].join("\n").toLowerCase()]));
    const filter = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0, all = 0;
      for (const [group, cards] of groups) {
        let here = 0;
        for (const card of cards) {
          const hit = photo(card)[2][0] >= slider.value / 100 && words.every((word) => text[card.dataset.photo].includes(word))
            && !(mistakes && mistakes.checked && !card.classList.contains("wrong"));
          card.hidden = !hit;
          here += hit;
        }
        group.hidden = !here;
        count += here;
        all += cards.length;
      }
      document.getElementById("min-confidence-value").textContent = slider.value + " %";
      shown.textContent = count === all ? `${all.toLocaleString("en")} photos` : `${count.toLocaleString("en")} of ${all.toLocaleString("en")} photos`;
      gallery.querySelector(".empty").hidden = count > 0;
    };
    for (const control of [search, slider, mistakes]) if (control) control.addEventListener("input", filter);
    addEventListener("hashchange", () => {  // a link to a class that the filter hides resets the filter
      const group = document.getElementById(location.hash.slice(1));
      if (!group || !group.hidden) return;
      search.value = "";
      slider.value = 0;
      if (mistakes) mistakes.checked = false;
      filter();
      group.scrollIntoView();
    });
    controls.hidden = false;
    filter();
  }

  // Sort tables by a column: by number where it has numbers, empty cells always last.
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0], headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      heading.querySelector("button").addEventListener("click", () => {
        const number = heading.classList.contains("n");
        const down = heading.ariaSort === "descending" ? false : heading.ariaSort === "ascending" ? true : number;
        const key = (row) => number ? parseFloat(row.cells[column].dataset.value) : row.cells[column].textContent;
        const compare = (one, other) => {
          const [a, b] = [key(one), key(other)];
          if (!number) return (down ? -1 : 1) * a.localeCompare(b);
          if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b);
          return down ? b - a : a - b;
        };
        body.append(...[...body.rows].sort(compare));
        for (const each of headings) each.ariaSort = each === heading ? (down ? "descending" : "ascending") : "none";
      });
    });
  }

  // Show one photo enlarged with its top classes; arrow keys move within its section.
  const viewer = document.getElementById("viewer");
  const svg = "http://www.w3.org/2000/svg";
  let current = null;
  const bar = (score) => {
    const picture = document.createElementNS(svg, "svg"), rect = document.createElementNS(svg, "rect");
    picture.setAttribute("class", "bar");
    rect.setAttribute("width", 100 * score + "%");
    rect.setAttribute("height", "100%");
    picture.append(rect);
    return picture;
  };
  const beside = (card) => [...card.closest("main > section").querySelectorAll(".card:not([hidden])")];
  const show = (card) => {
    current = card;
    const [path, classes, scores, labels, url] = photo(card), image = viewer.querySelector("img"), from = card.querySelector("img");
    image.hidden = !from;
    viewer.querySelector(".none").hidden = Boolean(from);
    if (from) image.src = from.src;
    const cards = beside(card), place = `${(cards.indexOf(card) + 1).toLocaleString("en")} of ${cards.length.toLocaleString("en")}`;
    viewer.querySelector(".eyebrow").textContent = place + (card.classList.contains("wrong") ? ", a mistake" : "");
    viewer.querySelector(".path").textContent = path;
    viewer.querySelector(".open").hidden = !url;
    viewer.querySelector(".open a").href = url;
    viewer.querySelector(".scores").replaceChildren(...classes.map((index, place) => {
      const item = document.createElement("li"), name = document.createElement("span"), score = document.createElement("span");
      name.textContent = data.classes[index];
      score.textContent = percent(scores[place]);
      item.className = labels.includes(index) ? "correct" : "";
      item.append(name, score, bar(scores[place]));
      return item;
    }));
    viewer.querySelector(".labels").textContent = labels.length ? "Labelled: " + labels.map((index) => data.classes[index]).join(", ") : "";
    if (!viewer.open) viewer.showModal();
  };
  const step = (by) => {
    const cards = beside(current);
    show(cards[(cards.indexOf(current) + by + cards.length) % cards.length]);
  };
  document.addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (card) show(card);
  });
  viewer.addEventListener("click", (event) => {
    const by = event.target.dataset.step;
    if (event.target === viewer || by === "0") viewer.close();
    else if (by) step(Number(by));
  });
  viewer.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) step(by);
  });
  viewer.addEventListener("close", () => current.focus());
})();
